//! `ModelStreamInfer`: inferences over one stream, computed concurrently and answered in the order they came, as Triton
//! answers for a model that is not decoupled.
//!
//! A failed request is answered with `error_message` and its id, and the stream goes on. What ends the stream is what
//! concerns all of it: its deadline, and the worker's end.

use super::InferenceService;
use futures::{Stream, StreamExt, future, stream};
use kilocard_proto::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status, metadata::MetadataMap};

/// Requests of one stream that are computed at a time; the next is not read before one of them is answered.
pub(super) const WINDOW: usize = 16;

/// The answers of a stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// A request's computation, which ends when nobody waits any more. A task, and not only a future: one that is not polled,
/// since its caller reads slowly, would keep its places in the queue.
struct Computation(JoinHandle<Result<ModelInferResponse, Status>>);

impl Drop for Computation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers requests until there are no more or the worker ends.
pub(super) fn answer(
    service: &InferenceService,
    metadata: MetadataMap,
    requests: impl Stream<Item = Result<ModelInferRequest, Status>> + Send + 'static,
) -> Answers {
    let began = Instant::now();
    let (service, metadata) = (service.clone(), Arc::new(metadata));
    let cut = Arc::new(AtomicBool::new(false));
    let ending = {
        let (ended, cut) = (service.ended.clone(), cut.clone());
        async move {
            ended.cancelled_owned().await;
            cut.store(true, Ordering::Relaxed);
        }
    };
    let answers = requests.take_until(ending).map(move |request| {
        let started = request.map(|request| {
            let (service, metadata, id) = (service.clone(), metadata.clone(), request.id.clone());
            let task = tokio::spawn(async move { service.compute(request, &metadata, began).await });
            (id, Computation(task))
        });
        async move {
            let (id, mut computation) = started?;
            let result = (&mut computation.0).await;
            to_message(
                id,
                result.unwrap_or_else(|_| Err(Status::internal("the request panicked"))),
            )
        }
    });
    let end = stream::once(async move {
        let status = || Err(Status::unavailable("this worker is ending; open the stream again"));
        cut.load(Ordering::Relaxed).then(status)
    });
    Box::pin(answers.buffered(WINDOW).chain(end.filter_map(future::ready)))
}

fn to_message(id: String, result: Result<ModelInferResponse, Status>) -> Result<ModelStreamInferResponse, Status> {
    match result {
        Ok(response) => Ok(ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        }),
        // The deadline is the stream's.
        Err(status) if status.code() == Code::DeadlineExceeded => Err(status),
        Err(status) => Ok(ModelStreamInferResponse {
            error_message: status.message().to_owned(),
            infer_response: Some(ModelInferResponse {
                id,
                ..ModelInferResponse::default()
            }),
        }),
    }
}
