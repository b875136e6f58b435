//! The one who gives.
//!
//! Why the law holds. Call an increase what lets somebody use more of a key than was counted for it: a lease above what binds
//! the proxy now and above its base share, or a higher base share. Each increase, at `t`, is allowed only where the sum over
//! all proxies of the most that each uses from `t` until `t + ttl` is at most the whole, itself included
//! ([`hold`](crate::hold)). Until `t + ttl` the sum so stays below the whole. After that, if there was no further increase,
//! every lease that was given as one has ended, nobody uses more than the base share that it had at `t`, and these sum up to
//! at most the whole because base shares follow the same rule.

mod demand;
mod grant;
mod membership;
#[cfg(test)]
mod succession_tests;
#[cfg(test)]
mod tests;

use crate::division::Room;
use crate::key::Keys;
use crate::moment::Moment;
use crate::proxy::Proxy;
use crate::{Counters, Grant, ManagedKey, Report, ReportError, Settings, Share, Standing};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Divides the limits of a mesh. One at a time: another may begin only when this one has ended for good.
#[derive(Debug)]
pub struct Authority {
    settings: Settings,
    /// The latest time that was ever told.
    now: Moment,
    learns_until: Moment,
    /// Of the last answer, to whomever.
    sequence: u64,
    /// Where proxies are.
    places: HashMap<Arc<str>, usize>,
    proxies: Vec<Option<Proxy>>,
    free: BTreeSet<usize>,
    /// The most that each may be using as its base share, by place.
    bases: Vec<Share>,
    base_total: u64,
    /// Those that report, and those that do not, by their last report.
    active: BTreeSet<(Moment, usize)>,
    silent: BTreeSet<(Moment, usize)>,
    silent_base: u64,
    /// Places of those that are silent, by node.
    silent_nodes: HashMap<Arc<str>, BTreeSet<usize>>,
    /// Proxies that said good-bye, so that a report that comes late does not bring them back.
    left: HashSet<Arc<str>>,
    left_at: VecDeque<(Moment, Arc<str>)>,
    keys: Keys,
    /// When to look for keys that nobody wants any more.
    tidies_at: Moment,
    counters: Counters,
}

impl Authority {
    /// One that knows nothing. For [`Settings::learning`] from now it gives nobody more than they say they have.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        let now = Moment::at(now);
        Self {
            learns_until: now.after(settings.learns_for()),
            tidies_at: now.after(settings.ttl / 2),
            sequence: settings.first_sequence.saturating_sub(1),
            settings,
            now,
            places: HashMap::new(),
            proxies: Vec::new(),
            free: BTreeSet::new(),
            bases: Vec::new(),
            base_total: 0,
            active: BTreeSet::new(),
            silent: BTreeSet::new(),
            silent_base: 0,
            silent_nodes: HashMap::new(),
            left: HashSet::new(),
            left_at: VecDeque::new(),
            keys: Keys::default(),
            counters: Counters::default(),
        }
    }

    /// Answers a report. `now` is when it was received and is answered, since any fixed moment; if it goes back, it stands.
    ///
    /// # Errors
    /// When the report is malformed or its proxy cannot be taken in. Such a proxy keeps what it has.
    pub fn exchange(&mut self, now: Duration, report: &Report) -> Result<Grant, ReportError> {
        self.advance(now);
        let admitted = report
            .check()
            .and_then(|()| self.admit(report))
            .inspect_err(|_| self.counters.refused += 1)?;
        self.counters.answered += 1;
        self.sequence = self.sequence.saturating_add(1);
        if report.leaving {
            self.bury(admitted.place);
            return Ok(self.farewell());
        }
        self.acknowledge(admitted.place, report.acknowledged);
        self.succeed(admitted.place);
        self.claim(admitted.place, report.base);
        self.take_demands(admitted, report);
        Ok(self.grant(admitted.place))
    }

    /// Forgets a proxy that is known to have ended: what it had is free at once.
    pub fn remove(&mut self, proxy: &str) {
        if let Some(place) = self.places.get(proxy).copied() {
            self.bury(place);
        }
    }

    /// Every proxy that shares are held for.
    pub fn proxies(&self) -> impl Iterator<Item = Standing> {
        let places = self.proxies.iter().enumerate();
        places.filter_map(|(place, proxy)| {
            let proxy = proxy.as_ref()?;
            let has_lease = |key: &&crate::key::Key| {
                let hold = key.hold(place);
                hold.is_some_and(|hold| hold.share(self.now).is_some())
            };
            Some(Standing {
                proxy: Arc::clone(&proxy.name),
                base: proxy.base.told(),
                base_bound: proxy.base.bound(),
                leases: self.keys.iter().filter(has_lease).count(),
                pending: proxy.pending.len(),
                since: proxy.since.since_origin(),
                seen: proxy.seen.since_origin(),
                is_silent: proxy.is_silent,
            })
        })
    }

    /// Every key with leases.
    pub fn managed(&self) -> impl Iterator<Item = ManagedKey> {
        self.keys.iter().map(|key| self.show(key))
    }

    /// The names of these keys with what all ask for, smoothed, in parts per million: a look at which ones are worth a
    /// [closer look](Self::managed_key).
    pub fn demands(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.keys.iter().map(|key| (&key.id, key.demand))
    }

    /// A key with leases.
    #[must_use]
    pub fn managed_key(&self, key: &str) -> Option<ManagedKey> {
        let place = self.keys.place(key)?;
        self.keys.get(place).map(|key| self.show(key))
    }

    fn show(&self, key: &crate::key::Key) -> ManagedKey {
        let shares = self.proxies.iter().enumerate().filter_map(|(place, proxy)| {
            let proxy = proxy.as_ref()?;
            let lease = key.hold(place).and_then(|hold| hold.share(self.now));
            Some((Arc::clone(&proxy.name), lease.unwrap_or(proxy.base.told())))
        });
        ManagedKey {
            key: Arc::clone(&key.id),
            shares: shares.collect(),
            used_parts: key.total(),
            demand_parts: key.demand,
        }
    }

    /// Keys with leases, without looking at them.
    #[must_use]
    pub fn managed_count(&self) -> usize {
        self.keys.len()
    }

    /// Whether it only lowers yet, as of the last report.
    #[must_use]
    pub fn is_learning(&self) -> bool {
        self.now < self.learns_until
    }

    /// What has happened since it began.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What those that report divide.
    fn room(&self) -> Room {
        Room {
            parts: Share::saturating(Share::WHOLE.wide().saturating_sub(self.silent_base)),
            proxies: u32::try_from(self.active.len()).unwrap_or(u32::MAX),
        }
    }

    fn proxy_mut(&mut self, place: usize) -> Option<&mut Proxy> {
        self.proxies.get_mut(place)?.as_mut()
    }

    fn base_of(&self, place: usize) -> Share {
        self.bases.get(place).copied().unwrap_or_default()
    }

    fn farewell(&self) -> Grant {
        Grant {
            sequence: self.sequence,
            base: Share::ZERO,
            leases: Vec::new(),
            ttl: self.settings.ttl,
            next_report: self.settings.report_interval,
        }
    }
}
