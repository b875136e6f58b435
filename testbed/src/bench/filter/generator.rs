//! A closed-loop HTTP/2 generator: a fixed number of streams under way on one connection.

use anyhow::{Context, Result, ensure};
use h2::client::SendRequest;
use http::{Method, Request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The headers of a request as a gRPC client of the mesh sends them: what a filter has to look at.
pub(super) const HEADERS: [(&str, &str); 8] = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-rust/0.14"),
    ("grpc-timeout", "5S"),
    ("x-model", "minilm"),
    ("x-user-id", "user-4711"),
    ("x-request-source", "bench"),
    ("accept-encoding", "identity"),
];

/// gRPC `UNKNOWN`: what Envoy makes of its own direct response to a gRPC request, hence the mark of one that no filter
/// refused.
pub(super) const PASSED: &str = "2";

/// Sends `requests`, `streams` at a time; every reply must be a success.
pub(super) async fn run(address: SocketAddr, requests: u32, streams: u32) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let left = Arc::new(AtomicU32::new(requests));
    let mut lanes = JoinSet::new();
    for _ in 0..streams {
        lanes.spawn(drive(sender.clone(), address, left.clone()));
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    driver.abort();
    Ok(())
}

async fn drive(sender: SendRequest<bytes::Bytes>, address: SocketAddr, left: Arc<AtomicU32>) -> Result<()> {
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}/inference.GRPCInferenceService/ServerReady"));
        for (name, value) in HEADERS {
            request = request.header(name, value);
        }
        let (response, _) = sender.clone().ready().await?.send_request(request.body(())?, true)?;
        let response = response.await.context("a request of the bench")?;
        ensure!(response.status() == 200, "answered with {}", response.status());
        let status = response
            .headers()
            .get("grpc-status")
            .and_then(|status| status.to_str().ok());
        ensure!(status == Some(PASSED), "refused: {:?}", response.headers());
    }
    Ok(())
}
