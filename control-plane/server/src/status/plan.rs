//! Which status records to write. Pure.
//!
//! Each write is conditional on the record being as it was seen, so that replicas never undo each other's newer writes
//! and a write that is repeated before its own echo arrives does nothing. Replicas of different releases may judge one
//! document differently: whoever changed its mind last wins, and nobody writes twice over the same verdict, so they
//! cannot go on overwriting each other.

use crate::status::Book;
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeMap;

/// One conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose record.
    pub id: PolicyId,
    /// `mod_revision` that the record must have; 0 when it must not exist.
    pub expected: i64,
    /// The new record; `None` to delete it.
    pub status: Option<PolicyStatus>,
}

/// What to write, given the verdicts that this process has already seen through.
pub fn plan(book: &Book, settled: &BTreeMap<PolicyId, PolicyStatus>) -> Vec<Write> {
    if !book.complete {
        return Vec::new();
    }
    let stale = book.recorded.iter().filter(|(id, _)| !book.desired.contains_key(*id));
    let deletions = stale.map(|(id, recorded)| Write {
        id: id.clone(),
        expected: recorded.modified,
        status: None,
    });
    let updates = book.desired.iter().filter_map(|(id, desired)| {
        let recorded = book.recorded.get(id);
        if let Some(status) = recorded.and_then(|recorded| recorded.status.as_ref()) {
            let same_document = status.revision == desired.revision;
            if status == desired || (same_document && settled.get(id) == Some(desired)) {
                return None;
            }
        }
        let expected = recorded.map_or(0, |recorded| recorded.modified);
        Some(Write {
            id: id.clone(),
            expected,
            status: Some(desired.clone()),
        })
    });
    deletions.chain(updates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::RecordedStatus;
    use kilocard_registry::policy_status::PolicyState;
    use std::sync::Arc;

    fn id() -> PolicyId {
        PolicyId::new("RoutingPolicy", "m")
    }

    fn verdict(state: PolicyState, revision: i64) -> PolicyStatus {
        PolicyStatus {
            state,
            revision,
            serving_revision: None,
            errors: vec![],
        }
    }

    fn book(desired: Option<PolicyStatus>, recorded: Option<(i64, Option<PolicyStatus>)>) -> Book {
        Book {
            complete: true,
            desired: Arc::new(desired.into_iter().map(|status| (id(), status)).collect()),
            recorded: Arc::new(
                recorded
                    .into_iter()
                    .map(|(modified, status)| (id(), RecordedStatus { modified, status }))
                    .collect(),
            ),
        }
    }

    #[test]
    fn a_new_verdict_is_written_and_its_echo_is_not_answered() {
        let accepted = verdict(PolicyState::Accepted, 5);
        let writes = plan(&book(Some(accepted.clone()), None), &BTreeMap::new());
        assert_eq!(
            writes,
            [Write {
                id: id(),
                expected: 0,
                status: Some(accepted.clone())
            }]
        );
        let echo = book(Some(accepted.clone()), Some((6, Some(accepted))));
        assert!(plan(&echo, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn a_verdict_on_a_newer_document_replaces_the_one_that_stands() {
        let newer = verdict(PolicyState::Rejected, 7);
        let writes = plan(
            &book(Some(newer.clone()), Some((6, Some(verdict(PolicyState::Accepted, 5))))),
            &BTreeMap::new(),
        );
        assert_eq!(
            writes,
            [Write {
                id: id(),
                expected: 6,
                status: Some(newer)
            }]
        );
    }

    #[test]
    fn the_verdict_on_a_deleted_policy_is_deleted() {
        let writes = plan(&book(None, Some((6, None))), &BTreeMap::new());
        assert_eq!(
            writes,
            [Write {
                id: id(),
                expected: 6,
                status: None
            }]
        );
    }

    #[test]
    fn an_unreadable_record_is_written_anew() {
        let accepted = verdict(PolicyState::Accepted, 5);
        let settled = BTreeMap::from([(id(), accepted.clone())]);
        let writes = plan(&book(Some(accepted.clone()), Some((6, None))), &settled);
        assert_eq!(
            writes,
            [Write {
                id: id(),
                expected: 6,
                status: Some(accepted)
            }]
        );
    }

    #[test]
    fn replicas_that_disagree_on_one_document_do_not_overwrite_each_other_for_ever() {
        let ours = verdict(PolicyState::Accepted, 5);
        let disputed = book(Some(ours.clone()), Some((6, Some(verdict(PolicyState::Rejected, 5)))));
        assert_eq!(plan(&disputed, &BTreeMap::new()).len(), 1);
        assert!(plan(&disputed, &BTreeMap::from([(id(), ours)])).is_empty());
    }

    #[test]
    fn nothing_is_written_before_the_first_listing() {
        let unknown = Book {
            complete: false,
            ..book(None, Some((6, None)))
        };
        assert!(plan(&unknown, &BTreeMap::new()).is_empty());
    }
}
