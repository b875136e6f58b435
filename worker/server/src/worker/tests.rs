use super::*;
use crate::fixture::{self, Gate, gate, typed};
use kilocard_proto::inference::{
    ServerReadyRequest, grpc_inference_service_client::GrpcInferenceServiceClient as Client,
};
use kilocard_registry::telemetry::ServingHealth;
use std::sync::atomic::Ordering;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus as Status, health_client::HealthClient,
};

/// A worker behind a gate, and a connection to it.
async fn serve(gate: &Gate, drain_delay: Duration) -> (Worker, Channel) {
    let mut config = fixture::config(PathBuf::new());
    config.drain_delay = drain_delay;
    let sockets = Sockets {
        grpc: listen(config.listen).await.unwrap(),
        admin: listen(config.admin_listen).await.unwrap(),
    };
    let worker = Worker::serve(config, sockets, gate.models.clone(), Arc::default())
        .await
        .unwrap();
    let address = format!("http://{}", worker.endpoints().grpc);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    (worker, channel)
}

#[tokio::test]
async fn draining_says_so_first_and_serves_on_for_the_delay() {
    let gate = gate(10);
    // Opened: what arrives is computed at once.
    for _ in 0..10 {
        gate.go.send(()).unwrap();
    }
    let forever = Duration::from_secs(3600);
    let (worker, channel) = serve(&gate, forever).await;
    let mut health = HealthClient::new(channel.clone());
    let service = HealthCheckRequest {
        service: "inference.GRPCInferenceService".to_owned(),
    };
    let mut watch = health.watch(service).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Status::Serving);

    let draining = tokio::spawn(worker.drain());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Status::NotServing);
    let mut client = Client::new(channel);
    client.model_infer(typed(&["still here"])).await.unwrap();
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner();
    assert!(!ready.ready);
    assert!(!draining.is_finished(), "the delay has not passed");
    draining.abort();
}

#[tokio::test]
async fn a_request_in_flight_when_the_worker_stops_is_answered() {
    let mut gate = gate(10);
    let (worker, channel) = serve(&gate, Duration::ZERO).await;
    let mut client = Client::new(channel);
    let in_flight = tokio::spawn(async move { client.model_infer(typed(&["a"])).await });
    assert_eq!(gate.started.recv().await, Some(1));

    let stop = worker.stop.clone();
    let draining = tokio::spawn(worker.drain());
    stop.cancelled().await;
    gate.go.send(()).unwrap();
    let answer = in_flight.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.outputs[0].shape, [1, 1]);
    draining.await.unwrap();
}

#[tokio::test]
async fn the_drain_delay_begins_when_etcd_has_let_the_worker_go() {
    let short = Duration::from_millis(50);
    let started = std::time::Instant::now();
    retire(tokio::time::sleep(short), Duration::from_secs(60), short).await;
    assert!(started.elapsed() >= 2 * short);

    let started = std::time::Instant::now();
    retire(std::future::pending(), short, short).await;
    assert!(
        started.elapsed() >= 2 * short,
        "an etcd that does not answer is left behind"
    );
}

#[tokio::test]
async fn a_worker_whose_engine_fails_batch_after_batch_says_so_and_comes_back_when_it_computes_again() {
    let Gate {
        go,
        models,
        broken,
        started: _started,
    } = gate(10);
    // Opened for good: also for what the worker tries by itself.
    drop(go);
    let config = fixture::config(PathBuf::new());
    let sockets = Sockets {
        grpc: listen(config.listen).await.unwrap(),
        admin: listen(config.admin_listen).await.unwrap(),
    };
    let worker = Worker::serve(config, sockets, models, Arc::default()).await.unwrap();
    let address = format!("http://{}", worker.endpoints().grpc);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = Client::new(channel.clone());
    let whole_server = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(channel)
        .watch(whole_server)
        .await
        .unwrap()
        .into_inner();
    let mut says = async || {
        let said = tokio::time::timeout(Duration::from_secs(30), watch.message()).await;
        said.unwrap().unwrap().unwrap().status()
    };
    assert_eq!(says().await, Status::Serving);

    broken.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let refused = client.model_infer(typed(&["a"])).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Internal);
    }
    assert_eq!(says().await, Status::NotServing);
    assert_eq!(
        worker.health.told(),
        ServingHealth::NotServing,
        "which the load report tells"
    );
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner();
    assert!(!ready.ready);

    // Nobody sends anything any more.
    broken.store(false, Ordering::Relaxed);
    assert_eq!(says().await, Status::Serving);
    assert_eq!(worker.health.told(), ServingHealth::Serving);
    client.model_infer(typed(&["a"])).await.unwrap();
}
