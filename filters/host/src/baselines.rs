//! What requests of each kind take, learnt by all threads of the proxy together.
//!
//! A thread counts into a part of its own, without asking anybody. Once a second it adds that to the slot that all threads
//! share, and takes the timeout that was learnt, which one of them steps every half minute. Kinds have their places in a
//! directory that cannot grow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use kilocard_latency::baseline::Shape;
use kilocard_latency::key::{Directory, Key, Place};
use kilocard_latency::learner::{Learner, Tally, View};
use kilocard_latency::survival::Survival;
use kilocard_latency::timeout::Applied;
use kilocard_latency::window::{self, Epoch, SLOTS, Slot};
use kilocard_policy::deadline::Bounds;

use crate::abi::{self, HostError};
use crate::shared::swap;

/// Where the directory is.
const DIRECTORY: &str = "kilocard.latency.directory";
/// How often a thread adds its part and looks for what was learnt.
const EVERY: Duration = Duration::from_secs(1);
/// Kinds of which a thread learns. More can only come from versions that nobody routes.
const MAX_KINDS: usize = 512;
/// Load of the pool, where nobody tells it: the least that the law counts.
const LOAD: f64 = 0.0;

thread_local! {
    static KINDS: RefCell<Kinds> = RefCell::default();
}

/// What one thread keeps.
#[derive(Default)]
struct Kinds {
    all: HashMap<Key, Kind>,
    due: Duration,
}

/// One kind of request, or all that share the overflow.
struct Kind {
    place: Place,
    bounds: Bounds,
    /// Not yet added to what all threads share.
    part: Slot,
    tally: Tally,
    learner: Learner,
}

/// How a phase of a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Ended,
    /// By its timeout.
    TimedOut,
    /// By the client, or by a deadline of its own: it would have taken longer.
    GivenUp,
}

/// What a phase of a request may take now; with two draws of 0 … 1, for jitter and for probes.
pub(crate) fn timeout(
    key: &Key,
    bounds: &Bounds,
    client: Option<Duration>,
    (jitter, probe): (f64, f64),
    now: Duration,
) -> Result<Applied, HostError> {
    KINDS.with_borrow_mut(|kinds| {
        let learner = match kinds.kind(key, bounds, now)? {
            Some(kind) => kind.learner,
            None => Learner::new(Some(bounds.prior), &bounds.settings),
        };
        let timeout = if bounds.settings.is_probe(probe, LOAD) {
            bounds.settings.ceiling
        } else {
            learner.timeout()
        };
        Ok(bounds.settings.apply(timeout, learner.base(), jitter, client))
    })
}

/// Notes how long a phase of a request took, or has taken when it was cut off.
pub(crate) fn note(key: &Key, took: Duration, ending: Ending, now: Duration) {
    KINDS.with_borrow_mut(|kinds| {
        // One that is no longer there was not seen for a whole window.
        let Some(kind) = kinds.all.get_mut(key) else { return };
        if kind.part.epoch() != Epoch::at(now) && kind.flush(now).is_err() {
            return;
        }
        let survival = kind.part.survival_mut();
        match ending {
            Ending::Ended => {
                survival.record(took);
                kind.tally.ended = kind.tally.ended.saturating_add(1);
            }
            Ending::TimedOut => {
                survival.record_censored(took);
                kind.tally.timed_out = kind.tally.timed_out.saturating_add(1);
            }
            Ending::GivenUp => survival.record_censored(took),
        }
    });
}

/// What is due now.
pub(crate) fn tick(now: Duration) -> Result<(), HostError> {
    KINDS.with_borrow_mut(|kinds| {
        if now < kinds.due {
            return Ok(());
        }
        kinds.due = now + EVERY;
        for kind in kinds.all.values_mut() {
            kind.flush(now)?;
        }
        // What was not asked for in this epoch is asked for anew, or has lost its place.
        let epoch = Epoch::at(now);
        kinds
            .all
            .retain(|_, kind| kind.part.epoch() == epoch || !kind.part.survival().is_empty());
        Ok(())
    })
}

