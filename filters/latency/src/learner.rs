//! The slow loop of one kind of request: every half minute its baseline and its timeout are learnt anew.
//!
//! The state is one small value of the store, stepped by whichever thread comes first in an epoch and swaps it. A VM that is
//! loaded anew goes on from it, and the control plane keeps it for the next proxy.

use std::time::Duration;

use crate::baseline::{Accepted, Baseline, Basis, Shape};
use crate::codec::Reader;
use crate::sketch::micros;
use crate::survival::Survival;
use crate::timeout::Settings;
use crate::window::Epoch;

mod surge;

pub use surge::{Surge, Tally};

const FORM: u8 = 1;

/// What a kind of request is known to take, and its timeout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learner {
    baseline: Option<Baseline>,
    timeout: Duration,
    stepped: Option<Epoch>,
    surge: Surge,
}

/// What a step goes by.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    /// The window, without what came from endpoints under suspicion.
    pub window: &'v Survival,
    /// The tail of the family.
    pub shape: Shape,
    /// Load of the pool, 0 … 1 and more.
    pub load: f64,
    /// A fault is suspected: nothing is learnt, lest it become what is usual.
    pub is_frozen: bool,
    /// What the control plane says of the fleet, if it said so lately; taken by [`Baseline::accept`].
    pub fleet: Option<Accepted>,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the baseline rests on; nothing where nothing is known or learning is frozen.
    pub basis: Option<Basis>,
    /// The timeout before.
    pub before: Duration,
    /// The timeout now.
    pub timeout: Duration,
}

impl Learner {
    /// The most bytes of an encoding.
    pub const MAX_BYTES: usize = 1 + 8 + 9 + Surge::BYTES + 1 + Baseline::BYTES;

    /// Before anything was learnt: by what was kept or what the policy guesses, or else at the ceiling.
    pub fn new(prior: Option<Baseline>, settings: &Settings) -> Self {
        let timeout = prior.map_or(settings.ceiling, |prior| settings.step(None, prior.p999, 0.0));
        Self {
            baseline: prior.map(|prior| Baseline { samples: 0, ..prior }),
            timeout: settings.bound(timeout),
            stepped: None,
            surge: Surge::default(),
        }
    }

    /// What is known; nothing at first, without a prior.
    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// The timeout; each request [applies](Settings::apply) it with its own jitter and deadline.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What the jitter is a part of: the P99.9, or the timeout while there is none.
    pub fn base(&self) -> Duration {
        self.baseline.map_or(self.timeout, |baseline| baseline.p999)
    }

    /// Whether a step is due: only then is it worth adding up the window.
    pub fn is_due(&self, now: Duration) -> bool {
        self.stepped != Some(Epoch::at(now))
    }

    /// Steps once in an epoch; asked more often, it does nothing. Epochs that were missed are not made up for.
    pub fn step(&mut self, now: Duration, view: &View<'_>, settings: &Settings) -> Option<Step> {
        // A clock that has gone back has not been seen by a step either.
        if !self.is_due(now) {
            return None;
        }
        self.stepped = Some(Epoch::at(now));
        let before = self.timeout;
        let mut basis = None;
        if !view.is_frozen {
            let prior = view.fleet.map(|fleet| fleet.baseline).or(self.baseline);
            let learned = Baseline::learn(view.window, prior.as_ref(), &view.shape);
            basis = learned.map(|learned| learned.basis);
            self.baseline = learned.map(|learned| learned.baseline).or(self.baseline);
        }
        self.timeout = match self.baseline {
            Some(baseline) => settings.step(Some(before), baseline.p999, view.load),
            None => settings.ceiling,
        };
        Some(Step {
            basis,
            before,
            timeout: self.timeout,
        })
    }

    /// Takes in how many requests have ended and how many ran into the timeout since the last tally, of endpoints that are
    /// not under suspicion. If far more than one in a thousand did, what is usual has changed: the timeout is raised at once,
    /// by one step at most in ten seconds. The timeout then, if it was raised.
    pub fn tally(&mut self, tally: Tally, now: Duration, settings: &Settings) -> Option<Duration> {
        if !self.surge.take(tally, now) {
            return None;
        }
        let raised = settings.raise(self.timeout);
        let is_raised = raised > self.timeout;
        self.timeout = raised;
        is_raised.then_some(raised)
    }

    /// For the store: form u8, timeout u64 in microseconds, epoch of the last step, surge, baseline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(micros(self.timeout).to_le_bytes());
        bytes.push(self.stepped.is_some().into());
        bytes.extend(self.stepped.unwrap_or_default().get().to_le_bytes());
        self.surge.put(&mut bytes);
        bytes.push(self.baseline.is_some().into());
        bytes.extend(self.baseline.iter().flat_map(Baseline::to_bytes));
        bytes
    }

    /// Of such bytes; of others, what is [new](Self::new) by the prior. The policy's bounds hold for a timeout that was
    /// stored under others.
    pub fn from_bytes(bytes: &[u8], prior: Option<Baseline>, settings: &Settings) -> Self {
        Self::read(bytes, settings).unwrap_or_else(|| Self::new(prior, settings))
    }

    fn read(bytes: &[u8], settings: &Settings) -> Option<Self> {
        let mut reader = Reader::of_form(bytes, FORM)?;
        let timeout = settings.bound(Duration::from_micros(reader.u64()?));
        let has_stepped = reader.u8()? != 0;
        let stepped = Epoch::new(reader.u64()?);
        let surge = Surge::read(&mut reader)?;
        let baseline = match reader.u8()? {
            0 => None,
            _ => Some(Baseline::read(&mut reader)?),
        };
        reader.is_empty().then_some(Self {
            baseline,
            timeout,
            stepped: has_stepped.then_some(stepped),
            surge,
        })
    }
}

#[cfg(test)]
mod tests;
