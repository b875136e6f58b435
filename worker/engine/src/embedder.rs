//! A version in service: its tokenizer, its queue, and the thread that computes.
//!
//! Tokenising happens on the caller's thread, so that it overlaps with computation; the compute thread sees only ids.
//! A request's sequences may be computed in several batches; its answer is given when the last is there.

mod reply;

pub use reply::{EmbedError, Pending};

use crate::{
    backend::{BackendError, DeviceKind, EmbeddingBackend, Embeddings, TokenBatch},
    batch::{Budget, Entry, Queue, Refused},
    tokenizer::{TokenSequence, Tokenizer, TokenizerError},
};
use reply::Request;
use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How requests queue and batch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sequences that may wait.
    pub max_queue: usize,
    /// What one batch may cost.
    pub budget: Budget,
}

impl Options {
    /// What serves well on a device. A GPU is fed 16,384 tokens at a time; a CPU gains nothing beyond a few rows, and a
    /// batch in progress is what a newcomer waits for.
    pub fn for_device(device: DeviceKind) -> Self {
        let padded_tokens = match device {
            DeviceKind::Cpu => 2048,
            DeviceKind::Cuda => 16_384,
        };
        Self {
            max_queue: 4096,
            budget: Budget {
                padded_tokens,
                rows: 512,
            },
        }
    }
}

/// One batch, as it went.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// Sequences.
    pub rows: usize,
    /// Tokens, padding left out.
    pub tokens: usize,
    /// Tokens, padding included.
    pub padded_tokens: usize,
    /// How long the backend took.
    pub compute: Duration,
    /// Whether it failed.
    pub failed: bool,
}

/// Told of every batch, on the compute thread; must be quick.
pub type Observer = Arc<dyn Fn(&BatchReport) + Send + Sync>;

struct Row {
    sequence: TokenSequence,
    request: Arc<Request>,
    index: usize,
}

struct State {
    queue: Queue<Row>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    failures: AtomicU32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the queue would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one version. Dropping it computes what is queued, then ends the thread.
pub struct Embedder {
    tokenizer: Tokenizer,
    device: DeviceKind,
    dimension: usize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder")
            .field("device", &self.device)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

impl Embedder {
    /// Starts the compute thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        backend: impl EmbeddingBackend,
        tokenizer: Tokenizer,
        options: Options,
        observer: Observer,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(options.max_queue),
                closed: false,
            }),
            changed: Condvar::new(),
            failures: AtomicU32::new(0),
        });
        let (device, dimension) = (backend.device(), backend.dimension());
        let compute = Compute {
            backend,
            shared: shared.clone(),
            budget: options.budget,
            observer,
        };
        let thread = std::thread::Builder::new()
            .name("kilocard-compute".to_owned())
            .spawn(|| compute.run())?;
        Ok(Self {
            tokenizer,
            device,
            dimension,
            shared,
            thread: Some(thread),
        })
    }

    /// Length of each vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// What computes.
    pub fn device(&self) -> DeviceKind {
        self.device
    }

    /// Sequences that wait.
    pub fn queue_depth(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Batches that have failed since the last that did not.
    pub fn failures_in_a_row(&self) -> u32 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Whether the compute thread is gone: nothing will be computed any more.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Turns a text into ids, on this thread: keep it off an asynchronous runtime's.
    ///
    /// # Errors
    /// The text is too long, or the tokenizer refuses it.
    pub fn tokenize(&self, text: &str) -> Result<TokenSequence, TokenizerError> {
        self.tokenizer.encode(text)
    }

    /// Reserves places in the queue, before texts are tokenised that would find none.
    ///
    /// # Errors
    /// [`Refused`] if the queue does not hold them all.
    pub fn reserve(&self, places: usize) -> Result<Reservation<'_>, Refused> {
        self.shared.lock().queue.reserve(places)?;
        Ok(Reservation { embedder: self, places })
    }

    /// Queues sequences, as [`Embedder::reserve`] and [`Reservation::submit`] do.
    ///
    /// # Errors
    /// [`Refused`] if the queue does not hold them all.
    pub fn submit(&self, sequences: Vec<TokenSequence>, deadline: Option<Instant>) -> Result<Pending, Refused> {
        Ok(self.reserve(sequences.len())?.submit(sequences, deadline))
    }
}

