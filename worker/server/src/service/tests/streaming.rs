//! `ModelStreamInfer`.

use super::overload::service;
use crate::fixture::{gate, typed};
use crate::service::stream::{WINDOW, answer};
use futures::{StreamExt, stream};
use kilocard_proto::inference::ModelInferRequest;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tonic::{Code, Status, metadata::MetadataMap};

fn request(id: &str, texts: usize) -> ModelInferRequest {
    ModelInferRequest {
        id: id.to_owned(),
        ..typed(&vec!["a"; texts])
    }
}

#[tokio::test]
async fn requests_are_answered_in_order_and_a_bad_one_does_not_end_the_stream() {
    let fixture = super::start(|_| ()).await;
    let mut bad = request("bad", 1);
    bad.inputs[0].name = "prompt".to_owned();
    let requests = stream::iter([request("first", 2), bad, request("last", 1)]);
    let response = fixture.client().model_stream_infer(requests).await.unwrap();
    assert_eq!(
        response.metadata().get("x-kilocard-worker").unwrap(),
        "worker-under-test"
    );
    let mut answers = response.into_inner();
    for (id, texts, error) in [("first", 2, ""), ("bad", 0, "no input \"prompt\""), ("last", 1, "")] {
        let answer = answers.message().await.unwrap().unwrap();
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, id);
        assert_eq!(response.outputs.first().map_or(0, |output| output.shape[0]), texts);
        assert!(answer.error_message.contains(error) && answer.error_message.is_empty() == error.is_empty());
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_reads_no_further_than_its_window_and_leaves_nothing_behind_when_dropped() {
    let mut gate = gate(100);
    let service = service(&gate);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = {
        let read = read.clone();
        stream::iter(0..1000).map(move |n| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok(request(&n.to_string(), 1))
        })
    };
    let mut answers = answer(&service, MetadataMap::new(), counted);
    let reading = tokio::spawn(async move { answers.next().await.is_some() });
    let rows = gate.started.recv().await.unwrap();
    gate.queued(WINDOW - rows).await;
    assert_eq!(read.load(Ordering::Relaxed), WINDOW);

    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    let gone = async {
        // The gate's own and the service's stay.
        while Arc::strong_count(&gate.models) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    drop(gate.go);
    drop((service, gate.models));
    assert_eq!(gate.started.recv().await, None, "nothing was computed for nobody");
}

#[tokio::test]
async fn a_stream_ends_with_the_worker_after_what_it_was_asked_already() {
    let mut gate = gate(100);
    let service = service(&gate);
    let requests = stream::iter([Ok(request("asked", 1))]).chain(stream::pending());
    let mut answers = answer(&service, MetadataMap::new(), requests);
    let reading = tokio::spawn(async move {
        let asked = answers.next().await.unwrap().unwrap();
        let end = answers.next().await.unwrap().unwrap_err();
        (
            asked.infer_response.unwrap().id,
            end.code(),
            answers.next().await.is_none(),
        )
    });
    gate.started.recv().await.unwrap();
    service.ended.cancel();
    gate.go.send(()).unwrap();
    assert_eq!(reading.await.unwrap(), ("asked".to_owned(), Code::Unavailable, true));
}

#[tokio::test]
async fn a_broken_stream_ends_with_what_broke_it() {
    let gate = gate(100);
    let broken = stream::iter([Err(Status::data_loss("cut"))]);
    let mut answers = answer(&service(&gate), MetadataMap::new(), broken);
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::DataLoss);
}
