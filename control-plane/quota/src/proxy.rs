//! One proxy as the authority knows it.

use crate::Share;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The base share that a proxy may be using.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    /// The highest and the lowest that may be in force if `told` is not.
    held: Share,
    least: Share,
    told: Share,
    /// The first answer with `told`, while it is not acknowledged.
    first: Option<u64>,
}

impl Base {
    pub(crate) fn claimed(share: Share) -> Self {
        Self {
            held: share,
            least: share,
            told: share,
            first: None,
        }
    }

    /// The most that may be in use.
    pub(crate) fn bound(&self) -> Share {
        self.held.max(self.told)
    }

    /// The least that is in use where no lease is in force.
    pub(crate) fn least(&self) -> Share {
        self.least.min(self.told)
    }

    /// What every answer says.
    pub(crate) fn told(&self) -> Share {
        self.told
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.first.is_some()
    }

    pub(crate) fn tell(&mut self, share: Share, sequence: u64) {
        if share != self.told {
            (self.held, self.least) = (self.bound(), self.least());
            self.told = share;
            self.first = Some(sequence);
        }
    }

    /// A claim of a proxy that has not acknowledged anything yet. It may be an old one that came late: the highest of these
    /// counts, and it is told the lowest.
    pub(crate) fn claim_first(&mut self, share: Share, sequence: u64) {
        self.held = self.bound().max(share);
        self.tell(self.told.min(share), sequence);
    }

    /// A claim to more than was known: counts until the answer to it is acknowledged. Whether it is one.
    pub(crate) fn claim(&mut self, share: Share, sequence: u64) -> bool {
        let is_more = share > self.bound();
        if is_more {
            self.held = share;
            self.first = Some(sequence);
        }
        is_more
    }

    pub(crate) fn acknowledge(&mut self, sequence: u64) {
        if self.first.is_some_and(|first| first <= sequence) {
            (self.held, self.least) = (self.told, self.told);
            self.first = None;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: Arc<str>,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) base: Base,
    /// Its first report and its last.
    pub(crate) since: Moment,
    pub(crate) seen: Moment,
    pub(crate) is_silent: bool,
    /// The first and the last answer that it was given.
    first_answer: Option<u64>,
    last_answer: u64,
    pub(crate) acknowledged: Option<u64>,
    /// Averages of demand by managed key, while there is some.
    pub(crate) demands: BTreeMap<u32, f64>,
    /// The demands of the last report for keys that are not managed.
    pub(crate) quiet: HashMap<Arc<str>, u32>,
    /// Keys whose leases wait to be acknowledged; every answer gives them again.
    pub(crate) pending: BTreeSet<u32>,
    /// Keys to look at with the next report.
    pub(crate) queue: BTreeSet<u32>,
    /// Keys in the order in which their leases become due.
    due: VecDeque<(Moment, u32)>,
}

impl Proxy {
    pub(crate) fn new(name: Arc<str>, node: Option<Arc<str>>, now: Moment) -> Self {
        Self {
            name,
            node,
            // Until it has said what it may be using, it is not known to have anything.
            base: Base::claimed(Share::ZERO),
            since: now,
            seen: now,
            is_silent: false,
            first_answer: None,
            last_answer: 0,
            acknowledged: None,
            demands: BTreeMap::new(),
            quiet: HashMap::new(),
            pending: BTreeSet::new(),
            queue: BTreeSet::new(),
            due: VecDeque::new(),
        }
    }

    pub(crate) fn answer(&mut self, sequence: u64) {
        self.first_answer.get_or_insert(sequence);
        self.last_answer = sequence;
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.first_answer.is_some()
    }

    /// Whether this process ran at a time after the other had begun to: it has acknowledged an answer that was given after the
    /// other's first report came. Reports that come late, of processes that have ended, show no such thing.
    pub(crate) fn outlived_start_of(&self, other: &Self) -> bool {
        match (self.acknowledged, other.first_answer) {
            (Some(acknowledged), Some(first)) => acknowledged >= first,
            _ => false,
        }
    }

    /// Takes an acknowledgement, unless it is another authority's, or of an answer that was never given.
    pub(crate) fn take_acknowledgement(&mut self, sequence: u64) -> bool {
        let is_ours = self.first_answer.is_some_and(|first| first <= sequence) && sequence <= self.last_answer;
        let is_news = is_ours && self.acknowledged.is_none_or(|before| before < sequence);
        if is_news {
            self.acknowledged = Some(sequence);
            self.base.acknowledge(sequence);
        }
        is_news
    }

    /// A lease was given that has to be looked at again at `at`.
    pub(crate) fn remember(&mut self, key: u32, at: Moment) {
        self.due.push_back((at, key));
    }

    /// Keys to look at now: with demand, on their way, asked for, due.
    pub(crate) fn visits(&mut self, now: Moment) -> Vec<u32> {
        let mut keys: Vec<u32> = self.pending.iter().chain(self.demands.keys()).copied().collect();
        keys.extend(std::mem::take(&mut self.queue));
        while let Some((_, key)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            keys.push(key);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(crate) fn forget_key(&mut self, key: u32) {
        self.demands.remove(&key);
        self.pending.remove(&key);
        self.queue.remove(&key);
    }

    /// Moves the averages on by `elapsed`, at whose end `observed` came; `None` for at once. Averages of keys that begin do
    /// not rise from nothing, or whoever reported first would count for more. What has died away is dropped.
    pub(crate) fn smooth(
        &mut self,
        observed: &HashMap<u32, u32>,
        begins: impl Fn(u32) -> bool,
        elapsed: Option<Duration>,
        over: Duration,
    ) {
        let weight = elapsed.map_or(1.0, |elapsed| {
            let over = over.as_secs_f64().max(f64::MIN_POSITIVE);
            -(-elapsed.as_secs_f64() / over).exp_m1()
        });
        for (key, parts) in observed {
            let first = if begins(*key) { f64::from(*parts) } else { 0.0 };
            self.demands.entry(*key).or_insert(first);
        }
        for (key, average) in &mut self.demands {
            let latest = f64::from(observed.get(key).copied().unwrap_or(0));
            *average += weight * (latest - *average);
        }
        self.demands.retain(|_, average| *average >= 0.5);
    }
}

/// An average of demand as it enters sums, which must not drift.
pub(crate) fn rounded(average: f64) -> u64 {
    // At most u32::MAX and never negative, being an average of such; the cast saturates anyhow.
    average.round() as u64
}
