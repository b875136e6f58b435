//! Who takes part.

use super::Authority;
use crate::hold::Hold;
use crate::moment::Moment;
use crate::proxy::{Proxy, rounded};
use crate::{Report, ReportError, Share};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A proxy whose report is being answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) place: usize,
    /// Since its report before.
    pub(super) elapsed: Option<Duration>,
}

impl Authority {
    /// Does what time alone brings about.
    pub(super) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(Moment::at(now));
        while let Some((_, place)) = pop_before(&mut self.active, self.now, self.settings.silent_after) {
            self.silence(place);
        }
        while let Some((_, place)) = pop_before(&mut self.silent, self.now, self.settings.forget_after) {
            self.counters.forgotten += 1;
            self.vacate(place);
        }
        let (now, forget_after) = (self.now, self.settings.forget_after);
        while let Some((_, name)) = self.left_at.pop_front_if(|(at, _)| at.after(forget_after) <= now) {
            self.left.remove(&name);
        }
        if self.tidies_at <= self.now {
            self.tidies_at = self.now.after(self.settings.ttl / 2);
            self.tidy();
        }
    }

    pub(super) fn admit(&mut self, report: &Report) -> Result<Admitted, ReportError> {
        if self.left.contains(report.proxy.as_str()) {
            return Err(ReportError::Left);
        }
        let now = self.now;
        if let Some(place) = self.places.get(report.proxy.as_str()).copied() {
            return Ok(self.readmit(place));
        }
        let limit = self.settings.max_proxies;
        if self.places.len() >= limit {
            return Err(ReportError::Proxies { limit });
        }
        let name: Arc<str> = Arc::from(report.proxy.as_str());
        let mut proxy = Proxy::new(Arc::clone(&name), report.known_node().map(Arc::from), now);
        proxy.queue = self.keys.places().collect();
        let place = self.free.pop_first().unwrap_or(self.proxies.len());
        if place == self.proxies.len() {
            self.proxies.push(Some(proxy));
            self.bases.push(Share::ZERO);
        } else if let Some(slot) = self.proxies.get_mut(place) {
            *slot = Some(proxy);
        }
        self.places.insert(name, place);
        self.active.insert((now, place));
        Ok(Admitted { place, elapsed: None })
    }

    fn readmit(&mut self, place: usize) -> Admitted {
        let (now, base) = (self.now, self.base_of(place));
        let mut elapsed = None;
        if let Some(proxy) = self.proxies.get_mut(place).and_then(Option::as_mut) {
            elapsed = Some(now.since(proxy.seen));
            if std::mem::take(&mut proxy.is_silent) {
                self.silent.remove(&(proxy.seen, place));
                unlist(&mut self.silent_nodes, proxy.node.as_ref(), place);
                self.silent_base -= base.wide();
                // Its old average has gone from the sums.
                elapsed = None;
                proxy.queue = self.keys.places().collect();
            } else {
                self.active.remove(&(proxy.seen, place));
            }
            proxy.seen = now;
            self.active.insert((now, place));
        }
        Admitted { place, elapsed }
    }

    /// Takes a proxy out of the division that has stopped reporting.
    fn silence(&mut self, place: usize) {
        self.silent_base += self.base_of(place).wide();
        let Some(proxy) = self.proxies.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        proxy.is_silent = true;
        proxy.quiet.clear();
        self.silent.insert((proxy.seen, place));
        if let Some(node) = &proxy.node {
            self.silent_nodes.entry(Arc::clone(node)).or_default().insert(place);
        }
        for (key, average) in std::mem::take(&mut proxy.demands) {
            if let Some(key) = self.keys.get_mut(key) {
                key.ask(rounded(average), 0);
            }
        }
    }

    /// Forgets the silent processes of this proxy's node that are known to have begun before it last took an answer. Since the
    /// processes of a node follow one another, and one that hands over goes on reporting, these have ended.
    pub(super) fn succeed(&mut self, place: usize) {
        let Some(proxy) = self.proxies.get(place).and_then(Option::as_ref) else {
            return;
        };
        let silent = proxy.node.as_ref().and_then(|node| self.silent_nodes.get(node));
        let ended = silent.into_iter().flatten().copied().filter(|silent| {
            let other = self.proxies.get(*silent).and_then(Option::as_ref);
            other.is_some_and(|other| proxy.outlived_start_of(other))
        });
        for ended in ended.collect::<Vec<_>>() {
            if let Some(other) = self.proxies.get(ended).and_then(Option::as_ref) {
                self.silent.remove(&(other.seen, ended));
                self.counters.succeeded += 1;
                self.vacate(ended);
            }
        }
    }

    /// A proxy that has ended.
    pub(super) fn bury(&mut self, place: usize) {
        let Some(proxy) = self.proxy_mut(place) else { return };
        let (name, seen) = (Arc::clone(&proxy.name), proxy.seen);
        if self.active.remove(&(seen, place)) {
            self.silence(place);
        }
        self.silent.remove(&(seen, place));
        self.vacate(place);
        if self.left_at.len() >= self.settings.max_proxies
            && let Some((_, oldest)) = self.left_at.pop_front()
        {
            self.left.remove(&oldest);
        }
        self.left.insert(Arc::clone(&name));
        self.left_at.push_back((self.now, name));
    }

    /// Frees the place of a proxy that is silent.
    fn vacate(&mut self, place: usize) {
        self.set_base(place, Share::ZERO, true);
        if let Some(proxy) = self.proxies.get_mut(place).and_then(Option::take) {
            self.places.remove(&proxy.name);
            unlist(&mut self.silent_nodes, proxy.node.as_ref(), place);
            self.free.insert(place);
        }
        let now = self.now;
        for key in self.keys.iter_mut() {
            key.change(place, Share::ZERO, now, |hold| {
                *hold = Hold::on_base(Share::ZERO);
            });
        }
    }

    /// Writes down what a proxy may be using as its base share, and counts it in every key.
    pub(super) fn set_base(&mut self, place: usize, base: Share, is_silent: bool) {
        let before = self.base_of(place);
        let Some(slot) = self.bases.get_mut(place).filter(|_| before != base) else {
            return;
        };
        *slot = base;
        self.base_total = self.base_total - before.wide() + base.wide();
        if is_silent {
            self.silent_base = self.silent_base - before.wide() + base.wide();
        }
        let now = self.now;
        for key in self.keys.iter_mut() {
            key.change(place, base, now, |_| ());
        }
    }
}

fn unlist(nodes: &mut HashMap<Arc<str>, BTreeSet<usize>>, node: Option<&Arc<str>>, place: usize) {
    let Some(node) = node else { return };
    if let Some(places) = nodes.get_mut(node) {
        places.remove(&place);
        if places.is_empty() {
            nodes.remove(node);
        }
    }
}

fn pop_before(set: &mut BTreeSet<(Moment, usize)>, now: Moment, after: Duration) -> Option<(Moment, usize)> {
    let first = set.first().copied().filter(|(seen, _)| seen.after(after) <= now)?;
    set.remove(&first);
    Some(first)
}
