//! Policies in etcd: reading them with their revisions, and writing them only if nobody else did meanwhile.

use crate::authorship::Authorship;
use crate::failure::Conflict;
use etcd_client::{
    Compare, CompareOp, Error as EtcdError, GetOptions, GetResponse, KeyValue, KvClient, Txn, TxnOp, TxnOpResponse,
};
use kilocard_policy::config::{Document, Violation, parse_bytes};
use kilocard_registry::connect::{ConnectError, EtcdArgs};
use kilocard_registry::history::HistoryChange;
use kilocard_registry::layout::{InvalidPrefix, Key, Layout, PolicyId};
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeMap;

mod history;

pub use history::{History, Recorded};

/// Largest answer taken from etcd. Policies are read all at once, and gRPC's default of 4 MiB holds but 16 of the longest.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// Most policies in one transaction. etcd takes 128 conditions and 128 operations (`--max-txn-ops`); one condition is for all
/// policies together, and one operation writes the record of the change.
const MAX_POLICIES_A_WRITE: usize = 127;
/// Most bytes of documents in one transaction. etcd takes requests of 1.5 MiB (`--max-request-bytes`), and every document
/// is in there twice: under its own key and in the record. The rest is for keys, author and reason.
const MAX_BYTES_A_WRITE: usize = 640 << 10;

/// Why etcd could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or a wrong prefix.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request failed.
    #[error("etcd at {endpoints} failed while {doing}: {source}")]
    Request {
        /// What was tried.
        endpoints: String,
        /// What for.
        doing: &'static str,
        /// What the client said.
        source: EtcdError,
    },
    /// More than one transaction holds, so that "all or none" cannot be kept.
    #[error(
        "{policies} policies with {bytes} bytes of JSON are to be changed, and at most {MAX_POLICIES_A_WRITE} policies and \
         {MAX_BYTES_A_WRITE} bytes fit one transaction; nothing was written. Change them in parts, for example with one `-f` \
         at a time: what is in etcd already does not count again"
    )]
    TooMuch {
        /// Those that differ from what is in etcd.
        policies: usize,
        /// Together.
        bytes: usize,
    },
    /// What does not become JSON.
    #[error("{what} cannot be written as JSON: {source}")]
    Encode {
        /// Which document, or the record of the change.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Prefix(_)) => "invalid_prefix",
            Self::Connect(ConnectError::Credentials(_)) => "invalid_credentials",
            Self::Connect(ConnectError::Endpoint { .. } | ConnectError::NoEndpoint) => "invalid_endpoint",
            Self::Connect(
                ConnectError::Unreachable { .. } | ConnectError::Silent { .. } | ConnectError::NoLeader { .. },
            ) => "etcd_unreachable",
            Self::Request { .. } => "etcd_failed",
            Self::TooMuch { .. } => "too_much_at_once",
            Self::Encode { .. } => "not_encodable",
        }
    }
}

impl From<InvalidPrefix> for StoreError {
    fn from(error: InvalidPrefix) -> Self {
        Self::Connect(ConnectError::Prefix(error))
    }
}

/// A policy as it stands in etcd, valid or not.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    /// From the key.
    pub id: PolicyId,
    /// etcd `mod_revision`.
    pub revision: i64,
    /// The bytes.
    pub value: Vec<u8>,
}

impl StoredPolicy {
    /// The document, if it is one and stands under its own key.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn document(&self) -> Result<Document, Vec<Violation>> {
        let document = parse_bytes(&self.value)?;
        if document.kind().as_str() == self.id.kind && document.name() == self.id.name {
            return Ok(document);
        }
        let message = format!("stands under the key of {}, but is {}", self.id, document.id());
        Err(vec![Violation {
            path: String::new(),
            message,
        }])
    }

    /// The bytes as JSON: written by hand, they may be anything, and what is no JSON is taken as text.
    pub fn as_json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value)
            .unwrap_or_else(|_| serde_json::Value::String(String::from_utf8_lossy(&self.value).into_owned()))
    }
}

