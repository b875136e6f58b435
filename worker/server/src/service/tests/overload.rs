//! More than can be computed, on a model that computes when it is told to.

use crate::fixture::{Gate, gate, typed};
use crate::service::InferenceService;
use kilocard_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

pub(super) fn service(gate: &Gate) -> InferenceService {
    InferenceService::new(
        gate.models.clone(),
        Arc::default(),
        Arc::default(),
        CancellationToken::new(),
        "gated",
    )
}

async fn infer(service: InferenceService, texts: usize) -> Result<usize, Code> {
    let request = Request::new(typed(&vec!["a"; texts]));
    match service.model_infer(request).await {
        Ok(response) => Ok(response.into_inner().outputs[0].shape[0] as usize),
        Err(status) => Err(status.code()),
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_busy_model_are_computed_together() {
    let mut gate = gate(100);
    let service = service(&gate);
    let busy = tokio::spawn(infer(service.clone(), 1));
    assert_eq!(gate.started.recv().await, Some(1));
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(infer(service.clone(), 2))).collect();
    gate.queued(10).await;
    gate.go.send(()).unwrap();
    assert_eq!(gate.started.recv().await, Some(10), "five requests, one batch");
    gate.go.send(()).unwrap();
    assert_eq!(busy.await.unwrap(), Ok(1));
    for request in waiting {
        assert_eq!(request.await.unwrap(), Ok(2));
    }
}

#[tokio::test]
async fn a_request_is_refused_before_it_is_tokenised_when_the_queue_has_no_room_for_it() {
    let gate = gate(4);
    let service = service(&gate);
    // Nobody is tokenised while this test has every turn.
    let turns = service.turns.available_permits();
    let all = service.turns.clone().acquire_many_owned(turns as u32).await.unwrap();
    let first = tokio::spawn(infer(service.clone(), 3));
    let refused = async {
        while infer_at_once(&service, 2).await != Some(Err(Code::ResourceExhausted)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();

    // A caller who leaves gives its places to others.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    drop(all);
    drop(gate.go);
    assert_eq!(infer(service.clone(), 4).await, Ok(4));
    assert_eq!(
        infer(service, 5).await,
        Err(Code::InvalidArgument),
        "it would never fit: trying again is of no use"
    );
}

/// What the first poll gives.
async fn infer_at_once(service: &InferenceService, texts: usize) -> Option<Result<usize, Code>> {
    let request = std::pin::pin!(infer(service.clone(), texts));
    match futures::poll!(request) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}
