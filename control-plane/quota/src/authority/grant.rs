//! What a report is answered.

use super::Authority;
use crate::hold::{Hold, Span};
use crate::moment::Moment;
use crate::proxy::{Base, rounded};
use crate::{Grant, Lease, Share};
use std::sync::Arc;
use std::time::Duration;

/// A share that is off by no more than this part of itself is left until it is due.
const TOLERANCE: u32 = 20;

/// What was decided of one key for one proxy.
#[derive(Clone, Copy, Debug, Default)]
struct Decision {
    given: Option<Share>,
    /// It ought to be more, and others have to give way first.
    is_short: bool,
}

impl Authority {
    pub(super) fn acknowledge(&mut self, place: usize, sequence: Option<u64>) {
        let now = self.now;
        let Some(proxy) = self.proxies.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let Some(sequence) = sequence.filter(|sequence| proxy.take_acknowledgement(*sequence)) else {
            return;
        };
        let (base, told) = (self.bases.get(place).copied().unwrap_or_default(), proxy.base.bound());
        proxy.pending.retain(|key| {
            let Some(key) = self.keys.get_mut(*key) else {
                return false;
            };
            let done = key.change(place, base, now, |hold| hold.acknowledge(sequence));
            done == Some(false)
        });
        self.set_base(place, told, false);
    }

    /// What a proxy says it may be using counts, whatever was known.
    pub(super) fn claim(&mut self, place: usize, base: Share) {
        let sequence = self.sequence;
        let Some(proxy) = self.proxy_mut(place) else { return };
        let mut is_surprise = false;
        if !proxy.is_answered() {
            proxy.base = Base::claimed(base);
        } else if proxy.acknowledged.is_none() {
            proxy.base.claim_first(base, sequence);
        } else {
            is_surprise = proxy.base.claim(base, sequence);
        }
        let bound = proxy.base.bound();
        self.counters.surprises += u64::from(is_surprise);
        self.set_base(place, bound, false);
    }

    pub(super) fn grant(&mut self, place: usize) -> Grant {
        let (now, sequence) = (self.now, self.sequence);
        let mut hurries = self.divide_base(place);
        let Some(proxy) = self.proxy_mut(place) else {
            return self.farewell();
        };
        proxy.answer(sequence);
        let base = proxy.base.told();
        let keys = proxy.visits(now);
        let mut leases = Vec::new();
        for key in keys {
            let is_pending = self.proxy_mut(place).is_some_and(|proxy| proxy.pending.contains(&key));
            if leases.len() >= self.settings.max_leases && !is_pending {
                self.postpone(place, key);
                hurries = true;
                continue;
            }
            let decision = self.divide_key(place, key);
            if decision.is_short {
                self.postpone(place, key);
                hurries = true;
            }
            if let Some((lease, is_change)) = decision.given.and_then(|share| self.lease(place, key, share)) {
                leases.push(lease);
                hurries |= is_change;
            }
        }
        self.counters.leases += leases.len() as u64;
        Grant {
            sequence,
            base,
            leases,
            ttl: self.settings.ttl,
            next_report: self.pace(hurries),
        }
    }

    fn pace(&self, hurries: bool) -> Duration {
        if hurries {
            self.settings.hurried_interval
        } else {
            self.settings.report_interval
        }
    }

    /// Tells the proxy its base share: less at once, more as far as there is room. Whether there is something to wait for.
    fn divide_base(&mut self, place: usize) -> bool {
        let (target, sequence) = (self.room().equal(), self.sequence);
        let Some(told) = self.proxy_mut(place).map(|proxy| proxy.base.told()) else {
            return false;
        };
        let next = if target > told && !self.is_learning() {
            target.min(Share::saturating(told.wide() + self.base_slack(place)))
        } else {
            target.min(told)
        };
        let Some(proxy) = self.proxy_mut(place) else {
            return false;
        };
        proxy.base.tell(next, sequence);
        let (bound, is_pending) = (proxy.base.bound(), proxy.base.is_pending());
        self.set_base(place, bound, false);
        is_pending || (next < target && !self.is_learning())
    }