/// All policies at one revision of etcd.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// etcd's revision when they were read.
    pub revision: i64,
    /// By id.
    pub policies: BTreeMap<PolicyId, StoredPolicy>,
}

impl PolicySet {
    /// The policy's `mod_revision`, if it is there.
    pub fn revision_of(&self, id: &PolicyId) -> Option<i64> {
        self.policies.get(id).map(|stored| stored.revision)
    }
}

/// What is to become of one policy.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Which.
    pub id: &'a PolicyId,
    /// What it is to be; `None` deletes it.
    pub document: Option<&'a Document>,
}

impl Change<'_> {
    fn encoded(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.document.map(encode).transpose()
    }
}

/// What became of a conditional write.
#[derive(Debug)]
pub enum Commit {
    /// Written, at this revision.
    Done(i64),
    /// Not written: something changed since the set was read. The policies as they are now.
    Stale(PolicySet),
}

/// etcd, as far as policies go.
#[derive(Clone)]
pub struct Store {
    client: KvClient,
    layout: Layout,
    endpoints: String,
}

impl Store {
    /// Connects, and makes sure that etcd answers.
    ///
    /// # Errors
    /// [`StoreError::Connect`].
    pub async fn connect(args: &EtcdArgs) -> Result<Self, StoreError> {
        let layout = args.layout()?;
        let client = args.connect().await?;
        let client = client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self {
            client,
            layout,
            endpoints: args.redacted(),
        })
    }

    /// Every policy there is, at one revision.
    ///
    /// # Errors
    /// [`StoreError::Request`].
    pub async fn policies(&mut self) -> Result<PolicySet, StoreError> {
        let options = Some(GetOptions::new().with_prefix());
        let answer = self.client.get(self.layout.policies(), options).await;
        let answer = answer.map_err(|source| self.failed("reading policies", source))?;
        Ok(self.policy_set(&answer))
    }

    /// A policy as it was at an earlier revision; `None` if it was not there, or if etcd has forgotten (compaction).
    ///
    /// # Errors
    /// [`StoreError::Request`] for anything but compaction.
    pub async fn policy_at(&mut self, id: &PolicyId, revision: i64) -> Result<Option<StoredPolicy>, StoreError> {
        let key = self.layout.key(&Key::Policy(id.clone()));
        match self
            .client
            .get(key, Some(GetOptions::new().with_revision(revision)))
            .await
        {
            Ok(answer) => Ok(self.policy_set(&answer).policies.remove(id)),
            Err(EtcdError::GRpcStatus(status)) if status.message().contains("compacted") => Ok(None),
            Err(source) => Err(self.failed("reading an earlier revision", source)),
        }
    }

    /// The control plane's verdicts. A verdict that cannot be read counts as none.
    ///
    /// # Errors
    /// [`StoreError::Request`].
    pub async fn statuses(&mut self) -> Result<BTreeMap<PolicyId, PolicyStatus>, StoreError> {
        let options = Some(GetOptions::new().with_prefix());
        let answer = self.client.get(self.layout.statuses(), options).await;
        let answer = answer.map_err(|source| self.failed("reading verdicts", source))?;
        let verdict = |kv: &KeyValue| match self.layout.parse(kv.key())? {
            Key::PolicyStatus(id) => Some((id, serde_json::from_slice(kv.value()).ok()?)),
            _ => None,
        };
        Ok(answer.kvs().iter().filter_map(verdict).collect())
    }

    /// Makes all changes, which [`fit_one_write`], and records them, in one transaction, if no policy at all was written
    /// since `read`, and none of these deleted: the changes were found valid together with exactly those.
    ///
    /// # Errors
    /// [`StoreError::Request`], [`StoreError::Encode`].
    pub async fn write(
        &mut self,
        changes: &[Change<'_>],
        read: &PolicySet,
        by: &Authorship,
    ) -> Result<Commit, StoreError> {
        let mut conditions =
            vec![Compare::mod_revision(self.layout.policies(), CompareOp::Less, read.revision + 1).with_prefix()];
        let mut operations = Vec::with_capacity(changes.len() + 1);
        let mut recorded = Vec::with_capacity(changes.len());
        for change in changes {
            let key = self.layout.key(&Key::Policy(change.id.clone()));
            let from_revision = read.revision_of(change.id);
            conditions.push(Compare::mod_revision(
                key.clone(),
                CompareOp::Equal,
                from_revision.unwrap_or(0),
            ));
            operations.push(match change.encoded()? {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            });
            recorded.push(HistoryChange {
                kind: change.id.kind.clone(),
                name: change.id.name.clone(),
                from_revision,
                document: change.document.map(to_json).transpose()?,
            });
        }
        operations.push(self.put_record(by, recorded)?);
        let commit = self.commit(conditions, operations, "writing policies").await?;
        if let Commit::Done(_) = commit {
            self.prune_history().await;
        }
        Ok(commit)
    }

    async fn commit(
        &mut self,
        conditions: Vec<Compare>,
        operations: Vec<TxnOp>,
        doing: &'static str,
    ) -> Result<Commit, StoreError> {
        // What is there instead comes back in the same round trip, of the same moment.
        let look = TxnOp::get(self.layout.policies(), Some(GetOptions::new().with_prefix()));
        let txn = Txn::new().when(conditions).and_then(operations).or_else(vec![look]);
        let answer = self
            .client
            .txn(txn)
            .await
            .map_err(|source| self.failed(doing, source))?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        if answer.succeeded() {
            return Ok(Commit::Done(revision));
        }
        let mut now = match answer.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => self.policy_set(found),
            _ => PolicySet::default(),
        };
        now.revision = revision;
        Ok(Commit::Stale(now))
    }

    fn policy_set(&self, answer: &GetResponse) -> PolicySet {
        let stored = |kv: &KeyValue| match self.layout.parse(kv.key())? {
            Key::Policy(id) => {
                let policy = StoredPolicy {
                    id: id.clone(),
                    revision: kv.mod_revision(),
                    value: kv.value().to_vec(),
                };
                Some((id, policy))
            }
            _ => None,
        };
        PolicySet {
            revision: answer.header().map_or(0, etcd_client::ResponseHeader::revision),
            policies: answer.kvs().iter().filter_map(stored).collect(),
        }
    }

    fn failed(&self, doing: &'static str, source: EtcdError) -> StoreError {
        StoreError::Request {
            endpoints: self.endpoints.clone(),
            doing,
            source,
        }
    }
}

