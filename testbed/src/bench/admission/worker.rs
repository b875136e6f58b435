//! A worker that pretends to compute and really runs out of memory: sequences grow token by token, take blocks of one arena as
//! they grow, and are lost when there is none left, as an engine with a paged KV cache that cannot preempt loses them. Compute is
//! simulated (a step takes longer the more sequences run), the arena is real.

use anyhow::Result;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The headers that say how many tokens a request really has: of the prompt, and of the answer.
pub(super) const PROMPT: &str = "x-really-prompt";
pub(super) const OUTPUT: &str = "x-really-output";
/// Bytes of a block.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;
/// Tokens for which a block has room.
pub(super) const BLOCK_TOKENS: u64 = 16;
/// What a step takes, whatever runs, and on top of it, with all sequences running.
const STEP: Duration = Duration::from_micros(4000);
const STEP_FULL: Duration = Duration::from_micros(8300);
/// Streams of a connection.
const MAX_STREAMS: u32 = 4096;

/// Memory in blocks: allocated once, handed out and taken back. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    blocks: Arc<Mutex<Vec<Box<[u8]>>>>,
    total: u64,
    /// Bytes that those who wait will need at once.
    promised: Arc<AtomicU64>,
}

impl Arena {
    pub(super) fn new(blocks: u32) -> Self {
        let block = |_| vec![0; BLOCK_BYTES as usize].into_boxed_slice();
        Self {
            blocks: Arc::new(Mutex::new((0..blocks).map(block).collect())),
            total: u64::from(blocks) * BLOCK_BYTES,
            promised: Arc::default(),
        }
    }

    /// All of it and what is free, bytes; what waiting requests need at once does not count as free.
    pub(super) fn memory(&self) -> (u64, u64) {
        let free = self.blocks().len() as u64 * BLOCK_BYTES;
        (self.total, free.saturating_sub(self.promised.load(Ordering::Relaxed)))
    }

    fn blocks(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a sequence what so many tokens need; false if there is not so much, and what it has stays.
    fn grow(&self, held: &mut Vec<Box<[u8]>>, tokens: u64) -> bool {
        let mut blocks = self.blocks();
        while (held.len() as u64) * BLOCK_TOKENS < tokens {
            let Some(mut block) = blocks.pop() else { return false };
            // Used, not only owned.
            if let Some(first) = block.first_mut() {
                *first = 1;
            }
            held.push(block);
        }
        true
    }

    fn take_back(&self, held: &mut Vec<Box<[u8]>>) {
        self.blocks().append(held);
    }
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Tokens of answers that were completed.
    pub(super) tokens: u64,
    /// Sequences lost for want of memory.
    pub(super) lost: u64,
}

#[derive(Debug, Default)]
struct Counters {
    tokens: AtomicU64,
    lost: AtomicU64,
}

/// It ends when dropped.
#[derive(Debug)]
pub(super) struct ArenaWorker {
    address: SocketAddr,
    arena: Arena,
    counters: Arc<Counters>,
    tasks: [JoinHandle<()>; 2],
}

/// One request.
struct Sequence {
    prompt: u64,
    output: u64,
    done: u64,
    held: Vec<Box<[u8]>>,
    /// Hears whether it was completed; gone with a client that left.
    tell: oneshot::Sender<bool>,
}

impl ArenaWorker {
    /// So many sequences run at a time; others wait in the order of their arrival.
    pub(super) async fn start(arena: Arena, sequences: u32) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let (queue, arrivals) = mpsc::unbounded_channel();
        let engine = tokio::spawn(run(arena.clone(), counters.clone(), arrivals, sequences));
        let waiting = arena.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, queue.clone(), waiting.clone()));
            }
        });
        Ok(Self {
            address,
            arena,
            counters,
            tasks: [engine, server],
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn arena(&self) -> Arena {
        self.arena.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            tokens: self.counters.tokens.load(Ordering::Relaxed),
            lost: self.counters.lost.load(Ordering::Relaxed),
        }
    }
}

impl Drop for ArenaWorker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn blocks_of(tokens: u64) -> u64 {
    tokens.div_ceil(BLOCK_TOKENS) * BLOCK_BYTES
}

/// The batch loop: admits, steps, completes.
async fn run(arena: Arena, counters: Arc<Counters>, mut arrivals: mpsc::UnboundedReceiver<Sequence>, most: u32) {
    let mut waiting = VecDeque::new();
    let mut running: Vec<Sequence> = Vec::new();
    loop {
        let mut began = Instant::now();
        if running.is_empty() && waiting.is_empty() {
            let Some(first) = arrivals.recv().await else { return };
            waiting.push_back(first);
            began = Instant::now();
        }
        while let Ok(next) = arrivals.try_recv() {
            waiting.push_back(next);
        }
        while running.len() < most as usize
            && let Some(next) = waiting.pop_front()
        {
            arena.promised.fetch_sub(blocks_of(next.prompt), Ordering::Relaxed);
            if !next.tell.is_closed() {
                running.push(next);
            }
        }
        let count = u32::try_from(running.len()).unwrap_or(u32::MAX);
        // From when it began, so that a busy machine does not slow the steps down.
        tokio::time::sleep_until(began + STEP + STEP_FULL * count / most).await;
        for mut sequence in std::mem::take(&mut running) {
            sequence.done += 1;
            let has_room = arena.grow(&mut sequence.held, sequence.prompt + sequence.done);
            if has_room && sequence.done < sequence.output {
                running.push(sequence);
                continue;
            }
            arena.take_back(&mut sequence.held);
            if has_room {
                counters.tokens.fetch_add(sequence.output, Ordering::Relaxed);
            } else {
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            let _ = sequence.tell.send(has_room);
        }
    }
}

async fn serve(stream: TcpStream, queue: mpsc::UnboundedSender<Sequence>, arena: Arena) {
    // Without it an answer waits for the next one (RFC 896).
    let _ = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(MAX_STREAMS);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // A client that is gone does not concern the others.
        tokio::spawn(answer(request, respond, queue.clone(), arena.clone()));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    queue: mpsc::UnboundedSender<Sequence>,
    arena: Arena,
) -> Result<()> {
    let number = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.and_then(|text| text.parse().ok()).unwrap_or(1)
    };
    let (prompt, output) = (number(PROMPT), number(OUTPUT));
    let (tell, told) = oneshot::channel();
    arena.promised.fetch_add(blocks_of(prompt), Ordering::Relaxed);
    queue.send(Sequence {
        prompt,
        output,
        done: 0,
        held: Vec::new(),
        tell,
    })?;
    let completed = told.await?;
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut body = respond.send_response(response, false)?;
    let mut trailers = HeaderMap::new();
    // What an engine that is out of memory can say is INTERNAL: it had taken the request.
    trailers.insert(
        "grpc-status",
        HeaderValue::from_static(if completed { "0" } else { "13" }),
    );
    let usage = format!("prompt_tokens={prompt} output_tokens={output}");
    trailers.insert(kilocard_policy::headers::USAGE, HeaderValue::from_str(&usage)?);
    body.send_trailers(trailers)?;
    Ok(())
}
