//! What every source shares: it takes listings and changes in, and gives out the mesh, the verdicts and what is to be
//! saved. A clone is the same intake; each call is short, so that a lock serves.

use crate::model::Mesh;
use crate::saved::{Label, Labelled, Origin};
use crate::source::hold::{Active, Ended};
use crate::source::ledger::Ledger;
use crate::source::mirror::{Listing, Message, Relist};
use crate::source::{Feeds, Health};
use crate::status::Book;
use kilocard_registry::layout::Layout;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// While the source is away nobody is let go of, however long the hold has lasted: look again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The common end of all sources.
#[derive(Clone, Debug)]
pub struct Intake {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    layout: Layout,
    hold_for: Duration,
    health: Health,
    mesh: watch::Sender<Option<Arc<Mesh>>>,
    book: watch::Sender<Book>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    serving: Serving,
    origin: Origin,
    /// What an earlier process left, until the source's first listing.
    saved: Option<Labelled>,
    /// When the source last confirmed the state.
    confirmed: SystemTime,
}

/// What the mesh that is given out rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// There is none yet.
    Nothing,
    /// What an earlier process left on disk.
    Disk {
        /// When its source last confirmed it.
        saved_at: SystemTime,
        /// Its revision.
        revision: i64,
    },
    /// The source, or the last that it said.
    Source,
}

/// For reports.
#[derive(Clone, Debug)]
pub struct Standing {
    /// `etcd` or `folder`.
    pub kind: &'static str,
    /// What the mesh rests on.
    pub serving: Serving,
    /// The hold, while there is one.
    pub hold: Option<Active>,
}

