//! KEDA's side is played by a tonic client over TCP, and what KEDA and the HorizontalPodAutoscaler make of an answer by
//! [`replicas_asked_for`].

use super::*;
use crate::scaling::keda::{Keda, METRIC};
use crate::scaling::pool::{Plan, Pool};
use kilocard_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use kilocard_proto::externalscaler::{GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, ScaledObjectRef};
use kilocard_scaling::Decision;
use std::collections::HashMap;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

type Channels = watch::Sender<Option<Arc<Pools>>>;

fn decided(replicas: u32) -> Option<Arc<Pools>> {
    let plan = Plan {
        policy: "s".to_owned(),
        decision: Decision {
            replicas,
            reason: Reason::Steady,
            proposals: Vec::new(),
        },
    };
    let planned = Pool {
        plan: Some(plan),
        ..Pool::default()
    };
    Some(Arc::new(BTreeMap::from([
        (served("v1"), planned),
        (served("v2"), Pool::default()),
    ])))
}

/// A server that ends with the token.
async fn serve(pools: Option<Arc<Pools>>) -> (ExternalScalerClient<Channel>, Channels, CancellationToken) {
    let (sender, receiver) = watch::channel(pools);
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Keda::new(receiver, stop.clone()).into_service();
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned()));
    let client = ExternalScalerClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    (client, sender, stop)
}

fn object(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "llama".to_owned(),
        namespace: "models".to_owned(),
        scaler_metadata: metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn v1() -> ScaledObjectRef {
    // KEDA hands on all of the trigger's metadata.
    object(&[
        ("scalerAddress", "kilocard:18000"),
        ("model", "llama"),
        ("version", "v1"),
    ])
}

fn metrics_of(object: ScaledObjectRef) -> GetMetricsRequest {
    GetMetricsRequest {
        scaled_object_ref: Some(object),
        metric_name: METRIC.to_owned(),
    }
}

/// KEDA takes the float where it is above 0, and the integer else (`pkg/scalers/external_scaler.go`), and hands both on in
/// thousandths; the HorizontalPodAutoscaler divides the sum by the target of the type `AverageValue`
/// (`GetExternalPerPodMetricReplicas` of `replica_calculator.go`).
fn replicas_asked_for(spec: &GetMetricSpecResponse, metrics: &GetMetricsResponse) -> f64 {
    let (spec, value) = (&spec.metric_specs[0], &metrics.metric_values[0]);
    assert_eq!(spec.metric_name, value.metric_name);
    let either = |float: f64, integer: i64| if float > 0.0 { float } else { integer as f64 };
    let target = (either(spec.target_size_float, spec.target_size) * 1000.0).trunc();
    let value = (either(value.metric_value_float, value.metric_value) * 1000.0).trunc();
    (value / target).ceil()
}

#[tokio::test]
async fn the_autoscaler_asks_for_exactly_what_was_decided() {
    let (mut client, pools, _stop) = serve(decided(0)).await;
    let spec = client.get_metric_spec(v1()).await.unwrap().into_inner();
    for replicas in [0, 1, 2, 3, 7, 10, 33, 999, 10_000] {
        pools.send_replace(decided(replicas));
        let metrics = client.get_metrics(metrics_of(v1())).await.unwrap().into_inner();
        assert_eq!(replicas_asked_for(&spec, &metrics), f64::from(replicas));
        // An older KEDA knows the integers only.
        let integers: HashMap<_, _> = metrics
            .metric_values
            .iter()
            .map(|of| (of.metric_name.as_str(), of.metric_value))
            .collect();
        assert_eq!(integers, HashMap::from([(METRIC, i64::from(replicas))]));
        let active = client.is_active(v1()).await.unwrap().into_inner().result;
        assert_eq!(active, replicas > 0);
    }
}

#[tokio::test]
async fn whether_a_pool_is_active_is_told_at_once_and_when_it_changes() {
    let (mut client, pools, stop) = serve(decided(2)).await;
    let mut told = client.stream_is_active(v1()).await.unwrap().into_inner();
    assert!(told.message().await.unwrap().unwrap().result);
    // Another number is no change of it.
    pools.send_replace(decided(3));
    pools.send_replace(decided(0));
    assert!(!told.message().await.unwrap().unwrap().result);
    pools.send_replace(decided(1));
    assert!(told.message().await.unwrap().unwrap().result);
    stop.cancel();
    assert_eq!(told.message().await.unwrap(), None, "it ends with the control plane");
}

#[tokio::test]
async fn a_pool_that_goes_ends_its_stream_with_the_reason() {
    let (mut client, pools, _stop) = serve(decided(2)).await;
    let mut told = client.stream_is_active(v1()).await.unwrap().into_inner();
    told.message().await.unwrap();
    pools.send_replace(Some(Arc::default()));
    let status = told.message().await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let (mut client, pools, _stop) = serve(None).await;
    let mut refused = async |metadata: &[(&str, &str)]| {
        let status = client.get_metric_spec(object(metadata)).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, message) = refused(&[("model", "llama"), ("version", "v1")]).await;
    assert_eq!(code, Code::Unavailable, "{message}");
    pools.send_replace(decided(2));
    let (code, message) = refused(&[("model", "llama")]).await;
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(
        message,
        "ScaledObject models/llama: the trigger's metadata lacks \"version\"; give it model and version"
    );
    let (code, message) = refused(&[("model", "llama"), ("version", "v9")]).await;
    assert_eq!(code, Code::NotFound);
    assert!(
        message.starts_with("llama/v9 is not known: no worker serves it"),
        "{message}"
    );
    let (code, message) = refused(&[("model", "llama"), ("version", "v2")]).await;
    assert_eq!(code, Code::NotFound);
    assert!(message.starts_with("no ScalePolicy is for llama/v2"), "{message}");
    let other = GetMetricsRequest {
        metric_name: "cpu".to_owned(),
        ..metrics_of(v1())
    };
    let status = client.get_metrics(other).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message().contains(METRIC)),
        (Code::NotFound, true)
    );
    let nothing = client.get_metrics(GetMetricsRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);
}
