//! `<prefix>-history/<unix ms>-<8 hex>`: one record of every change that `kilocard` made to the policies.
//!
//! A record is written in the same transaction as the policies it tells of, so its `mod_revision` is theirs. It holds the
//! documents in full, so that an earlier state can be had after etcd has compacted its own history.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most records that are kept; the oldest go first.
pub const KEPT_RECORDS: usize = 500;

/// One transaction: who changed what, when and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Who made the change, as they said themselves: `ada@laptop`.
    pub author: String,
    /// When, by the author's clock; RFC 3339 in UTC, to the second.
    pub time: String,
    /// Why, if they said.
    #[serde(default)]
    pub reason: Option<String>,
    /// What, a policy each.
    pub changes: Vec<HistoryChange>,
}

/// What became of one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryChange {
    /// As in [`crate::layout::PolicyId`].
    pub kind: String,
    /// As in [`crate::layout::PolicyId`].
    pub name: String,
    /// `mod_revision` of the document that was replaced or deleted; `None` if there was none.
    pub from_revision: Option<i64>,
    /// The document that was written; `None` if the policy was deleted.
    pub document: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_has_the_documented_shape() {
        let text = r#"{"author": "ada@laptop", "time": "2026-11-23T18:00:00Z", "changes": [
            {"kind": "RoutingPolicy", "name": "minilm", "from_revision": 7, "document": null}]}"#;
        let record: HistoryRecord = serde_json::from_str(text).unwrap();
        assert_eq!(
            (record.reason.as_deref(), record.changes[0].from_revision),
            (None, Some(7))
        );
        assert_eq!(serde_json::to_value(&record).unwrap()["reason"], json!(null));
    }
}
