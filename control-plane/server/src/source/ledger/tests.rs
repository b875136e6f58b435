use super::*;
use kilocard_registry::policy_status::PolicyError;

const HOLD_FOR: Duration = Duration::from_secs(600);
const POLICY: &str = "/kilocard/v1/policies/RoutingPolicy/m";
const STATUS: &str = "/kilocard/v1/status/policies/RoutingPolicy/m";
const GOOD: &str = r#"{"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
    "spec": {"model": "m", "versions": [{"version": "v1", "weight": 100}]}}"#;

fn stored(revision: i64, value: &str) -> Stored {
    Stored {
        created: 1,
        modified: revision,
        value: value.as_bytes().into(),
    }
}

fn listing(revision: i64, entries: &[(&str, &str)]) -> Listing {
    let entries = entries
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), stored(revision, value)));
    Listing {
        revision,
        entries: entries.collect(),
        ..Listing::default()
    }
}

fn begun(entries: &[(&str, &str)]) -> Ledger {
    let mut ledger = Ledger::new(Layout::default(), HOLD_FOR);
    ledger.begin(listing(5, entries), Instant::now());
    ledger.recover(&BTreeMap::new());
    ledger
}

fn put(revision: i64, key: &str, value: &str) -> Message {
    let change = Change {
        key: key.into(),
        stored: Some(stored(revision, value)),
    };
    Message {
        changes: vec![(revision, change)],
        ..Message::default()
    }
}

#[test]
fn a_change_of_a_verdict_in_etcd_does_not_change_the_mesh() {
    let mut ledger = begun(&[(POLICY, GOOD)]);
    let before = ledger.mesh();
    ledger.react(put(6, STATUS, "{}"), Instant::now()).unwrap();
    assert_eq!(ledger.mesh(), before);
    assert_eq!(ledger.statuses().len(), 1);
}

#[test]
fn a_mesh_shares_what_did_not_change() {
    let worker = r#"{"id": "w", "address": "10.0.0.7:1", "node": "n", "models": [{"model": "m", "version": "v1"}]}"#;
    let mut ledger = begun(&[(POLICY, GOOD), ("/kilocard/v1/workers/w", worker)]);
    let before = ledger.mesh();
    assert!(ledger.mesh().is(&before));
    ledger
        .react(put(6, "/kilocard/v1/workers/w", worker), Instant::now())
        .unwrap();
    assert!(ledger.mesh().is(&before), "written anew and the same");
    ledger
        .react(
            put(7, "/kilocard/v1/workers/w", &worker.replace(":1", ":2")),
            Instant::now(),
        )
        .unwrap();
    let after = ledger.mesh();
    assert!(!after.is(&before));
    assert!(Arc::ptr_eq(&after.policies, &before.policies) && Arc::ptr_eq(&after.verdicts, &before.verdicts));
}

#[test]
fn a_bad_policy_over_the_watch_leaves_the_good_one_in_the_mesh() {
    let mut ledger = begun(&[(POLICY, GOOD)]);
    ledger.react(put(6, POLICY, "{}"), Instant::now()).unwrap();
    let mesh = ledger.mesh();
    assert_eq!(mesh.policies.len(), 1);
    assert_eq!(mesh.verdicts.values().next().unwrap().state, PolicyState::Rejected);
}

#[test]
fn a_listing_without_a_third_of_many_workers_is_suspicious_and_one_without_a_single_one_is_not() {
    let keys: Vec<String> = (0..6).map(|n| format!("/kilocard/v1/workers/{n}")).collect();
    let all: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "{}")).collect();
    let ledger = begun(&all);
    assert!(ledger.is_suspicious(&listing(6, &all[3..])));
    assert!(!ledger.is_suspicious(&listing(6, &all[2..])));
    assert!(!begun(&all[..1]).is_suspicious(&listing(6, &[])));
}