impl Kinds {
    /// Nothing, if there are too many.
    fn kind(&mut self, key: &Key, bounds: &Bounds, now: Duration) -> Result<Option<&mut Kind>, HostError> {
        let epoch = Epoch::at(now);
        let is_full = self.all.len() >= MAX_KINDS;
        let known = self.all.get_mut(key);
        let is_current = known
            .as_ref()
            .is_some_and(|kind| kind.part.epoch() == epoch && kind.bounds == *bounds);
        if !is_current {
            match known {
                Some(kind) => kind.flush(now)?,
                None if is_full => return Ok(None),
                None => {}
            }
            self.all.insert(key.clone(), Kind::claim(key, bounds, now)?);
        }
        Ok(self.all.get_mut(key))
    }
}

impl Kind {
    fn claim(key: &Key, bounds: &Bounds, now: Duration) -> Result<Self, HostError> {
        let place = claim(key, now)?;
        let (bytes, _) = abi::shared_data(&learner_of(place))?;
        Ok(Self {
            place,
            bounds: *bounds,
            part: Slot::new(place.tenure, Epoch::at(now)),
            tally: Tally::default(),
            learner: read_learner(&bytes, place, bounds),
        })
    }

    /// Adds this thread's part to what all share, and learns.
    fn flush(&mut self, now: Duration) -> Result<(), HostError> {
        let part = std::mem::replace(&mut self.part, Slot::new(self.place.tenure, Epoch::at(now)));
        if !part.survival().is_empty() {
            let name = slot_of(self.place, part.epoch().place());
            // What is lost when others are quicker each time is a second's part of what one thread has counted.
            swap(&name, |bytes| Some(Slot::flush(&bytes, &part, now)))?;
        }
        let tally = std::mem::take(&mut self.tally);
        let (bytes, _) = abi::shared_data(&learner_of(self.place))?;
        let known = read_learner(&bytes, self.place, &self.bounds);
        self.learner = known;
        if tally == Tally::default() && !known.is_due(now) {
            return Ok(());
        }
        let window = if known.is_due(now) {
            Some(self.window(now)?)
        } else {
            None
        };
        let settings = self.bounds.settings;
        let mut stepped = known;
        swap(&learner_of(self.place), |bytes| {
            let mut learner = read_learner(&bytes, self.place, &self.bounds);
            learner.tally(tally, now, &settings);
            if let Some(window) = &window {
                let view = View {
                    window,
                    shape: Shape::default(),
                    load: LOAD,
                    is_frozen: false,
                    fleet: None,
                };
                learner.step(now, &view, &settings);
            }
            stepped = learner;
            Some([self.place.tenure.to_le_bytes().as_slice(), &learner.to_bytes()].concat())
        })?;
        self.learner = stepped;
        Ok(())
    }

    fn window(&self, now: Duration) -> Result<Survival, HostError> {
        let mut slots = Vec::new();
        for place in 0..SLOTS {
            slots.push(abi::shared_data(&slot_of(self.place, place))?.0);
        }
        Ok(window::total(slots.iter().map(Vec::as_slice), self.place.tenure, now))
    }
}

fn claim(key: &Key, now: Duration) -> Result<Place, HostError> {
    let mut found = Place::OVERFLOW;
    swap(DIRECTORY, |bytes| {
        let mut directory = Directory::from_bytes(&bytes);
        let (place, is_news) = directory.claim(key, now);
        found = place;
        is_news.then(|| directory.to_bytes())
    })?;
    Ok(found)
}

fn slot_of(place: Place, slot: u64) -> String {
    format!("kilocard.latency.slot.{}.{slot}", place.index)
}

fn learner_of(place: Place) -> String {
    format!("kilocard.latency.learner.{}", place.index)
}

/// What was learnt under an earlier tenure was of another kind.
fn read_learner(bytes: &[u8], place: Place, bounds: &Bounds) -> Learner {
    let own = bytes.strip_prefix(place.tenure.to_le_bytes().as_slice());
    Learner::from_bytes(own.unwrap_or_default(), Some(bounds.prior), &bounds.settings)
}
