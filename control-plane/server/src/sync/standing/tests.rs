use super::super::tests::{channel, request};
use super::super::{Channel, Office};
use super::*;
use crate::election::Outcome;
use crate::snapshot::tests::{mesh, policies};
use kilocard_proto::kilocard::sync::v1::{Demand, ExchangeRequest, ExchangeResponse};
use kilocard_quota::Settings;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;

/// A mesh whose policy `tenants` is shared, and whose policy `own` is not.
fn limited() -> Mesh {
    let policy = |name: &str, scope: &str| {
        json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": name},
            "spec": {"by": ["tenant"], "scope": scope, "limits": [{"unit": "requests", "rate": 100, "burst": 200}]}})
    };
    let mut mesh = mesh();
    mesh.policies = policies(&[policy("own", "proxy"), policy("tenants", "mesh")]);
    mesh
}

/// An authority that need not learn, so that it gives shares at once.
fn at_once() -> Channel {
    let mut channel = channel(Office::Sole);
    channel.settings = Settings {
        learning: Duration::ZERO,
        ..Settings::default()
    };
    channel
}

/// What a proxy reports that has taken the last answer.
fn next(proxy: &str, last: &ExchangeResponse, tenants: usize) -> ExchangeRequest {
    let demand = |number: usize| Demand {
        policy: "tenants".to_owned(),
        key: format!("tenant=t{number:02}"),
        parts_per_million: 1_000_000 + u32::try_from(number).unwrap(),
    };
    ExchangeRequest {
        demands: (0..tenants).map(demand).collect(),
        ..request(proxy, last.base_share, Some(last.sequence))
    }
}

#[test]
fn shared_policies_proxies_and_the_busiest_keys_are_shown_and_counted() {
    let channel = at_once();
    let first = channel.answer(next("a", &ExchangeResponse::default(), 0)).unwrap();
    let second = channel.answer(next("a", &first, KEYS + 5)).unwrap();
    assert_eq!(second.base_share, 1_000_000);
    // Room for it is made by the first, which has not heard yet that it is to have less.
    channel.answer(next("b", &ExchangeResponse::default(), 0)).unwrap();
    let report = channel.standing(&limited());
    assert!(report.divided_here && !report.learning);
    assert_eq!(
        (report.proxies_total, report.proxies_waiting, report.proxies_silent),
        (2, 1, 0)
    );
    assert_eq!(
        (report.proxies[0].proxy.as_str(), report.proxies[0].base_percent),
        ("a", 100.0)
    );
    assert_eq!(
        (report.proxies[1].proxy.as_str(), report.proxies[1].base_percent),
        ("b", 0.0)
    );
    let [policy] = report.policies.as_slice() else {
        panic!("only what is shared: {:?}", report.policies);
    };
    assert_eq!(policy.limits, ["100 requests a second, at most 200 at once"]);
    assert_eq!((policy.keys.total, policy.keys.largest.len()), (KEYS + 5, KEYS));
    let busiest = &policy.keys.largest[0];
    assert_eq!(busiest.key, format!("tenant=t{:02}", KEYS + 4));
    assert!(
        busiest.demand_percent > 100.0 && busiest.used_percent <= 100.0,
        "{busiest:?}"
    );
    assert!(
        busiest.largest_share_percent >= busiest.smallest_share_percent,
        "{busiest:?}"
    );
}

#[test]
fn a_replica_that_does_not_divide_shows_the_policies_and_no_division() {
    let (_outcomes, outcome) = watch::channel(Outcome {
        ours: None,
        leader: Some("replica-2".to_owned()),
    });
    let report = channel(Office::Elected(outcome)).standing(&limited());
    assert!(!report.divided_here && report.proxies.is_empty());
    assert_eq!(report.policies.len(), 1);
}

#[test]
fn memory_is_shown_with_the_workers_that_serve_the_version() {
    let mut mesh = mesh();
    let admission = json!({"api_version": "kilocard/v1", "kind": "AdmissionPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "memory": {"bytes_per_request": 1}}});
    mesh.policies = policies(&[admission]);
    let report = channel(Office::Sole).standing(&mesh);
    let serving = |version: &str| {
        let workers = mesh.workers.values().filter(|worker| !worker.draining);
        let serves = |worker: &&Arc<crate::model::Worker>| worker.models.iter().any(|served| served.version == version);
        workers.filter(serves).count()
    };
    assert!(!report.memory.is_empty());
    for version in &report.memory {
        assert_eq!(version.endpoints, serving(&version.version), "{version:?}");
        // Nobody has reported any.
        assert_eq!((version.capacity_bytes, version.free_bytes), (0, 0));
    }
}
