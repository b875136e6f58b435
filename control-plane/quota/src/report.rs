//! What a proxy says and what it is answered.

use crate::Share;
use std::sync::Arc;
use std::time::Duration;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The most that one demand counts for, in parts per million: ten times the whole. What is beyond says nothing more about who
/// needs a limit, and one absurd request would hold an average that has to die away.
pub const MAX_DEMAND_PARTS: u32 = 10_000_000;
/// Longest name of a proxy, or of a node, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// What a proxy says. It calls with one report at a time: an answer to a call that it has given up must not be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The process, by a name that no other process ever has.
    pub proxy: String,
    /// What outlasts the process: the next that is started in its place has it too, and two that serve at the same time have
    /// it only while one takes over from the other. Empty where nothing is known; longer than [`MAX_NAME_BYTES`] counts as
    /// empty. What the first report says holds.
    pub node: String,
    /// The sequence of the newest answer that is in force in every thread.
    pub acknowledged: Option<u64>,
    /// The highest base share that any thread may be using; zero until the first answer.
    pub base: Share,
    /// It ends, admits nothing more and will not report again.
    pub leaving: bool,
    /// By key. Every key with a lease that is in force and has demand is wanted, and of others at least those whose demand is
    /// over half the base share; a key that is missing has none. Of two entries for one key, the first counts. A key of more
    /// than [`MAX_KEY_BYTES`] and demands beyond [`Settings::max_keys`](crate::Settings::max_keys) are passed over and counted.
    pub demands: Vec<Demand>,
}

/// What was asked for since the report before, admitted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Names the policy and what it counts by; opaque here.
    pub key: Arc<str>,
    /// The rate in parts per million of the limit's rate; may be more than a million. Beyond [`MAX_DEMAND_PARTS`] it counts as
    /// that.
    pub parts: u32,
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To be acknowledged once this answer is in force in every thread.
    pub sequence: u64,
    /// The share of every mesh-wide limit, by key, where no lease says otherwise. It does not end.
    pub base: Share,
    /// What changes; leases that are not named here go on.
    pub leases: Vec<Lease>,
    /// How long these leases last; see [`Lease`].
    pub ttl: Duration,
    /// When the next report is wanted.
    pub next_report: Duration,
}

/// The share of one key in place of the base share. With `sent`, when the report was sent that was answered, and `received`,
/// when the answer came, a proxy may use at `now`
///
/// ```text
/// share               while now < sent + ttl
/// min(share, base)    then, while now < received + 2·ttl
/// base                then
/// ```
///
/// where `base` is its base share at `now`, not when the lease was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// As in the demand.
    pub key: Arc<str>,
    /// Of the limit.
    pub share: Share,
}

/// Why a report is not answered. Nothing of it is taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The name of the proxy is empty or too long.
    #[error("the proxy's name has {bytes} bytes; it needs 1 to {MAX_NAME_BYTES}")]
    Name {
        /// Of the name.
        bytes: usize,
    },
    /// There are too many proxies; this one keeps what it has.
    #[error("{limit} proxies have shares already: raise the limit of proxies, or let some leave")]
    Proxies {
        /// The most that there can be.
        limit: usize,
    },
    /// It has said that it ends: this is a report that came late.
    #[error("this proxy has left: a process that comes back needs a new name")]
    Left,
}

impl ReportError {
    /// A stable name, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Name { .. } => "name",
            Self::Proxies { .. } => "proxies",
            Self::Left => "left",
        }
    }
}

impl Report {
    /// Whether it can be taken in at all.
    pub(crate) fn check(&self) -> Result<(), ReportError> {
        let bytes = self.proxy.len();
        if bytes == 0 || bytes > MAX_NAME_BYTES {
            return Err(ReportError::Name { bytes });
        }
        Ok(())
    }

    /// The node, where there is one that can be kept.
    pub(crate) fn known_node(&self) -> Option<&str> {
        let bytes = self.node.len();
        (1..=MAX_NAME_BYTES).contains(&bytes).then_some(self.node.as_str())
    }

    /// The demands that can be taken in, each with what it counts for.
    pub(crate) fn sound_demands(&self, max_demands: usize) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let demands = self.demands.iter().take(max_demands);
        demands
            .filter(|demand| demand.key.len() <= MAX_KEY_BYTES)
            .map(|demand| (&demand.key, demand.parts.min(MAX_DEMAND_PARTS)))
    }
}
