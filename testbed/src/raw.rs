//! A gRPC request as bare HTTP/2 frames: it can send what a gRPC library would refuse to send, and sees how a reply is
//! framed.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use prost::Message;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub http_status: u16,
    /// The first header block.
    pub headers: HeaderMap,
    /// Whether that block also ended the stream: gRPC's Trailers-Only reply.
    pub ended_by_headers: bool,
    /// `grpc-status`, from whichever block carries it.
    pub grpc_status: Option<i32>,
    /// `grpc-message`, percent-decoded.
    pub grpc_message: String,
    /// The body; of a gRPC reply, its framed messages.
    pub body: Bytes,
}

impl Reply {
    /// A header of the first block, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The headers that every gRPC request has.
const PROTOCOL: [(&str, &[u8]); 2] = [("content-type", b"application/grpc"), ("te", b"trailers")];

/// Calls `method` (for example `ModelInfer`) of the inference service with this message, on a connection of its own. Header
/// values are raw bytes; they come on top of gRPC's own.
///
/// # Errors
/// If the connection or the stream breaks, or a header cannot be framed at all.
pub async fn call(
    gateway: SocketAddr,
    method: &str,
    headers: &[(&str, &[u8])],
    message: &impl Message,
) -> Result<Reply> {
    send(gateway, method, &[&PROTOCOL, headers].concat(), message).await
}

/// The same with these headers and no others.
///
/// # Errors
/// See [`call`].
pub async fn send(
    gateway: SocketAddr,
    method: &str,
    headers: &[(&str, &[u8])],
    message: &impl Message,
) -> Result<Reply> {
    let path = format!("/inference.GRPCInferenceService/{method}");
    request(gateway, (Method::POST, &path), headers, frame(message)?).await
}

/// Any request over HTTP/2 (`target`: method, path), with these headers, this body and nothing else.
///
/// # Errors
/// See [`call`].
pub async fn request(
    gateway: SocketAddr,
    target: (Method, &str),
    headers: &[(&str, &[u8])],
    body: Bytes,
) -> Result<Reply> {
    let call = exchange(gateway, target, headers, body);
    tokio::time::timeout(DEADLINE, call).await.context("no reply in time")?
}

/// gRPC's length-prefixed message: not compressed, length, bytes.
///
/// # Errors
/// If it is longer than a length can say.
pub fn frame(message: &impl Message) -> Result<Bytes> {
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len())?.to_be_bytes());
    frame.extend(message);
    Ok(frame.into())
}

async fn exchange(
    gateway: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(&str, &[u8])],
    message: Bytes,
) -> Result<Reply> {
    let stream = TcpStream::connect(gateway)
        .await
        .with_context(|| format!("connect to {gateway}"))?;
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{gateway}{path}"))
        .body(())?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value)?);
    }
    sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request, false)?;
    // The server may refuse on the headers and reset the stream before the body is sent.
    let _ = body.send_data(message, true);
    let response = response.await?;
    let (http_status, head) = (response.status().as_u16(), response.headers().clone());
    let mut body = response.into_body();
    let ended_by_headers = body.is_end_stream();
    let mut content = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        content.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?;
    driver.abort();
    let last = trailers.as_ref().unwrap_or(&head);
    let text = |name: &str| last.get(name).and_then(|value| value.to_str().ok());
    let grpc_status = text("grpc-status").and_then(|code| code.parse().ok());
    let grpc_message = percent_decode(text("grpc-message").unwrap_or_default());
    Ok(Reply {
        http_status,
        headers: head,
        ended_by_headers,
        grpc_status,
        grpc_message,
        body: content.freeze(),
    })
}

/// gRPC's percent-encoding of `grpc-message` (PROTOCOL-HTTP2.md, "Responses").
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn escapes_are_decoded_and_broken_ones_stay() {
        assert_eq!(percent_decode("100%25 %C3%A9"), "100% é");
        assert_eq!(percent_decode("50% off%"), "50% off%");
    }
}
