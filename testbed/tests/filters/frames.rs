//! One request in HTTP/2 frames written by hand (RFC 9113; HPACK literals without indexing, RFC 7541 section 6.2.2): what a
//! library would refuse to send.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const DEADLINE: Duration = Duration::from_secs(20);

/// Sends a good gRPC request with one header more, and waits for whatever ends it: an answer, a reset, or the end of the
/// connection.
///
/// # Errors
/// If it is not ended in time.
pub(crate) async fn send(gateway: SocketAddr, name: &[u8], value: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(gateway).await?;
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/inference.GRPCInferenceService/ServerReady"),
    ] {
        literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    if name.starts_with(b":") {
        literal(&mut block, name, value);
    }
    literal(&mut block, b"content-type", b"application/grpc");
    literal(&mut block, b"te", b"trailers");
    if !name.starts_with(b":") {
        literal(&mut block, name, value);
    }
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &block);
    stream.write_all(&bytes).await?;
    tokio::time::timeout(DEADLINE, ended(&mut stream))
        .await
        .context("the request was not ended")
}

/// Reads frames until the stream or the connection has ended.
async fn ended(stream: &mut TcpStream) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let of_stream = head[5..] == 1_u32.to_be_bytes();
        if kind == GOAWAY || of_stream && (kind == RST_STREAM || flags & END_STREAM != 0) {
            return;
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Lengths are below 127, so each is one byte, and no Huffman coding.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend(text);
    }
}
