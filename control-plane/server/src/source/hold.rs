//! Holding workers whose records vanished in a crowd. Pure: time is given.
//!
//! A worker's record goes when its lease runs out, and leases run out together when the fault is etcd's or the network's
//! between it and the workers, who meanwhile serve on. So when more than [`SHARE`] of all workers, and at least [`COUNT`],
//! vanish within [`WINDOW`] without having said that they leave, they stay in the mesh: the proxies' own outlier detection
//! and health checks deal with those that are truly dead. A hold ends for a worker that comes back or takes its leave, and
//! for all when a person says so, when its time is over, or when those still missing have been too few for a crowd for as
//! long as the window.

use crate::model::Worker;
use crate::model::inventory::Stored;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Losses count together when they are no further apart than this.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Share of all workers beyond which a loss is a crowd…
pub const SHARE: f64 = 0.3;
/// … and the least number, since of three workers one is a third.
pub const COUNT: usize = 3;

/// Whether so many missing, of so many that there were, are a crowd.
pub fn is_crowd(missing: usize, all: usize) -> bool {
    missing >= COUNT && missing as f64 > all as f64 * SHARE
}

/// A worker that vanished without having said that it leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Gone {
    /// As it was last known.
    pub worker: Arc<Worker>,
    /// Its record, as it last stood.
    pub record: Stored,
    /// When it vanished.
    pub at: Instant,
}

/// The state: who vanished lately, and who is held.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Longest time that a hold lasts; zero holds nobody.
    limit: Duration,
    /// Vanished within the window, by id.
    recent: BTreeMap<String, Gone>,
    active: Option<Active>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// Since when.
    pub since: Instant,
    /// When it ends at the latest.
    pub until: Instant,
    /// Since when those missing are too few for a crowd, if they are.
    calm_since: Option<Instant>,
    /// Who is held, by id; never empty.
    pub workers: BTreeMap<String, Gone>,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All came back or took their leave.
    Returned,
    /// Those still missing were too few for a crowd, for as long as the window.
    Calm,
    /// Its longest time was over.
    TimeOver,
    /// A person said so.
    Released,
}

impl Ended {
    /// Label in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Calm => "calm",
            Self::TimeOver => "time_over",
            Self::Released => "released",
        }
    }
}

impl Hold {
    /// Nobody held; no hold lasts longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            recent: BTreeMap::new(),
            active: None,
        }
    }

    /// The hold, while there is one.
    pub fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    /// Longest time that a hold lasts.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Takes what one change of the records amounts to: who vanished, who is there again or took its leave, and how many
    /// workers there are now.
    pub fn take<'a>(
        &mut self,
        gone: Vec<Gone>,
        accounted: impl Iterator<Item = &'a str>,
        present: usize,
        now: Instant,
    ) -> Option<Ended> {
        for id in accounted {
            self.recent.remove(id);
            if let Some(active) = &mut self.active {
                active.workers.remove(id);
            }
        }
        let gone = gone.into_iter().map(|gone| (gone.worker.id.clone(), gone));
        match &mut self.active {
            Some(active) => active.workers.extend(gone),
            None => {
                self.recent.retain(|_, lost| now.duration_since(lost.at) <= WINDOW);
                self.recent.extend(gone);
                if !self.limit.is_zero() && is_crowd(self.recent.len(), present + self.recent.len()) {
                    self.active = Some(Active {
                        since: now,
                        until: now + self.limit,
                        calm_since: None,
                        workers: std::mem::take(&mut self.recent),
                    });
                }
            }
        }
        self.settle(present, now)
    }

    /// Takes up a hold that an earlier process left behind; it began at `since`.
    pub fn resume(&mut self, workers: BTreeMap<String, Gone>, since: Instant) {
        if !workers.is_empty() && !self.limit.is_zero() {
            self.active = Some(Active {
                since,
                until: since + self.limit,
                calm_since: None,
                workers,
            });
        }
    }

    /// Lets go of whoever is held if it is time to.
    pub fn tick(&mut self, now: Instant) -> Option<Ended> {
        let active = self.active.as_ref()?;
        let ended = if active.until <= now {
            Ended::TimeOver
        } else if active
            .calm_since
            .is_some_and(|since| now.duration_since(since) >= WINDOW)
        {
            Ended::Calm
        } else {
            return None;
        };
        self.active = None;
        Some(ended)
    }

    /// Lets go of whoever is held, and forgets the losses that led to it; how many were held.
    pub fn release(&mut self) -> usize {
        self.recent.clear();
        self.active.take().map_or(0, |active| active.workers.len())
    }

    /// When [`Hold::tick`] is worth asking.
    pub fn due(&self) -> Option<Instant> {
        let active = self.active.as_ref()?;
        let calm = active.calm_since.map(|since| since + WINDOW);
        Some(calm.map_or(active.until, |calm| calm.min(active.until)))
    }

    fn settle(&mut self, present: usize, now: Instant) -> Option<Ended> {
        let active = self.active.as_mut()?;
        let missing = active.workers.len();
        if missing == 0 {
            self.active = None;
            return Some(Ended::Returned);
        }
        if is_crowd(missing, present + missing) {
            active.calm_since = None;
        } else {
            active.calm_since.get_or_insert(now);
        }
        None
    }
}

#[cfg(test)]
mod tests;
