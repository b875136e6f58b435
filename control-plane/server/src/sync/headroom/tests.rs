use super::*;
use crate::snapshot::tests::{mesh, policies};
use kilocard_registry::worker::Telemetry;
use serde_json::json;
use std::sync::Arc;

/// The worker `a` on its card of 80 GiB, reporting this much memory, with a policy that makes it a condition.
fn reporting(total: u64, free: u64, sequence: u64) -> Mesh {
    let mut mesh = mesh();
    let routing = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "versions": [{"version": "v1", "weight": 100}]},
    });
    let admission = json!({
        "api_version": "kilocard/v1", "kind": "AdmissionPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "memory": {"bytes_per_request": 1, "watermark_percent": 10, "stale_ms": 1000}},
    });
    mesh.policies = policies(&[routing, admission]);
    let workers = Arc::make_mut(&mut mesh.workers);
    workers.retain(|id, _| id == "a");
    for worker in workers.values_mut() {
        Arc::make_mut(worker).telemetry = Some(Telemetry {
            memory_total_bytes: total,
            memory_free_bytes: free,
            sequence,
            ..Telemetry::default()
        });
    }
    mesh
}

fn of(arrivals: &Arrivals, mesh: &Mesh, now: Duration) -> VersionMemory {
    arrivals
        .headroom(mesh, now)
        .into_iter()
        .find(|version| version.route == "minilm/v1")
        .unwrap()
}

#[test]
fn what_is_free_is_told_without_what_the_policy_keeps_back() {
    let (mut arrivals, mesh) = (Arrivals::default(), reporting(1000, 400, 1));
    arrivals.note(&mesh, Duration::from_secs(5));
    let found = of(&arrivals, &mesh, Duration::from_millis(5300));
    assert_eq!(
        (found.capacity_bytes, found.free_bytes, found.largest_free_bytes),
        (900, 300, 300)
    );
    assert_eq!((found.age_ms, found.endpoints), (300, 1));
}

#[test]
fn a_report_that_is_only_written_again_grows_old_and_then_counts_for_nothing() {
    let (mut arrivals, mesh) = (Arrivals::default(), reporting(1000, 400, 1));
    arrivals.note(&mesh, Duration::from_secs(5));
    arrivals.note(&mesh, Duration::from_secs(6));
    assert_eq!(of(&arrivals, &mesh, Duration::from_millis(6001)).capacity_bytes, 0);
    let mesh = reporting(1000, 400, 2);
    arrivals.note(&mesh, Duration::from_secs(6));
    assert_eq!(of(&arrivals, &mesh, Duration::from_millis(6001)).capacity_bytes, 900);
}

#[test]
fn a_worker_has_no_more_than_its_card() {
    let (mut arrivals, mesh) = (Arrivals::default(), reporting(u64::MAX, u64::MAX, 1));
    arrivals.note(&mesh, Duration::ZERO);
    let card = 80 << 30;
    let found = of(&arrivals, &mesh, Duration::ZERO);
    assert_eq!(
        (found.capacity_bytes, found.free_bytes),
        (card - card / 10, card - card / 10)
    );
}

#[test]
fn a_worker_of_which_no_card_is_known_has_at_most_the_largest_card() {
    for is_known in [false, true] {
        let mut mesh = reporting(u64::MAX, u64::MAX, 1);
        for worker in Arc::make_mut(&mut mesh.workers).values_mut() {
            let worker = Arc::make_mut(worker);
            worker.device = worker.device.take().filter(|_| is_known);
        }
        // That it names one says nothing while the inventory has no such card.
        mesh.devices = Arc::default();
        let mut arrivals = Arrivals::default();
        arrivals.note(&mesh, Duration::ZERO);
        let found = of(&arrivals, &mesh, Duration::ZERO);
        let most = 1_u64 << 40;
        assert_eq!(found.capacity_bytes, most - most / 10);
        assert_eq!(found.largest_free_bytes, most - most / 10);
    }
}

#[test]
fn a_version_whose_reports_are_all_too_old_has_no_endpoints_and_is_told_all_the_same() {
    let (mut arrivals, mesh) = (Arrivals::default(), reporting(1000, 400, 1));
    arrivals.note(&mesh, Duration::ZERO);
    let found = of(&arrivals, &mesh, Duration::from_millis(1001));
    let untold = VersionMemory {
        route: "minilm/v1".to_owned(),
        ..VersionMemory::default()
    };
    assert_eq!(found, untold);
}

#[test]
fn a_worker_that_cannot_tell_what_its_card_has_is_no_endpoint() {
    let mut mesh = reporting(0, 400, 1);
    let mut arrivals = Arrivals::default();
    arrivals.note(&mesh, Duration::ZERO);
    let found = of(&arrivals, &mesh, Duration::from_millis(900));
    assert_eq!((found.capacity_bytes, found.endpoints, found.age_ms), (0, 0, 0));
    // Nor does it make the reports of others older.
    let other = reporting(1000, 400, 1).workers.values().next().cloned().unwrap();
    Arc::make_mut(&mut mesh.workers).insert("other".to_owned(), other);
    arrivals.note(&mesh, Duration::from_millis(500));
    let found = of(&arrivals, &mesh, Duration::from_millis(900));
    assert_eq!((found.capacity_bytes, found.endpoints, found.age_ms), (900, 1, 400));
}
