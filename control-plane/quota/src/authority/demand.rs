//! What is asked for, and which keys have leases because of it.

use super::Authority;
use super::membership::Admitted;
use crate::Report;
use crate::key::Key;
use crate::proxy::rounded;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Authority {
    /// Takes in the demands of a report.
    pub(super) fn take_demands(&mut self, admitted: Admitted, report: &Report) {
        let place = admitted.place;
        let equal = self.room().equal();
        let Some(proxy) = self.proxies.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        // A joiner's base share is still on its way up; what counts is what it is to become.
        let half = proxy.base.told().max(equal).parts() / 2;
        proxy.quiet.clear();
        let (mut observed, mut wanted) = (HashMap::new(), Vec::new());
        let mut refused = report.demands.len();
        for (key, parts) in report.sound_demands(self.settings.max_keys) {
            refused = refused.saturating_sub(1);
            let Some(place) = self.keys.place(key) else {
                proxy.quiet.entry(Arc::clone(key)).or_insert(parts);
                if parts > half {
                    wanted.push(key);
                }
                continue;
            };
            observed.entry(place).or_insert(parts);
        }
        self.counters.demands_refused += u64::try_from(refused).unwrap_or(u64::MAX);
        for (key, _) in observed.iter().filter(|(_, parts)| **parts > half) {
            self.want(*key);
        }
        self.average(admitted, &observed);
        for id in wanted {
            if self.is_learning() || self.keys.place(id).is_some() {
                continue;
            }
            let keys = self.keys.len() + 1;
            let holds = keys.saturating_mul(self.places.len());
            if keys <= self.settings.max_keys && holds <= self.settings.max_holds {
                self.manage(id);
            } else {
                self.counters.beyond_keys += 1;
            }
        }
    }

    fn average(&mut self, admitted: Admitted, observed: &HashMap<u32, u32>) {
        let Some(proxy) = self.proxies.get_mut(admitted.place).and_then(Option::as_mut) else {
            return;
        };
        let before: BTreeMap<u32, f64> = proxy.demands.clone();
        let (now, over) = (self.now, self.settings.smoothing);
        let begins = |key| self.keys.get(key).is_some_and(|key| now < key.since.after(over));
        proxy.smooth(observed, begins, admitted.elapsed, over);
        for key in before
            .keys()
            .chain(observed.keys().filter(|key| !before.contains_key(key)))
        {
            let of = |averages: &BTreeMap<u32, f64>| averages.get(key).map_or(0, |average| rounded(*average));
            let (from, to) = (of(&before), of(&proxy.demands));
            if to == 0 {
                // What it no longer asks for, others may get.
                proxy.queue.insert(*key);
            }
            if let Some(key) = self.keys.get_mut(*key) {
                key.ask(from, to);
            }
        }
    }

    /// Somebody wants more of a key than half of a base share.
    fn want(&mut self, place: u32) {
        let (now, ttl) = (self.now, self.settings.ttl);
        let Some(key) = self.keys.get_mut(place) else { return };
        let was_over = key.wanted.after(ttl) <= now;
        key.wanted = now;
        if was_over {
            self.queue_everywhere(place);
        }
    }

    /// Begins to give leases of a key, by what everybody last said of it.
    fn manage(&mut self, id: &Arc<str>) {
        let Some(place) = self.keys.insert(Key::new(Arc::clone(id), &self.bases, self.now)) else {
            return;
        };
        let mut demand = 0;
        for proxy in self.proxies.iter_mut().flatten() {
            if let Some(parts) = proxy.quiet.remove(id).filter(|parts| *parts > 0) {
                proxy.demands.insert(place, parts.into());
                demand += u64::from(parts);
            }
        }
        if let Some(key) = self.keys.get_mut(place) {
            key.ask(0, demand);
        }
        self.queue_everywhere(place);
    }

    fn queue_everywhere(&mut self, place: u32) {
        for proxy in self.proxies.iter_mut().flatten() {
            proxy.queue.insert(place);
        }
    }

    /// Forgets keys that nobody wants, once every lease above a base share has ended.
    pub(super) fn tidy(&mut self) {
        let (now, ttl) = (self.now, self.settings.ttl);
        let over = self
            .keys
            .over(|key| key.wanted.after(ttl) <= now && key.given.after(ttl) <= now);
        for place in over {
            self.keys.remove(place);
            for proxy in self.proxies.iter_mut().flatten() {
                proxy.forget_key(place);
            }
        }
    }
}
