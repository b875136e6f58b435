use super::*;
use crate::store::Recorded;
use kilocard_registry::history::{HistoryChange, HistoryRecord, KEPT_RECORDS};
use serde_json::{Value, json};

/// `(revision, name, from_revision, document)`, a record each.
fn history(changes: &[(i64, &str, Option<i64>, Option<Value>)]) -> History {
    let recorded = |(revision, name, from_revision, document): &(i64, &str, Option<i64>, Option<Value>)| Recorded {
        revision: *revision,
        record: HistoryRecord {
            author: "ada".into(),
            time: String::new(),
            reason: None,
            changes: vec![HistoryChange {
                kind: "RoutingPolicy".into(),
                name: (*name).into(),
                from_revision: *from_revision,
                document: document.clone(),
            }],
        },
    };
    History {
        records: changes.iter().map(recorded).collect(),
        unreadable: Vec::new(),
    }
}

fn now(revision: i64, policies: &[(&str, i64)]) -> PolicySet {
    let stored = |(name, revision): &(&str, i64)| {
        let id = PolicyId::new("RoutingPolicy", *name);
        let policy = StoredPolicy {
            id: id.clone(),
            revision: *revision,
            value: b"\"now\"".to_vec(),
        };
        (id, policy)
    };
    PolicySet {
        revision,
        policies: policies.iter().map(stored).collect(),
    }
}

fn then(now: &PolicySet, history: &History, revision: i64) -> Result<Vec<(String, i64, String)>, Vec<String>> {
    let then = reconstruct(now, history, revision, None)?;
    let told = then.policies.into_values();
    Ok(told
        .map(|policy| {
            (
                policy.id.name,
                policy.revision,
                String::from_utf8(policy.value).unwrap(),
            )
        })
        .collect())
}

fn told(name: &str, revision: i64, value: &str) -> (String, i64, String) {
    (name.to_owned(), revision, value.to_owned())
}

#[test]
fn each_policy_is_as_the_last_record_up_to_then_left_it() {
    let history = history(&[
        (10, "a", None, Some(json!(1))),
        (12, "b", None, Some(json!(2))),
        (15, "a", Some(10), Some(json!(3))),
        (17, "b", Some(12), None),
        (20, "b", None, Some(json!(4))),
    ]);
    let now = now(25, &[("a", 15), ("b", 20)]);
    assert_eq!(then(&now, &history, 9), Ok(vec![]));
    assert_eq!(then(&now, &history, 11), Ok(vec![told("a", 10, "1")]));
    assert_eq!(
        then(&now, &history, 16),
        Ok(vec![told("a", 15, "\"now\""), told("b", 12, "2")])
    );
    assert_eq!(then(&now, &history, 18), Ok(vec![told("a", 15, "\"now\"")]));
    let newest = vec![told("a", 15, "\"now\""), told("b", 20, "\"now\"")];
    assert_eq!(then(&now, &history, 25), Ok(newest));
}

#[test]
fn what_was_changed_by_other_means_is_not_made_up() {
    // Written by hand at 13, which the next record tells.
    let records = history(&[(10, "a", None, Some(json!(1))), (15, "a", Some(13), Some(json!(3)))]);
    let unknown = then(&now(25, &[("a", 15)]), &records, 14).unwrap_err();
    assert!(unknown[0].contains("before revision 15 by other means"), "{unknown:?}");
    // Written by hand since.
    let records = history(&[(10, "a", None, Some(json!(1)))]);
    let unknown = then(&now(25, &[("a", 20)]), &records, 14).unwrap_err();
    assert!(unknown[0].contains("at revision 20 by other means"), "{unknown:?}");
    // Deleted by hand since.
    let unknown = then(&now(25, &[]), &records, 14).unwrap_err();
    assert!(unknown[0].contains("deleted by other means"), "{unknown:?}");
    // Deleted and then created by us.
    let records = history(&[(10, "a", None, Some(json!(1))), (15, "a", None, Some(json!(3)))]);
    assert!(then(&now(25, &[("a", 15)]), &records, 14).is_err());
}

#[test]
fn only_the_policy_that_is_asked_for_has_to_be_known() {
    let records = history(&[(10, "a", None, Some(json!(1))), (15, "a", Some(10), Some(json!(2)))]);
    let now = now(25, &[("a", 15), ("by-hand", 20)]);
    assert!(reconstruct(&now, &records, 12, None).is_err());
    let only = PolicyId::new("RoutingPolicy", "a");
    let then = reconstruct(&now, &records, 12, Some(&only)).unwrap();
    assert_eq!(then.policies.keys().collect::<Vec<_>>(), [&only]);
}

#[test]
fn before_a_full_history_nothing_is_known() {
    let changes: Vec<_> = (0..KEPT_RECORDS as i64)
        .map(|n| (100 + n, "a", (n > 0).then_some(99 + n), Some(json!(n))))
        .collect();
    let history = history(&changes);
    let now = now(1000, &[("a", 99 + KEPT_RECORDS as i64)]);
    let unknown = then(&now, &history, 99).unwrap_err();
    assert!(unknown[0].contains("begin with revision 100"), "{unknown:?}");
    assert_eq!(then(&now, &history, 100), Ok(vec![told("a", 100, "0")]));
}