const WORKER: &str =
    r#"{"id": "ID", "address": "10.0.0.7:1", "node": "n", "models": [{"model": "m", "version": "v1"}]}"#;

fn worker_key(id: usize) -> String {
    format!("/kilocard/v1/workers/{id}")
}

/// A listing of so many workers, each at an address of its own.
fn workers(revision: i64, count: usize) -> Listing {
    let records: Vec<(String, String)> = (0..count)
        .map(|id| {
            let record = WORKER
                .replace("ID", &id.to_string())
                .replace(":1", &format!(":{}", id + 1));
            (worker_key(id), record)
        })
        .collect();
    let entries: Vec<(&str, &str)> = records
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    listing(revision, &entries)
}

fn delete(revision: i64, id: usize) -> (i64, Change) {
    let key = worker_key(id).into_bytes();
    (revision, Change { key, stored: None })
}

fn deletions(revision: i64, ids: std::ops::Range<usize>) -> Message {
    Message {
        changes: ids.map(|id| delete(revision, id)).collect(),
        ..Message::default()
    }
}

fn of_workers(count: usize) -> Ledger {
    let mut ledger = Ledger::new(Layout::default(), HOLD_FOR);
    ledger.begin(workers(5, count), Instant::now());
    ledger.recover(&BTreeMap::new());
    ledger
}

#[test]
fn workers_that_vanish_in_a_crowd_stay_in_the_mesh_by_watch_and_by_listing() {
    let now = Instant::now();
    let mut watched = of_workers(10);
    watched.react(deletions(6, 0..4), now).unwrap();
    let mut listed = of_workers(10);
    listed.replace(workers(6, 6), now);
    for ledger in [&watched, &listed] {
        assert_eq!(ledger.mesh().workers.len(), 10);
        assert_eq!(ledger.hold().active().unwrap().workers.len(), 4);
    }
    // Three of ten go.
    let mut few = of_workers(10);
    few.react(deletions(6, 0..3), now).unwrap();
    assert_eq!(few.mesh().workers.len(), 7);
}

#[test]
fn a_hold_ends_by_time_by_return_and_by_hand() {
    let now = Instant::now();
    let held = || {
        let mut ledger = of_workers(4);
        ledger.react(deletions(6, 0..4), now).unwrap();
        assert_eq!(ledger.mesh().workers.len(), 4);
        ledger
    };
    let mut by_time = held();
    assert_eq!(by_time.tick(now + HOLD_FOR), Some(Ended::TimeOver));
    assert_eq!(by_time.mesh().workers.len(), 0);

    let mut by_hand = held();
    assert_eq!(by_hand.release(), 4);
    assert_eq!(by_hand.mesh().workers.len(), 0);

    let mut by_return = held();
    assert_eq!(by_return.replace(workers(7, 4), now), Some(Ended::Returned));
    assert_eq!(by_return.mesh().workers.len(), 4);
}

#[test]
fn workers_that_said_that_they_leave_are_not_missed() {
    let now = Instant::now();
    let mut ledger = of_workers(4);
    for id in 0..4 {
        let record = WORKER.replace("ID", &id.to_string());
        let leaving = record.replace("\"node\"", "\"draining\": true, \"node\"");
        let revision = 6 + i64::try_from(id).unwrap();
        ledger.react(put(revision, &worker_key(id), &leaving), now).unwrap();
    }
    ledger.react(deletions(20, 0..4), now).unwrap();
    assert!(ledger.hold().active().is_none());
    assert!(ledger.mesh().workers.is_empty());
}

#[test]
fn records_that_turn_bad_in_a_crowd_are_held_as_those_that_are_gone() {
    let mut ledger = of_workers(3);
    for id in 0..3 {
        let revision = 6 + i64::try_from(id).unwrap();
        ledger
            .react(put(revision, &worker_key(id), "{}"), Instant::now())
            .unwrap();
    }
    assert_eq!(ledger.mesh().workers.len(), 3);
    assert_eq!(ledger.mesh().rejected.len(), 3, "and told");
}

