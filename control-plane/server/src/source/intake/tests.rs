use super::*;
use crate::model::inventory::{Change, Stored};
use crate::saved::tests::etcd;
use crate::saved::{Saved, to_unix_ms};

const WORKER: &str =
    r#"{"id": "ID", "address": "10.0.0.7:PORT", "node": "n", "models": [{"model": "m", "version": "v1"}]}"#;
const HOLD_FOR: Duration = Duration::from_secs(600);
/// As of [`etcd`].
const CLUSTER: u64 = 7;

fn stored(revision: i64, value: String) -> Stored {
    Stored {
        created: revision,
        modified: revision,
        value: value.into_bytes().into(),
    }
}

fn workers(count: usize) -> Listing {
    let entries = (1..=count).map(|id| {
        let record = WORKER.replace("ID", &id.to_string()).replace("PORT", &id.to_string());
        (format!("/kilocard/v1/workers/{id}").into_bytes(), stored(5, record))
    });
    Listing {
        revision: 5,
        entries: entries.collect(),
        ..Listing::default()
    }
}

/// Four workers, confirmed so long ago.
fn saved(age: Duration) -> Labelled {
    let listing = workers(4);
    Labelled {
        label: Label {
            origin: etcd(&["http://a:2379"]),
            saved_unix_ms: to_unix_ms(SystemTime::now() - age),
        },
        saved: Saved {
            revision: listing.revision,
            entries: listing.entries,
            ..Saved::default()
        },
    }
}

fn intake() -> (Intake, Feeds, Health) {
    let health = Health::default();
    let (intake, feeds) = Intake::new(Layout::default(), etcd(&["http://a:2379"]), HOLD_FOR, health.clone());
    (intake, feeds, health)
}

fn begin(intake: &Intake, cluster: u64, listing: Listing) {
    let mut ledger = intake.successor(cluster);
    ledger.begin(listing, Instant::now());
    ledger.recover(&std::collections::BTreeMap::new());
    intake.install(ledger, cluster);
}

fn workers_given(feeds: &Feeds) -> usize {
    feeds.mesh.borrow().as_ref().map_or(0, |mesh| mesh.workers.len())
}

#[test]
fn from_disk_a_mesh_is_served_and_nothing_is_said_of_what_should_be_written() {
    let (intake, feeds, health) = intake();
    intake.serve_saved();
    assert!(feeds.mesh.borrow().is_none(), "there is nothing on disk");
    intake.offer(saved(Duration::from_secs(86_400)));
    intake.serve_saved();
    assert_eq!(workers_given(&feeds), 4);
    assert!(!feeds.book.borrow().complete);
    assert!(matches!(intake.standing().serving, Serving::Disk { revision: 5, .. }));
    assert_eq!(health.state_source.get_or_create(&[("source", "disk")]).get(), 1);
    assert!(intake.save().is_none(), "what came from disk is there already");
}

#[test]
fn those_who_went_while_nobody_looked_are_held_if_the_state_is_served_or_recent() {
    for (age, served, expected) in [
        (Duration::from_secs(86_400), true, 4),
        (Duration::from_secs(60), false, 4),
        (Duration::from_secs(86_400), false, 0),
    ] {
        let (intake, feeds, _) = intake();
        intake.offer(saved(age));
        if served {
            intake.serve_saved();
        }
        begin(&intake, CLUSTER, workers(0));
        assert_eq!(workers_given(&feeds), expected, "{age:?} {served}");
        assert!(feeds.book.borrow().complete);
    }
}

#[test]
fn the_state_of_a_cluster_that_was_replaced_does_not_count() {
    let (intake, feeds, _) = intake();
    intake.offer(saved(Duration::from_secs(1)));
    intake.serve_saved();
    begin(&intake, CLUSTER + 1, workers(0));
    assert_eq!(workers_given(&feeds), 0);
    assert!(matches!(intake.save().unwrap().label.origin, Origin::Etcd { cluster, .. } if cluster == CLUSTER + 1));
}

#[test]
fn what_is_held_is_counted_and_an_operator_lets_go_of_it() {
    let (intake, feeds, health) = intake();
    begin(&intake, CLUSTER, workers(4));
    let changes = (1..=4).map(|id| {
        let key = format!("/kilocard/v1/workers/{id}").into_bytes();
        (6, Change { key, stored: None })
    });
    let message = Message {
        changes: changes.collect(),
        ..Message::default()
    };
    intake.react(message).unwrap();
    assert_eq!((workers_given(&feeds), health.held_workers.get()), (4, 4));
    assert!(intake.save().unwrap().saved.held.len() == 4);
    assert_eq!(intake.release(), 4);
    assert_eq!((workers_given(&feeds), health.held_workers.get()), (0, 0));
    assert_eq!(health.holds_ended.get_or_create(&[("reason", "released")]).get(), 1);
}

#[test]
fn while_the_source_is_away_nobody_is_let_go_of() {
    const LEFT: Duration = Duration::from_millis(50);
    let (intake, feeds, health) = intake();
    let mut last = saved(Duration::from_secs(1));
    last.saved.held_since = Some(SystemTime::now() + LEFT - HOLD_FOR);
    for (key, record) in std::mem::take(&mut last.saved.entries) {
        let id = String::from_utf8(key).unwrap().rsplit('/').next().unwrap().to_owned();
        last.saved.held.push(crate::saved::HeldRecord { id, record });
    }
    intake.offer(last);
    intake.serve_saved();
    assert_eq!(workers_given(&feeds), 4, "held, by the earlier process");
    std::thread::sleep(LEFT);
    assert!(!intake.tick());
    assert_eq!(workers_given(&feeds), 4);
    health.connected.set(1);
    assert!(intake.tick());
    assert_eq!(workers_given(&feeds), 0);
}
