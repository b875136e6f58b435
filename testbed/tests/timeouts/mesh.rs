//! An Envoy with the gateway module before upstreams that can be told to be slow; and what a client is told.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use kilocard_policy::details::{ErrorInfo, Status};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::{StaticMesh, all_to_v1};
use kilocard_testbed::raw::{self, Reply};
use prost::{Message, Name};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A method whose answers are streams.
pub(crate) const GENERATE: &str = "/kilocard.inference.v1.InferenceService/Generate";

pub(crate) fn timeouts(mut spec: Value) -> Value {
    spec["model"] = json!("minilm");
    json!({"api_version": "kilocard/v1", "kind": "TimeoutPolicy", "metadata": {"name": "minilm"}, "spec": spec})
}

pub(crate) async fn start(spec: Value) -> Result<StaticMesh> {
    let documents = json!([all_to_v1(), timeouts(spec)]);
    let plugin = Plugin::new("kilocard-gateway", "kilocard_gateway", &documents);
    StaticMesh::start(&[plugin], config::everything("minilm/v1")).await
}

/// A call of the streaming method.
pub(crate) async fn generate(address: SocketAddr, headers: &[(&str, &[u8])]) -> Result<Reply> {
    let protocol: [(&str, &[u8]); 2] = [("content-type", b"application/grpc"), ("te", b"trailers")];
    let all = [&protocol, headers].concat();
    let body = raw::frame(&ServerReadyRequest {})?;
    raw::request(address, (http::Method::POST, GENERATE), &all, body).await
}

/// The client hears `DEADLINE_EXCEEDED`, in a sentence and in a form that programs read.
pub(crate) fn ensure_late(reply: &Reply, reason: &str) -> Result<()> {
    ensure!(reply.grpc_status == Some(4), "{reply:?}");
    ensure!(reply.grpc_message.contains("minilm/v1 has not"), "{reply:?}");
    let text = reply.header("grpc-status-details-bin").context("no details")?;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text)?;
    let status = Status::decode(bytes.as_slice())?;
    ensure!(status.code == 4, "{status:?}");
    let any = status.details.iter().find(|any| any.type_url == ErrorInfo::type_url());
    let info = ErrorInfo::decode(any.context("no ErrorInfo")?.value.as_slice())?;
    ensure!(info.reason == reason && info.domain == "kilocard.dev", "{info:?}");
    Ok(())
}

/// A counter of the filter.
pub(crate) async fn counted(mesh: &StaticMesh, cause: &str) -> Result<u64> {
    let name = format!("wasmcustom.kilocard_timeouts.{cause}");
    mesh.envoy.admin().stat(&name).await
}
