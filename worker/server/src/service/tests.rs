//! The service over a real connection, on a tiny encoder.

mod overload;
mod refusals;
mod streaming;

use super::InferenceService;
use crate::{
    config::Config,
    fixture::{config, typed},
    models::{LoadOptions, Models},
    worker::Worker,
};
use kilocard_engine::{
    backend::device::DeviceChoice,
    pack,
    repository::{Repository, manifest::WeightType},
    tiny_bert,
};
use kilocard_proto::inference::{
    self as oip, ModelInferRequest, ModelInferResponse, grpc_inference_service_client::GrpcInferenceServiceClient,
    grpc_inference_service_server::GrpcInferenceService,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, transport::Channel};

type Client = GrpcInferenceServiceClient<Channel>;

struct Fixture {
    worker: Worker,
    channel: Channel,
    folder: tempfile::TempDir,
}

/// A worker of `tiny/v1`, `tiny/v2` and `tiny/v10`, each with weights of its own.
async fn start(adjust: impl FnOnce(&mut Config)) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repository");
    for (seed, version) in [(1, "tiny/v1"), (2, "tiny/v2"), (10, "tiny/v10")] {
        let source = folder.path().join(seed.to_string());
        tiny_bert::write(&source, seed).unwrap();
        pack::pack(&source, &repository, &version.parse().unwrap(), WeightType::F32).unwrap();
    }
    let mut config = config(repository);
    adjust(&mut config);
    let worker = Worker::start(config).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", worker.endpoints().grpc))
        .unwrap()
        .connect()
        .await
        .unwrap();
    Fixture {
        worker,
        channel,
        folder,
    }
}

impl Fixture {
    fn client(&self) -> Client {
        Client::new(self.channel.clone())
    }