impl Intake {
    /// One that has taken nothing in. `saved` is what an earlier process left of the same source.
    pub fn new(layout: Layout, origin: Origin, hold_for: Duration, health: Health) -> (Self, Feeds) {
        let (mesh, mesh_feed) = watch::channel(None);
        let (book, book_feed) = watch::channel(Book::default());
        let state = State {
            ledger: Ledger::new(layout.clone(), hold_for),
            serving: Serving::Nothing,
            origin,
            saved: None,
            confirmed: SystemTime::now(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            layout,
            hold_for,
            health,
            mesh,
            book,
            changes: watch::Sender::new(()),
        };
        let feeds = Feeds {
            mesh: mesh_feed,
            book: book_feed,
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            feeds,
        )
    }

    /// Keeps in mind what an earlier process left on disk, see [`Intake::serve_saved`] and [`Intake::successor`].
    pub fn offer(&self, saved: Labelled) {
        self.state().saved = Some(saved);
    }

    /// What an earlier process left, as long as the source has not listed anything.
    pub fn offered(&self) -> Option<Labelled> {
        self.state().saved.clone()
    }

    /// Serves what an earlier process left, if nothing is served yet: the source is away, or slow.
    pub fn serve_saved(&self) {
        let mut state = self.state();
        let State {
            serving: Serving::Nothing,
            saved: Some(labelled),
            ..
        } = &*state
        else {
            return;
        };
        let (saved_at, revision) = (labelled.saved_at(), labelled.saved.revision);
        let (layout, hold_for) = (self.shared.layout.clone(), self.shared.hold_for);
        state.ledger = Ledger::restore(layout, hold_for, labelled.saved.clone(), now());
        state.serving = Serving::Disk { saved_at, revision };
        let age_s = saved_at.elapsed().unwrap_or_default().as_secs();
        tracing::warn!(
            age_s,
            revision,
            "the source does not answer: serving the last good state from disk"
        );
        self.emit(&state);
    }

    /// The ledger to take the source's first listing with. It knows what an earlier process knew, so that workers that
    /// went meanwhile are held if they are a crowd: when that state is being served, or is no older than a hold may last.
    /// Of another store, say of an etcd that was restored from a backup, nothing is known.
    pub fn successor(&self, cluster: u64) -> Ledger {
        let state = self.state();
        let (layout, hold_for) = (self.shared.layout.clone(), self.shared.hold_for);
        let fresh = || Ledger::new(layout.clone(), hold_for);
        let Some(labelled) = &state.saved else {
            return fresh();
        };
        if matches!(labelled.label.origin, Origin::Etcd { cluster: known, .. } if known != cluster) {
            tracing::warn!(
                "the state on disk is of another etcd cluster with the same address and prefix: it does not count"
            );
            return fresh();
        }
        let age = labelled.saved_at().elapsed().unwrap_or_default();
        let mut ledger = match state.serving {
            Serving::Disk { .. } => state.ledger.clone(),
            _ if age <= hold_for => Ledger::restore(layout, hold_for, labelled.saved.clone(), now()),
            _ => fresh(),
        };
        ledger.remember(&labelled.saved);
        ledger
    }

    /// Takes over from here with a ledger that has taken the source's first listing in.
    pub fn install(&self, ledger: Ledger, cluster: u64) {
        let mut state = self.state();
        state.ledger = ledger;
        state.serving = Serving::Source;
        state.saved = None;
        if let Origin::Etcd { cluster: known, .. } = &mut state.origin {
            *known = cluster;
        }
        self.changed(&mut state, None);
    }

    /// Takes a later listing in.
    pub fn replace(&self, listing: Listing) {
        let mut state = self.state();
        let ended = state.ledger.replace(listing, Instant::now());
        self.changed(&mut state, ended);
    }

    /// Takes a message of a watch in.
    ///
    /// # Errors
    /// The reason for which everything must be listed again.
    pub fn react(&self, message: Message) -> Result<(), Relist> {
        let mut state = self.state();
        let quiet = message.changes.is_empty();
        let ended = state.ledger.react(message, Instant::now())?;
        if quiet {
            // Only the revision may have moved.
            state.confirmed = SystemTime::now();
            self.emit(&state);
        } else {
            self.changed(&mut state, ended);
        }
        Ok(())
    }

    /// See [`Ledger::is_suspicious`].
    pub fn is_suspicious(&self, listing: &Listing) -> bool {
        self.state().ledger.is_suspicious(listing)
    }

    /// Newest revision that was taken in.
    pub fn revision(&self) -> i64 {
        self.state().ledger.revision()
    }

    /// Lets go of all workers that are held; how many there were.
    pub fn release(&self) -> usize {
        let mut state = self.state();
        let released = state.ledger.release();
        let ended = (released > 0).then_some(Ended::Released);
        self.changed(&mut state, ended);
        released
    }

    /// For reports.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            kind: state.origin.kind(),
            serving: state.serving,
            hold: state.ledger.hold().active().cloned(),
        }
    }

    /// A signal for each change of what [`Intake::save`] would give.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    /// What a later process would need; `None` before the source has listed anything.
    pub fn save(&self) -> Option<Labelled> {
        let mut state = self.state();
        if state.serving != Serving::Source {
            return None;
        }
        if self.shared.health.is_connected() {
            state.confirmed = SystemTime::now();
        }
        let label = Label {
            origin: state.origin.clone(),
            saved_unix_ms: crate::saved::to_unix_ms(state.confirmed),
        };
        Some(Labelled {
            label,
            saved: state.ledger.save(now()),
        })
    }

    /// Ends holds when their time is over, until cancelled.
    pub async fn run_clock(self, cancel: CancellationToken) {
        let mut changes = self.changes();
        loop {
            let due = self.state().ledger.hold().due();
            let passed = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = changes.changed() => {}
                () = passed => if !self.tick() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                },
            }
        }
    }

    /// Ends a hold whose time is over; false while the source is away, when nobody is let go of.
    fn tick(&self) -> bool {
        let connected = self.shared.health.is_connected();
        let mut state = self.state();
        if connected && let Some(ended) = state.ledger.tick(Instant::now()) {
            self.changed(&mut state, Some(ended));
        }
        connected
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held would have been a bug, and is told as one; the state is whole between any two
        // of its changes.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &mut State, ended: Option<Ended>) {
        let health = &self.shared.health;
        state.confirmed = SystemTime::now();
        if let Some(ended) = ended {
            health.holds_ended.get_or_create(&[("reason", ended.label())]).inc();
            tracing::warn!(reason = ended.label(), "workers are no longer held");
        }
        let held = state.ledger.hold().active().map_or(0, |active| active.workers.len());
        let before = health.held_workers.set(i64::try_from(held).unwrap_or(i64::MAX));
        if before == 0 && held > 0 {
            tracing::warn!(
                held,
                "many workers vanished at once: they stay in the mesh until they return or POST /hold/release"
            );
        }
        self.emit(state);
        self.shared.changes.send_replace(());
    }

    /// Gives out what changed.
    fn emit(&self, state: &State) {
        let health = &self.shared.health;
        health.revision.set(state.ledger.revision());
        health.serve_from(match state.serving {
            Serving::Disk { .. } => "disk",
            Serving::Nothing | Serving::Source => state.origin.kind(),
        });
        let mesh = state.ledger.mesh();
        // From disk, nothing is known of what stands in the store now, and nothing must be written there.
        let book = Book {
            complete: state.serving == Serving::Source,
            desired: Arc::clone(&mesh.verdicts),
            recorded: Arc::clone(state.ledger.statuses()),
        };
        self.shared.mesh.send_if_modified(|current| {
            let changed = current.as_deref().is_none_or(|current| !current.is(&mesh));
            if changed {
                *current = Some(Arc::new(mesh));
            }
            changed
        });
        self.shared.book.send_if_modified(|current| {
            let changed = *current != book;
            if changed {
                *current = book;
            }
            changed
        });
    }
}

fn now() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

#[cfg(test)]
mod tests;
