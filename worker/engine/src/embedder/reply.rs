//! A request's answer as it comes together from the batches that its sequences went into.

use crate::backend::{BackendError, Embeddings};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// The deadline passed while the request waited.
    #[error("the deadline passed while the request waited in the queue")]
    DeadlineExceeded,
    /// The computation failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The model was taken out of service.
    #[error("the model is being unloaded")]
    Closed,
}

type Answer = Result<Embeddings, EmbedError>;

/// The answer to come. Dropping it means that nobody waits any more.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Answer>);

impl Future for Pending {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(EmbedError::Closed)))
    }
}

/// What the rows of one request share.
#[derive(Debug)]
pub(super) struct Request(Mutex<Collector>);

#[derive(Debug)]
struct Collector {
    values: Vec<f32>,
    dimension: usize,
    missing: usize,
    // Gone once answered.
    sender: Option<oneshot::Sender<Answer>>,
}

impl Request {
    pub(super) fn new(rows: usize, dimension: usize) -> (Arc<Self>, Pending) {
        let (sender, receiver) = oneshot::channel();
        let mut collector = Collector {
            values: vec![0.0; rows * dimension],
            dimension,
            missing: rows,
            sender: Some(sender),
        };
        collector.answer_if_complete();
        (Arc::new(Self(Mutex::new(collector))), Pending(receiver))
    }

    fn lock(&self) -> MutexGuard<'_, Collector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer would reach nobody: the caller left, or one was already given.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Puts one row's vector in its place. Each row is filled once.
    pub(super) fn fill(&self, row: usize, vector: &[f32]) {
        let mut collector = self.lock();
        let at = row * collector.dimension;
        if let Some(place) = collector.values.get_mut(at..at + vector.len()) {
            place.copy_from_slice(vector);
            collector.missing = collector.missing.saturating_sub(1);
            collector.answer_if_complete();
        }
    }

    /// Answers the whole request with an error; what comes later is of no account.
    pub(super) fn fail(&self, error: EmbedError) {
        if let Some(sender) = self.lock().sender.take() {
            // The caller may just have left.
            drop(sender.send(Err(error)));
        }
    }
}

impl Collector {
    fn answer_if_complete(&mut self) {
        if self.missing == 0
            && let Some(sender) = self.sender.take()
        {
            let answer = Embeddings {
                values: std::mem::take(&mut self.values),
                dimension: self.dimension,
            };
            // The caller may just have left.
            drop(sender.send(Ok(answer)));
        }
    }
}
