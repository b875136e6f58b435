//! Which queued sequences are computed together. Pure: time and state are arguments, no thread, no clock.
//!
//! Pull-based: whoever computes takes, when idle, everything that is queued up to a budget. There is no window to wait
//! out, so a lone request is never delayed, and batches grow by themselves as load grows. The scheme is that of
//! text-embeddings-inference.

use std::{collections::VecDeque, time::Instant};

/// What one batch may cost at most. A batch is a rectangle: its longest sequence times its rows, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Longest sequence × rows.
    pub padded_tokens: usize,
    /// Rows.
    pub rows: usize,
}

/// One sequence that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its length.
    pub tokens: usize,
    /// When its answer is of no use any more.
    pub deadline: Option<Instant>,
    /// What the queue does not look at.
    pub payload: T,
}

/// Why there are no places in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not now; later, there may be.
    #[error("overloaded: {taken} of {capacity} places in the queue are taken, and {asked} more were asked for")]
    Overloaded {
        /// Places that are taken or reserved.
        taken: usize,
        /// The most that may wait.
        capacity: usize,
        /// How many were to be added.
        asked: usize,
    },
    /// Never.
    #[error("{asked} texts do not fit into a queue of {capacity}; send them in several requests")]
    TooLarge {
        /// The most that may wait.
        capacity: usize,
        /// How many were to be added.
        asked: usize,
    },
}

/// What [`Queue::take`] took out. Every entry that goes in comes out once, in one of the three.
#[derive(Debug)]
pub struct Taken<T> {
    /// To be computed together, oldest first.
    pub batch: Vec<Entry<T>>,
    /// Past their deadline.
    pub expired: Vec<Entry<T>>,
    /// Of callers who left.
    pub abandoned: Vec<Entry<T>>,
}

/// A bounded first-in first-out queue. Places are reserved before work is spent on what will take them.
#[derive(Debug)]
pub struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    reserved: usize,
    capacity: usize,
}

impl<T> Queue<T> {
    /// An empty queue for this many sequences.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            reserved: 0,
            capacity,
        }
    }

    /// Sequences that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reserves places for all of a request's sequences, or for none.
    ///
    /// # Errors
    /// [`Refused`] if they do not all fit.
    pub fn reserve(&mut self, asked: usize) -> Result<(), Refused> {
        let (capacity, taken) = (self.capacity, self.entries.len() + self.reserved);
        if asked > capacity {
            return Err(Refused::TooLarge { capacity, asked });
        }
        if taken + asked > capacity {
            return Err(Refused::Overloaded { taken, capacity, asked });
        }
        self.reserved += asked;
        Ok(())
    }

    /// Gives reserved places back.
    pub fn release(&mut self, places: usize) {
        self.reserved = self.reserved.saturating_sub(places);
    }

    /// Adds entries into places that were reserved for them.
    pub fn fill(&mut self, entries: Vec<Entry<T>>) {
        self.release(entries.len());
        self.entries.extend(entries);
    }

    /// Takes the next batch: the oldest entries, in order, as many as the budget holds. The first always goes, even when
    /// it is over the budget alone, since it will not get smaller. Entries past their deadline or abandoned are taken out
    /// on the way and cost nothing.
    pub fn take(&mut self, budget: Budget, now: Instant, is_abandoned: impl Fn(&T) -> bool) -> Taken<T> {
        let mut taken = Taken {
            batch: Vec::new(),
            expired: Vec::new(),
            abandoned: Vec::new(),
        };
        let mut longest = 0;
        while let Some(entry) = self.entries.front() {
            let destination = if is_abandoned(&entry.payload) {
                &mut taken.abandoned
            } else if entry.deadline.is_some_and(|deadline| deadline <= now) {
                &mut taken.expired
            } else {
                let rows = taken.batch.len() + 1;
                let width = longest.max(entry.tokens);
                if rows > 1 && (rows > budget.rows || width.saturating_mul(rows) > budget.padded_tokens) {
                    break;
                }
                longest = width;
                &mut taken.batch
            };
            destination.extend(self.entries.pop_front());
        }
        taken
    }
}

#[cfg(test)]
mod tests;
