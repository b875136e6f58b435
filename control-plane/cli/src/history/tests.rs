use super::*;
use crate::store::StoredPolicy;
use kilocard_registry::history::HistoryRecord;

fn change(name: &str, from_revision: Option<i64>, document: Option<Value>) -> HistoryChange {
    HistoryChange {
        kind: "RoutingPolicy".into(),
        name: name.into(),
        from_revision,
        document,
    }
}

fn recorded(revision: i64, changes: Vec<HistoryChange>) -> Recorded {
    Recorded {
        revision,
        record: HistoryRecord {
            author: "ada@laptop".into(),
            time: "2026-11-23T18:00:00Z".into(),
            reason: Some(format!("reason {revision}")),
            changes,
        },
    }
}

fn now(policies: &[(&str, i64)]) -> PolicySet {
    let stored = |(name, revision): &(&str, i64)| {
        let id = PolicyId::new("RoutingPolicy", *name);
        let policy = StoredPolicy {
            id: id.clone(),
            revision: *revision,
            value: Vec::new(),
        };
        (id, policy)
    };
    PolicySet {
        revision: 100,
        policies: policies.iter().map(stored).collect(),
    }
}

fn history() -> History {
    History {
        records: vec![
            recorded(
                10,
                vec![change("a", None, Some(json!(1))), change("b", None, Some(json!(1)))],
            ),
            recorded(12, vec![change("a", Some(10), Some(json!(2)))]),
            recorded(14, vec![change("b", Some(10), None)]),
        ],
        unreadable: Vec::new(),
    }
}

#[test]
fn changes_are_told_from_the_newest_with_who_when_and_why() {
    let outcome = show(&now(&[("a", 12)]), &history(), |_, _| true, 2);
    let lines: Vec<&str> = outcome.text.lines().collect();
    assert!(
        lines[1].starts_with("14 ") && lines[1].contains("RoutingPolicy/b deleted"),
        "{}",
        outcome.text
    );
    assert!(
        lines[2].contains("ada@laptop") && lines[2].contains("reason 12"),
        "{}",
        outcome.text
    );
    assert_eq!(lines[3], "1 older changes are not shown (--limit)");
    assert_eq!(outcome.data["changes"][1]["changes"][0]["action"], "configured");
    assert_eq!(outcome.data["older"], 1);
    assert_eq!(outcome.data["unrecorded"], json!([]));
}

#[test]
fn a_policy_is_asked_for_alone() {
    let outcome = show(&now(&[("a", 12)]), &history(), |_, name| name == "b", 20);
    assert_eq!(outcome.data["changes"].as_array().unwrap().len(), 2);
    assert!(!outcome.text.contains("RoutingPolicy/a"), "{}", outcome.text);
}

#[test]
fn what_no_record_tells_of_is_named() {
    let records = history();
    for (policies, expected) in [
        (
            &[("a", 50)][..],
            "RoutingPolicy/a is of revision 50, which was written by other means",
        ),
        (
            &[][..],
            "RoutingPolicy/a was deleted by other means than `kilocard` after revision 12",
        ),
        (
            &[("a", 12), ("b", 60)][..],
            "RoutingPolicy/b is of revision 60, which was written by other means",
        ),
        (&[("a", 12), ("c", 60)][..], "RoutingPolicy/c is of revision 60"),
    ] {
        let outcome = show(&now(policies), &records, |_, _| true, 20);
        assert!(outcome.text.contains(expected), "{}", outcome.text);
    }
}
