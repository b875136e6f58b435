//! A gRPC server that accepts everything and remembers what it was asked: what a filter let through, as the upstream
//! sees it.

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The header of a request that is to be held: answered by headers at once, and by trailers only after
/// [`Upstream::release`] or [`Upstream::release_held`].
pub const HOLD: &str = "x-hold";
/// The header of a request that gets nothing, no headers either, before such a release.
pub const STALL: &str = "x-stall";
/// The header that says how many milliseconds pass before each message.
pub const PACE_MS: &str = "x-pace-ms";
/// The header that says how many messages the answer has; without it, none. A message has no content.
pub const MESSAGES: &str = "x-messages";

/// What arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The path.
    pub path: String,
    /// All headers but the pseudo-headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// A header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Which of the held requests may end.
#[derive(Clone, Copy, Debug, Default)]
struct Release {
    /// All that came before so many releases.
    round: u64,
    /// All others too.
    all: bool,
}

/// A running upstream; it ends when dropped. Its replies carry its name as `x-upstream`.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    held: Arc<AtomicUsize>,
    release: watch::Sender<Release>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts one that calls itself `name`.
    ///
    /// # Errors
    /// If it cannot listen, or the name cannot stand in a header.
    pub async fn start(name: &str) -> Result<Self> {
        Self::serve(name, true).await
    }

    /// The same without a memory of what it was asked, for loads of any length.
    ///
    /// # Errors
    /// See [`Upstream::start`].
    pub async fn start_forgetful(name: &str) -> Result<Self> {
        Self::serve(name, false).await
    }

    async fn serve(name: &str, remembers: bool) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (release, released) = watch::channel(Release::default());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let server = Server {
            name: HeaderValue::from_str(name).context("the upstream's name")?,
            seen: seen.clone(),
            remembers,
            released,
            held: Arc::default(),
        };
        let held = server.held.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        Ok(Self {
            address,
            seen,
            held,
            release,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order of their arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every held request end, now and from now on.
    pub fn release(&self) {
        self.release.send_modify(|release| release.all = true);
    }

    /// Lets those end that are held now.
    pub fn release_held(&self) {
        self.release.send_modify(|release| release.round += 1);
    }

    /// How many requests are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug)]
struct Server {
    name: HeaderValue,
    seen: Arc<Mutex<Vec<Seen>>>,
    remembers: bool,
    released: watch::Receiver<Release>,
    held: Arc<AtomicUsize>,
}

/// A request that is held, as long as it lives.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    async fn serve(self, stream: TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((request, respond))) = connection.accept().await {
            if self.remembers {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
                    path: request.uri().path().to_owned(),
                    headers: request.headers().clone(),
                });
            }
            // A client that is gone does not concern the others.
            tokio::spawn(self.clone().answer(request, respond));
        }
    }

    async fn answer(
        mut self,
        request: Request<h2::RecvStream>,
        mut respond: h2::server::SendResponse<bytes::Bytes>,
    ) -> Result<()> {
        if request.headers().contains_key(STALL) {
            self.hold(std::future::pending()).await?;
        }
        let mut response = Response::builder()
            .header("content-type", "application/grpc")
            .body(())?;
        response.headers_mut().insert("x-upstream", self.name.clone());
        let mut body = respond.send_response(response, false)?;
        let number = |name| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let pace = Duration::from_millis(number(PACE_MS));
        for _ in 0..number(MESSAGES) {
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            // gRPC's frame of a message without content. h2 makes a DATA frame of each.
            body.send_data(bytes::Bytes::from_static(&[0; 5]), false)?;
        }
        if request.headers().contains_key(HOLD) {
            // A client that left frees what it held.
            let left = async { drop(std::future::poll_fn(|context| body.poll_reset(context)).await) };
            self.hold(left).await?;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        body.send_trailers(trailers)?;
        Ok(())
    }

    /// Until a release, or until something else has happened.
    async fn hold(&mut self, or: impl Future<Output = ()>) -> Result<()> {
        let _held = Held::new(self.held.clone());
        let came = self.released.borrow().round;
        let is_released = |release: &Release| release.all || release.round > came;
        tokio::select! {
            released = self.released.wait_for(is_released) => drop(released?),
            () = or => {}
        }
        Ok(())
    }
}