fn moment() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

fn restored(ledger: &Ledger) -> Ledger {
    Ledger::restore(Layout::default(), HOLD_FOR, ledger.save(moment()), moment())
}

#[test]
fn what_is_restored_from_disk_is_what_was_saved() {
    let mut ledger = begun(&[(POLICY, GOOD), ("/kilocard/v1/workers/w", &WORKER.replace("ID", "w"))]);
    ledger.react(put(6, POLICY, "{}"), Instant::now()).unwrap();
    let again = restored(&ledger);
    assert_eq!(again.mesh(), ledger.mesh());
    assert_eq!(
        again.mesh().policies.values().next().unwrap().revision,
        5,
        "the last good one"
    );
    assert_eq!(again.revision(), 6);
}

#[test]
fn a_hold_outlives_the_process_and_what_went_meanwhile_is_held_too() {
    let now = Instant::now();
    let mut ledger = of_workers(10);
    ledger.react(deletions(6, 0..4), now).unwrap();
    let mut again = restored(&ledger);
    assert_eq!(again.mesh().workers.len(), 10);
    assert_eq!(again.hold().active().unwrap().workers.len(), 4);
    let first = Listing {
        revision: 9,
        ..Listing::default()
    };
    again.begin(first, now);
    again.recover(&BTreeMap::new());
    assert_eq!(again.mesh().workers.len(), 10);
}

#[test]
fn the_last_good_document_that_history_has_lost_comes_from_disk() {
    let mut ledger = begun(&[(POLICY, GOOD)]);
    ledger.react(put(6, POLICY, "{}"), Instant::now()).unwrap();
    let saved = ledger.save(moment());
    let verdict = serde_json::to_string(ledger.mesh().verdicts.values().next().unwrap()).unwrap();
    for statuses in [vec![(STATUS, verdict.as_str())], vec![]] {
        let mut next = Ledger::new(Layout::default(), HOLD_FOR);
        next.remember(&saved);
        let mut entries = vec![(POLICY, "{}")];
        entries.extend(statuses);
        next.begin(listing(6, &entries), Instant::now());
        let lost = next.wanted().into_iter().map(|wanted| (wanted.id, None)).collect();
        next.recover(&lost);
        assert_eq!(next.mesh().policies.values().next().unwrap().revision, 5);
        let status = next.mesh().verdicts.values().next().unwrap().clone();
        assert_eq!(
            (status.state, status.serving_revision),
            (PolicyState::Rejected, Some(5))
        );
    }
}

#[test]
fn a_text_that_is_no_document_is_a_verdict_and_a_refusal_and_changes_nothing() {
    let mut ledger = begun(&[(POLICY, GOOD)]);
    let id = PolicyId::new("RoutingPolicy", "m");
    let error = PolicyError {
        path: String::new(),
        message: "a.yaml is not YAML".into(),
    };
    let told = |revision| Listing {
        remarks: Remarks {
            unreadable: BTreeMap::from([(id.clone(), error.clone())]),
            refused: BTreeMap::from([("a.yaml".into(), "is not YAML".into())]),
        },
        ..listing(revision, &[(POLICY, GOOD)])
    };
    let before = ledger.mesh().policies;
    ledger.replace(told(5), Instant::now());
    let mesh = ledger.mesh();
    assert_eq!(mesh.policies, before);
    assert_eq!(mesh.rejected["a.yaml"], "is not YAML");
    assert_eq!(
        (mesh.verdicts[&id].state, mesh.verdicts[&id].serving_revision),
        (PolicyState::Rejected, Some(5))
    );
    ledger.replace(listing(5, &[(POLICY, GOOD)]), Instant::now());
    assert_eq!(ledger.mesh().verdicts[&id].state, PolicyState::Accepted);
    assert!(ledger.mesh().rejected.is_empty());
}