/// Places in an embedder's queue. Dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'a> {
    embedder: &'a Embedder,
    places: usize,
}

impl Reservation<'_> {
    /// Queues as many sequences as were reserved for. The answer comes through [`Pending`]; once that is dropped, what
    /// still waits is not computed.
    pub fn submit(mut self, sequences: Vec<TokenSequence>, deadline: Option<Instant>) -> Pending {
        debug_assert_eq!(sequences.len(), self.places, "as many as were reserved for");
        self.places = self.places.saturating_sub(sequences.len());
        let (request, pending) = Request::new(sequences.len(), self.embedder.dimension);
        let entries = sequences
            .into_iter()
            .enumerate()
            .map(|(index, sequence)| Entry {
                tokens: sequence.ids.len(),
                deadline,
                payload: Row {
                    sequence,
                    request: request.clone(),
                    index,
                },
            })
            .collect();
        self.embedder.shared.lock().queue.fill(entries);
        self.embedder.shared.changed.notify_one();
        pending
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.embedder.shared.lock().queue.release(self.places);
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the compute thread panicked");
        }
    }
}

/// The thread's own.
struct Compute<B> {
    backend: B,
    shared: Arc<Shared>,
    budget: Budget,
    observer: Observer,
}

impl<B: EmbeddingBackend> Compute<B> {
    fn run(mut self) {
        while let Some(batch) = self.next() {
            self.compute(&batch);
        }
    }

    /// The next batch that holds something; `None` when closed and empty.
    fn next(&self) -> Option<Vec<Entry<Row>>> {
        let mut state = self.shared.lock();
        loop {
            let taken = state
                .queue
                .take(self.budget, Instant::now(), |row| row.request.is_abandoned());
            for entry in taken.expired {
                entry.payload.request.fail(EmbedError::DeadlineExceeded);
            }
            if !taken.batch.is_empty() {
                return Some(taken.batch);
            }
            if state.closed {
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compute(&mut self, batch: &[Entry<Row>]) {
        let padded = TokenBatch::pad(batch.iter().map(|entry| &entry.payload.sequence));
        let started = Instant::now();
        let result = self.embed(&padded);
        self.note(result.is_err());
        (self.observer)(&BatchReport {
            rows: padded.rows(),
            tokens: batch.iter().map(|entry| entry.tokens).sum(),
            padded_tokens: padded.rows() * padded.width(),
            compute: started.elapsed(),
            failed: result.is_err(),
        });
        match result {
            Ok(embeddings) => {
                for (entry, vector) in batch.iter().zip(embeddings.rows()) {
                    entry.payload.request.fill(entry.payload.index, vector);
                }
            }
            Err(error) => {
                tracing::error!(%error, rows = padded.rows(), width = padded.width(), "a batch failed");
                for entry in batch {
                    entry.payload.request.fail(EmbedError::Backend(error.clone()));
                }
            }
        }
    }

    /// This thread alone writes the count.
    fn note(&self, failed: bool) {
        let before = self.shared.failures.load(Ordering::Relaxed);
        let failures = if failed { before.saturating_add(1) } else { 0 };
        self.shared.failures.store(failures, Ordering::Relaxed);
    }

    /// A panic in a backend costs its batch, not the worker.
    fn embed(&mut self, batch: &TokenBatch) -> Result<Embeddings, BackendError> {
        let embeddings = catch_unwind(AssertUnwindSafe(|| self.backend.embed(batch)))
            .unwrap_or_else(|_| Err(BackendError("the backend panicked".to_owned())))?;
        if embeddings.values.len() != batch.rows() * self.backend.dimension() {
            return Err(BackendError(format!(
                "{} values for {} sequences",
                embeddings.values.len(),
                batch.rows()
            )));
        }
        Ok(embeddings)
    }
}

#[cfg(test)]
mod tests;
