//! The records of changes in etcd, and the policies as they were.

use super::{PolicySet, Store, StoreError, not_encodable};
use crate::authorship::Authorship;
use etcd_client::{Error as EtcdError, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp};
use kilocard_registry::history::{HistoryChange, HistoryRecord, KEPT_RECORDS};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::SystemTime;

/// Records read at once: with the longest documents a page is still a small part of the largest answer.
const PAGE: i64 = 50;
/// Most records that one pruning removes: etcd's transactions have at most 128 operations.
const PRUNED_AT_ONCE: i64 = 100;

/// A record and the revision of the transaction that wrote it, which is that of the documents it tells of.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// etcd `mod_revision`.
    pub revision: i64,
    /// What was recorded.
    pub record: HistoryRecord,
}

/// Every record there is.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By revision, the oldest first.
    pub records: Vec<Recorded>,
    /// Keys of what is not a record, written by nobody of ours.
    pub unreadable: Vec<String>,
}

impl History {
    /// Up to which revision nothing is known: older records than the first may have been pruned.
    pub fn forgotten_until(&self) -> i64 {
        match self.records.first() {
            Some(first) if self.records.len() >= KEPT_RECORDS => first.revision - 1,
            _ => 0,
        }
    }

    /// What was done to one policy, the oldest first.
    pub fn of<'h>(&'h self, kind: &'h str, name: &'h str) -> impl DoubleEndedIterator<Item = (i64, &'h HistoryChange)> {
        self.records.iter().flat_map(move |recorded| {
            let changes = recorded.record.changes.iter();
            changes
                .filter(move |change| change.kind == kind && change.name == name)
                .map(|change| (recorded.revision, change))
        })
    }
}

impl Store {
    /// The operation that puts the record of these changes.
    pub(super) fn put_record(&self, by: &Authorship, changes: Vec<HistoryChange>) -> Result<TxnOp, StoreError> {
        let now = SystemTime::now();
        let record = HistoryRecord {
            author: by.author.clone(),
            time: humantime::format_rfc3339_seconds(now).to_string(),
            reason: by.reason.clone(),
            changes,
        };
        let value = serde_json::to_vec(&record)
            .map_err(|source| not_encodable("the record of the change".to_owned(), source))?;
        let unix_ms = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let unix_ms = u64::try_from(unix_ms).unwrap_or(u64::MAX);
        // Every `RandomState` is seeded anew by the system; its lower half tells apart writers of the same millisecond.
        let token = RandomState::new().build_hasher().finish() as u32;
        Ok(TxnOp::put(self.layout.history_key(unix_ms, token), value, None))
    }

    /// Every record of the history.
    ///
    /// # Errors
    /// [`StoreError::Request`].
    pub async fn history(&mut self) -> Result<History, StoreError> {
        let mut history = History::default();
        let mut from = self.layout.history().into_bytes();
        let end = end_of_prefix(&from);
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            let answer = self.client.get(from, Some(options)).await;
            let answer = answer.map_err(|source| self.failed("reading the history", source))?;
            for kv in answer.kvs() {
                match serde_json::from_slice(kv.value()) {
                    Ok(record) => history.records.push(Recorded {
                        revision: kv.mod_revision(),
                        record,
                    }),
                    Err(_) => history.unreadable.push(String::from_utf8_lossy(kv.key()).into_owned()),
                }
            }
            match answer.kvs().last() {
                // The next key there can be.
                Some(last) if answer.more() => from = [last.key(), b"\0"].concat(),
                _ => break,
            }
        }
        // Keys are by the writers' clocks, which may disagree; etcd's order is the one that counts.
        history.records.sort_by_key(|recorded| recorded.revision);
        Ok(history)
    }

    /// Every policy as it was right after a revision; `None` if etcd has forgotten (compaction).
    ///
    /// # Errors
    /// [`StoreError::Request`] for anything but compaction.
    pub async fn policies_at(&mut self, revision: i64) -> Result<Option<PolicySet>, StoreError> {
        let options = GetOptions::new().with_prefix().with_revision(revision);
        match self.client.get(self.layout.policies(), Some(options)).await {
            Ok(answer) => Ok(Some(PolicySet {
                revision,
                ..self.policy_set(&answer)
            })),
            Err(EtcdError::GRpcStatus(status)) if status.message().contains("compacted") => Ok(None),
            Err(source) => Err(self.failed("reading an earlier revision", source)),
        }
    }

    /// Removes the oldest records beyond [`KEPT_RECORDS`]. The change itself is done when this runs, so a failure here is
    /// no failure of the command: the next change prunes again.
    pub(super) async fn prune_history(&mut self) {
        if let Ok(oldest) = self.superfluous_records().await
            && !oldest.is_empty()
        {
            let deletes: Vec<TxnOp> = oldest.into_iter().map(|key| TxnOp::delete(key, None)).collect();
            let _ = self.client.txn(Txn::new().and_then(deletes)).await;
        }
    }

    async fn superfluous_records(&mut self) -> Result<Vec<Vec<u8>>, EtcdError> {
        let count = GetOptions::new().with_prefix().with_count_only();
        let count = self.client.get(self.layout.history(), Some(count)).await?.count();
        let kept = i64::try_from(KEPT_RECORDS).unwrap_or(i64::MAX);
        let excess = (count - kept).min(PRUNED_AT_ONCE);
        if excess <= 0 {
            return Ok(Vec::new());
        }
        let oldest = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_sort(SortTarget::Mod, SortOrder::Ascend)
            .with_limit(excess);
        let oldest = self.client.get(self.layout.history(), Some(oldest)).await?;
        Ok(oldest.kvs().iter().map(KeyValue::key).map(<[u8]>::to_vec).collect())
    }
}

/// The first key after all that begin with this prefix, which ends in a byte below 255.
fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_right_behind_all_its_keys() {
        let end = end_of_prefix(b"/a-history/");
        assert!(b"/a-history/9999999999999-ffffffff".as_slice() < end.as_slice());
        assert!(b"/a-history0".as_slice() >= end.as_slice());
    }
}
