//! A worker that pretends to compute, so that what is compared is the pools and not the machine's cores: so many requests at
//! a time, each for a fixed time by its kind, and the others wait in the order of their arrival. Simulated: no model, no GPU.

use anyhow::Result;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The header that says what kind of work a request is.
pub(super) const WORK: &str = "x-work";

/// Streams of a connection, as a real worker has it.
const MAX_STREAMS: u32 = 256;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Somebody waits.
    Interactive,
    /// A part of a batch.
    Batch,
}

impl Work {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }

    /// How long a slot is taken.
    pub(super) fn takes(self) -> Duration {
        match self {
            Self::Interactive => Duration::from_millis(5),
            Self::Batch => Duration::from_millis(20),
        }
    }

    fn of(headers: &HeaderMap) -> Self {
        let is_batch = headers.get(WORK).is_some_and(|work| work == Self::Batch.label());
        if is_batch { Self::Batch } else { Self::Interactive }
    }
}

/// What a worker can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// Requests at a time.
    pub(super) slots: usize,
}

/// It ends when dropped.
#[derive(Debug)]
pub(super) struct SimulatedWorker {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl SimulatedWorker {
    pub(super) async fn start(capacity: Capacity) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let slots = Arc::new(Semaphore::new(capacity.slots));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, slots.clone()));
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimulatedWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, slots: Arc<Semaphore>) {
    // Without it an answer waits for the next one (RFC 896).
    let _ = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(MAX_STREAMS);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // A client that is gone does not concern the others.
        tokio::spawn(answer(request, respond, slots.clone()));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    slots: Arc<Semaphore>,
) -> Result<()> {
    let slot = slots.acquire().await?;
    tokio::time::sleep(Work::of(request.headers()).takes()).await;
    drop(slot);
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut body = respond.send_response(response, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)?;
    Ok(())
}