fn encode(document: &Document) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(document).map_err(|source| not_encodable(document.id(), source))
}

fn to_json(document: &Document) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(document).map_err(|source| not_encodable(document.id(), source))
}

fn not_encodable(what: String, source: serde_json::Error) -> StoreError {
    StoreError::Encode { what, source }
}

/// Whether [`Store::write`] can make these changes at once.
///
/// # Errors
/// [`StoreError::TooMuch`], [`StoreError::Encode`].
pub fn fit_one_write(changes: &[Change<'_>]) -> Result<(), StoreError> {
    let mut bytes = 0;
    for change in changes {
        bytes += change.encoded()?.map_or(0, |value| value.len());
    }
    if changes.len() > MAX_POLICIES_A_WRITE || bytes > MAX_BYTES_A_WRITE {
        let policies = changes.len();
        return Err(StoreError::TooMuch { policies, bytes });
    }
    Ok(())
}

/// The policies among `ids` whose revision differs between two readings.
pub fn conflicts<'a>(ids: impl IntoIterator<Item = &'a PolicyId>, read: &PolicySet, now: &PolicySet) -> Vec<Conflict> {
    let changed = |id: &&PolicyId| read.revision_of(id) != now.revision_of(id);
    let conflict = |id: &PolicyId| Conflict {
        policy: id.to_string(),
        read: read.revision_of(id),
        now: now.revision_of(id),
    };
    ids.into_iter().filter(changed).map(conflict).collect()
}
