//! What a proxy may be using of one key, as far as the authority can know.
//!
//! An answer may be lost, late, or in force in some threads only. So until it is acknowledged, both it and what was before
//! count. Each possibility is a [`Span`]; a lease given at `g` is one that
//!
//! - allows its share until `g + ttl`, since the proxy had sent the report before `g`, and
//! - binds the proxy to its share until `g + 2·ttl`, since the proxy receives the answer after `g`.
//!
//! [`Span::counted`] is the most that is used from now until a ttl from now, [`Span::bound`] the most that is used now.

use crate::Share;
use crate::moment::Moment;
use std::time::Duration;

/// A lease, or several of which any may be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) share: Share,
    /// Above the base share, the share may be used until then.
    pub(crate) above_until: Moment,
    /// A lease that is given until then can rely on this one to bind as long as it lasts; a ttl later it binds no longer.
    pub(crate) firm_until: Moment,
}

impl Span {
    /// No lease.
    pub(crate) const NONE: Self = Self {
        share: Share::ZERO,
        above_until: Moment::START,
        firm_until: Moment::START,
    };

    pub(crate) fn given(share: Share, now: Moment, ttl: Duration) -> Self {
        Self {
            share,
            above_until: now.after(ttl),
            firm_until: now.after(ttl),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            share: self.share.max(other.share),
            above_until: self.above_until.max(other.above_until),
            firm_until: self.firm_until.min(other.firm_until),
        }
    }

    pub(crate) fn is_firm(&self, now: Moment) -> bool {
        now < self.firm_until
    }

    /// The most that may be used from now until a ttl from now, with `base` as the base share.
    fn counted(&self, base: Share, now: Moment) -> Share {
        let above = if now < self.above_until {
            self.share
        } else {
            Share::ZERO
        };
        let fallen_back = if self.is_firm(now) { Share::ZERO } else { base };
        above.max(fallen_back)
    }

    /// The most that may be used now.
    fn bound(&self, base: Share, now: Moment, ttl: Duration) -> Share {
        let binds = self.firm_until != Moment::START && now < self.firm_until.after(ttl);
        match (now < self.above_until, binds) {
            (true, true) => self.share,
            (true, false) => self.share.max(base),
            (false, true) => self.share.min(base),
            (false, false) => base,
        }
    }
}

/// A share that is in every answer from `first` to `last`, and not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    span: Span,
    first: u64,
    last: u64,
    /// As `span.firm_until`, if the last of the answers is in force.
    last_firm_until: Moment,
}

/// One proxy's standing with one key.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// What may be in force if nothing of `sent` is.
    held: Span,
    sent: Option<Box<Sent>>,
    /// What it counts for in the sum of the key.
    counted: Share,
}

impl Hold {
    /// One without a lease.
    pub(crate) fn on_base(base: Share) -> Self {
        Self {
            held: Span::NONE,
            sent: None,
            counted: base,
        }
    }

    fn spans(&self) -> impl Iterator<Item = &Span> {
        std::iter::once(&self.held).chain(self.sent.iter().map(|sent| &sent.span))
    }

    /// As of the last [`count`](Self::count).
    pub(crate) fn counted(&self) -> Share {
        self.counted
    }

    /// Counts anew; the answer holds until [`next_change`](Self::next_change), or something is given or acknowledged.
    pub(crate) fn count(&mut self, base: Share, now: Moment) -> Share {
        self.counted = self
            .spans()
            .map(|span| span.counted(base, now))
            .max()
            .unwrap_or_default();
        self.counted
    }

    /// When the count changes by time alone.
    pub(crate) fn next_change(&self, now: Moment) -> Moment {
        self.spans()
            .flat_map(|span| [span.above_until, span.firm_until])
            .filter(|at| *at > now)
            .min()
            .unwrap_or(Moment::NEVER)
    }

    /// The most that may be used now.
    pub(crate) fn bound(&self, base: Share, now: Moment, ttl: Duration) -> Share {
        self.spans()
            .map(|span| span.bound(base, now, ttl))
            .max()
            .unwrap_or_default()
    }

    /// Whether the base share matters to the count.
    pub(crate) fn rests_on_base(&self, now: Moment) -> bool {
        self.spans().any(|span| !span.is_firm(now))
    }

    /// The share last given, while it is firm.
    pub(crate) fn share(&self, now: Moment) -> Option<Share> {
        let last = self.last();
        (now < last.above_until).then_some(last.share)
    }

    /// Whether the share last given has to be given again soon.
    pub(crate) fn is_due(&self, now: Moment, ttl: Duration) -> bool {
        now.after(ttl / 2) >= self.last().above_until
    }

    fn last(&self) -> &Span {
        self.sent.as_ref().map_or(&self.held, |sent| &sent.span)
    }

    /// An answer is on its way.
    pub(crate) fn is_pending(&self) -> bool {
        self.sent.is_some()
    }

    /// The same, and it changes what the proxy has.
    pub(crate) fn is_changing(&self, now: Moment) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|sent| !self.held.is_firm(now) || sent.span.share != self.held.share)
    }

    /// Until something else is given, or this is acknowledged, every answer to the proxy has to give it again.
    pub(crate) fn give(&mut self, span: Span, sequence: u64) {
        match &mut self.sent {
            Some(sent) if sent.span.share == span.share => {
                sent.span.above_until = span.above_until;
                sent.last_firm_until = span.firm_until;
                sent.last = sequence;
            }
            sent => {
                if let Some(before) = sent {
                    self.held = self.held.or(before.span);
                }
                *sent = Some(Box::new(Sent {
                    span,
                    first: sequence,
                    last: sequence,
                    last_firm_until: span.firm_until,
                }));
            }
        }
    }

    /// An answer, and with it every one before, is in force in the whole proxy. Whether nothing is on its way any more.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> bool {
        let Some(sent) = &mut self.sent else { return true };
        if sequence < sent.first {
            return false;
        }
        self.held = sent.span;
        // Of those after the first it is only known that one is in force; which one, the next acknowledgement says.
        sent.first = sent.last;
        sent.span.firm_until = sent.last_firm_until;
        if sequence < sent.last {
            return false;
        }
        self.held.firm_until = sent.last_firm_until;
        self.sent = None;
        true
    }

    /// What is on its way will not be given again.
    pub(crate) fn abandon(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.held = self.held.or(sent.span);
        }
    }
}

#[cfg(test)]
mod tests;