    async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.client()
            .model_infer(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

fn raw(texts: &[&[u8]]) -> ModelInferRequest {
    let mut request = typed(&vec![""; texts.len()]);
    request.inputs[0].contents = None;
    let mut contents = Vec::new();
    for text in texts {
        contents.extend((text.len() as u32).to_le_bytes());
        contents.extend(*text);
    }
    request.raw_input_contents = vec![contents.into()];
    request
}

fn vectors(response: &ModelInferResponse) -> Vec<f32> {
    let output = &response.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str()), ("embedding", "FP32"));
    let values = match &output.contents {
        Some(contents) => contents.fp32_contents.clone(),
        None => response.raw_output_contents[0]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
    };
    assert_eq!(
        output.shape,
        [
            (values.len() / tiny_bert::DIMENSION) as i64,
            tiny_bert::DIMENSION as i64
        ]
    );
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_and_raw_requests_get_the_same_vectors_in_their_own_form() {
    let fixture = start(|_| ()).await;
    let by_type = fixture.infer(typed(&["hello", "wörld"])).await.unwrap();
    let by_bytes = fixture.infer(raw(&[b"hello", "wörld".as_bytes()])).await.unwrap();
    assert!(by_type.raw_output_contents.is_empty() && by_bytes.outputs[0].contents.is_none());
    assert_eq!(vectors(&by_type), vectors(&by_bytes));
    assert_eq!(vectors(&by_type).len(), 2 * tiny_bert::DIMENSION);
    assert_eq!(
        (by_type.id.as_str(), by_type.model_version.as_str()),
        ("request-1", "v1")
    );

    let mut column = typed(&["hello", "wörld"]);
    column.inputs[0].shape = vec![2, 1];
    assert_eq!(vectors(&fixture.infer(column).await.unwrap()), vectors(&by_type));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_the_requests_or_the_routes_or_the_newest() {
    let fixture = start(|_| ()).await;
    let version = async |version: &str, route: Option<&str>| {
        let mut request = Request::new(ModelInferRequest {
            model_version: version.to_owned(),
            ..typed(&["a"])
        });
        if let Some(route) = route {
            request
                .metadata_mut()
                .insert("x-kilocard-route", route.parse().unwrap());
        }
        let response = fixture.client().model_infer(request).await?;
        assert_eq!(
            response.metadata().get("x-kilocard-worker").unwrap(),
            "worker-under-test"
        );
        Ok::<_, Status>(response.into_inner().model_version)
    };
    assert_eq!(version("v2", None).await.unwrap(), "v2");
    assert_eq!(version("", Some("tiny/v2")).await.unwrap(), "v2");
    assert_eq!(version("v2", Some("tiny/v2")).await.unwrap(), "v2");
    assert_eq!(version("", None).await.unwrap(), "v10", "the newest by number");

    for (asked, route, code, message) in [
        (
            "v1",
            Some("tiny/v2"),
            Code::InvalidArgument,
            "names \"tiny/v1\", but the mesh routed it to \"tiny/v2\"",
        ),
        (
            "",
            Some("other/v1"),
            Code::InvalidArgument,
            "names \"tiny\", but the mesh routed it to \"other/v1\"",
        ),
        (
            "",
            Some("nonsense"),
            Code::InvalidArgument,
            "\"nonsense\" is not of the form model/version",
        ),
        (
            "v3",
            None,
            Code::NotFound,
            "\"tiny/v3\" is not served here; this worker serves tiny/v1, tiny/v2, tiny/v10",
        ),
        ("", Some("tiny/v4"), Code::NotFound, "\"tiny/v4\" is not served here"),
    ] {
        let status = version(asked, route).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(message), "{status}");
        assert_eq!(status.metadata().get("x-kilocard-worker").unwrap(), "worker-under-test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_computed_by_the_version_it_is_routed_to_and_counted_as_a_copy() {
    let fixture = start(|_| ()).await;
    let mut request = Request::new(ModelInferRequest {
        // What the original names, from which the copy differs.
        model_version: "v1".to_owned(),
        ..typed(&["a"])
    });
    for (key, value) in [("x-kilocard-route", "tiny/v2"), ("x-kilocard-shadow", "1")] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let response = fixture.client().model_infer(request).await.unwrap().into_inner();
    assert_eq!(response.model_version, "v2");
    fixture.infer(typed(&["a"])).await.unwrap();

    let page = metrics(&fixture).await;
    let counted: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("kilocard_worker_shadow_requests_total{"))
        .collect();
    assert_eq!(
        counted,
        ["kilocard_worker_shadow_requests_total{model=\"tiny\",version=\"v2\"} 1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_have_weights_of_their_own() {
    let fixture = start(|_| ()).await;
    let first = fixture.infer(typed(&["hello"])).await.unwrap();
    let second = fixture
        .infer(ModelInferRequest {
            model_version: "v2".to_owned(),
            ..typed(&["hello"])
        })
        .await
        .unwrap();
    assert_ne!(vectors(&first), vectors(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_as_large_as_the_gateway_lets_through_arrive() {
    let fixture = start(|_| ()).await;
    for kibibytes in [20, 150] {
        let mut request = Request::new(typed(&["a"]));
        for n in 0..kibibytes {
            let name: tonic::metadata::MetadataKey<_> = format!("x-baggage-{n}").parse().unwrap();
            request.metadata_mut().insert(name, "v".repeat(1024).parse().unwrap());
        }
        let answer = fixture.client().model_infer(request).await;
        assert!(answer.is_ok(), "{kibibytes} KiB: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_were_cut_are_counted_in_the_answer() {
    let fixture = start(|_| ()).await;
    let long = "a ".repeat(500);
    let answer = fixture.infer(typed(&[&long, "short", &long])).await.unwrap();
    let count = answer.parameters["truncated_texts"].parameter_choice.clone();
    assert_eq!(count, Some(oip::infer_parameter::ParameterChoice::Int64Param(2)));
    assert!(fixture.infer(typed(&["short"])).await.unwrap().parameters.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_honoured_and_broken_ones_refused() {
    let fixture = start(|_| ()).await;
    // Called directly: over a connection, tonic's client would give up by itself and hide the answer.
    let repository = Repository::new(fixture.folder.path().join("repository"));
    let options = LoadOptions {
        device: DeviceChoice::Cpu,
        max_queue: 100,
        max_batch_tokens: None,
    };
    let models = Models::load(&repository, &[], options, |_| Arc::new(|_| ())).unwrap();
    let service = InferenceService::new(
        Arc::new(models),
        Arc::default(),
        Arc::default(),
        CancellationToken::new(),
        "direct",
    );
    let infer = async |timeout: &str| {
        let mut request = Request::new(typed(&["a"]));
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        service
            .model_infer(request)
            .await
            .map(|_| ())
            .map_err(|status| status.code())
    };
    assert_eq!(infer("1n").await, Err(Code::DeadlineExceeded));
    assert_eq!(infer("60S").await, Ok(()));
    assert_eq!(infer("60").await, Err(Code::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_batches_and_get_their_own_vectors() {
    let fixture = start(|_| ()).await;
    let alone: Vec<_> = {
        let mut alone = Vec::new();
        for n in 0..8 {
            alone.push(vectors(&fixture.infer(typed(&[&format!("text {n}")])).await.unwrap()));
        }
        alone
    };
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..256 {
        let mut client = fixture.client();
        tasks.spawn(async move {
            let response = client
                .model_infer(typed(&[&format!("text {}", n % 8)]))
                .await
                .unwrap()
                .into_inner();
            (n % 8, vectors(&response))
        });
    }
    for (n, vector) in tasks.join_all().await {
        assert!(
            vector.iter().zip(&alone[n]).all(|(a, b)| (a - b).abs() < 1e-5),
            "text {n}"
        );
    }
    let metrics = metrics(&fixture).await;
    let count = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("kilocard_worker_{name}")) && line.contains("\"v1\""));
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(count("requests_total"), 264.0);
    assert_eq!(count("batch_rows_sum"), 264.0);
}

/// A page of the admin endpoint.
async fn metrics(fixture: &Fixture) -> String {
    page(fixture, "/metrics").await
}

async fn page(fixture: &Fixture, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(fixture.worker.endpoints().admin)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_questions_are_answered() {
    let fixture = start(|_| ()).await;
    let mut client = fixture.client();
    assert!(
        client
            .server_live(oip::ServerLiveRequest {})
            .await
            .unwrap()
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(oip::ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    for (version, ready) in [("v2", true), ("", true), ("v9", false)] {
        let request = oip::ModelReadyRequest {
            name: "tiny".into(),
            version: version.into(),
        };
        assert_eq!(
            client.model_ready(request).await.unwrap().into_inner().ready,
            ready,
            "{version:?}"
        );
    }
    let request = oip::ModelMetadataRequest {
        name: "tiny".into(),
        version: String::new(),
    };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(metadata.versions, ["v1", "v2", "v10"]);
    assert_eq!(metadata.outputs[0].shape, [-1, tiny_bert::DIMENSION as i64]);
    let request = oip::ModelConfigRequest {
        name: "tiny".into(),
        version: "v1".into(),
    };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!(config.input[0].data_type(), oip::DataType::TypeString);
    let status = client
        .model_statistics(oip::ModelStatisticsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("ModelStatistics"), "{status}");
    assert!(page(&fixture, "/ready").await.starts_with("HTTP/1.1 200"));
}