    /// How much more a base share may be without anything that is counted exceeding the whole.
    fn base_slack(&mut self, place: usize) -> u64 {
        let now = self.now;
        let mut slack = Share::WHOLE.wide().saturating_sub(self.base_total);
        for key in self.keys.iter_mut() {
            if slack == 0 {
                break;
            }
            key.refresh(&self.bases, now);
            let is_bound = key.hold(place).is_some_and(|hold| !hold.rests_on_base(now));
            if key.total() > Share::WHOLE.wide() {
                slack = 0;
            } else if !is_bound {
                slack = slack.min(key.slack());
            }
        }
        slack
    }

    fn divide_key(&mut self, place: usize, key_place: u32) -> Decision {
        let (now, ttl, room) = (self.now, self.settings.ttl, self.room());
        let (base, may_increase) = (self.base_of(place), !self.is_learning());
        let Some(proxy) = self.proxies.get(place).and_then(Option::as_ref) else {
            return Decision::default();
        };
        let Some(key) = self.keys.get_mut(key_place) else {
            return Decision::default();
        };
        key.refresh(&self.bases, now);
        if key.wanted.after(ttl) <= now {
            // Nobody wants it: leases run out.
            key.change(place, base, now, Hold::abandon);
            if let Some(proxy) = self.proxy_mut(place) {
                proxy.pending.remove(&key_place);
            }
            return Decision::default();
        }
        let demand = proxy.demands.get(&key_place).map_or(0, |average| rounded(*average));
        let target = room.part(demand, key.demand);
        let standing = Standing::of(key.hold(place), base, now, ttl);
        let is_off = standing.share.is_none_or(|share| {
            let gives_way = target < share && now < key.short_until;
            gives_way || target.parts().abs_diff(share.parts()) > share.parts() / TOLERANCE
        });
        if !is_off && !standing.is_pending && !standing.is_due {
            return Decision::default();
        }
        let wish = standing.share.filter(|_| !is_off && !standing.is_due).unwrap_or(target);
        let free = wish.min(standing.bound).min(proxy.base.least());
        let total = key.total();
        let given = if may_increase && total <= Share::WHOLE.wide() {
            let most = Share::saturating(key.slack() + standing.counted.wide());
            wish.min(most).max(free)
        } else {
            free
        };
        let is_short = given.wide() + u64::from(target.parts() / TOLERANCE) < target.wide();
        if is_short {
            key.short_until = now.after(self.settings.report_interval * 2);
        }
        // A lease that says what holds anyhow frees the base share from this key. One of less than that wins nothing yet.
        let is_idle = match standing.share {
            Some(share) => given == share && !standing.is_due,
            None => is_short && given < base,
        };
        let given = (standing.is_pending || !is_idle).then_some(given);
        Decision { given, is_short }
    }

    /// Gives a lease, and says whether it changes what the proxy has.
    fn lease(&mut self, place: usize, key_place: u32, share: Share) -> Option<(Lease, bool)> {
        let (now, ttl, sequence) = (self.now, self.settings.ttl, self.sequence);
        let base = self.base_of(place);
        let key = self.keys.get_mut(key_place)?;
        key.given = now;
        let is_change = key.change(place, base, now, |hold| {
            hold.give(Span::given(share, now, ttl), sequence);
            hold.is_changing(now)
        });
        let id = Arc::clone(&key.id);
        let proxy = self.proxy_mut(place)?;
        proxy.pending.insert(key_place);
        proxy.remember(key_place, now.after(ttl / 2));
        Some((Lease { key: id, share }, is_change?))
    }

    fn postpone(&mut self, place: usize, key: u32) {
        if let Some(proxy) = self.proxy_mut(place) {
            proxy.queue.insert(key);
        }
    }
}

/// How a proxy stands with a key.
struct Standing {
    share: Option<Share>,
    bound: Share,
    counted: Share,
    is_pending: bool,
    is_due: bool,
}

impl Standing {
    fn of(hold: Option<&Hold>, base: Share, now: Moment, ttl: Duration) -> Self {
        Self {
            share: hold.and_then(|hold| hold.share(now)),
            bound: hold.map_or(base, |hold| hold.bound(base, now, ttl)),
            counted: hold.map_or(Share::ZERO, Hold::counted),
            is_pending: hold.is_some_and(Hold::is_pending),
            is_due: hold.is_some_and(|hold| hold.is_due(now, ttl)),
        }
    }
}
