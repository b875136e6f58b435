use super::*;
use http::Response;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A server that answers each request once it gets a permit, with this `grpc-status`; it counts those it has received.
async fn server(
    gate: Arc<Semaphore>,
    received: Arc<AtomicU32>,
    status: &'static str,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (gate, received) = (gate.clone(), received.clone());
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    received.fetch_add(1, Ordering::SeqCst);
                    let gate = gate.clone();
                    tokio::spawn(async move {
                        if let Ok(permit) = gate.acquire().await {
                            permit.forget();
                        }
                        let response = Response::builder().header("grpc-status", status).body(());
                        if let Ok(response) = response {
                            let _ = respond.send_response(response, true);
                        }
                    });
                }
            });
        }
    });
    Ok((address, serve))
}

/// gRPC `OK`.
const SERVED: &str = "0";

fn ask() -> Ask {
    Ask::new("/a.Service/Method", &[("content-type", "application/grpc")])
}

const LOAD: OpenLoop = OpenLoop {
    requests: 200,
    rate: 2000,
    connections: 3,
};

#[test]
fn requests_are_due_at_the_rate_without_drift() {
    let start = Instant::now();
    let schedule = Schedule {
        start,
        requests: 1,
        rate: 3000,
    };
    assert_eq!(schedule.due(0), start);
    assert_eq!(schedule.due(3), start + Duration::from_millis(1));
    assert_eq!(schedule.due(3_000_000), start + Duration::from_secs(1000));
}

#[test]
fn nothing_is_told_before_it_is_due_and_everything_is_told() {
    let (tell, mut due) = mpsc::unbounded_channel();
    let schedule = Schedule {
        start: Instant::now(),
        requests: 20,
        rate: 4000,
    };
    schedule.follow(&tell);
    assert!(Instant::now() >= schedule.due(19));
    drop(tell);
    let told: Vec<Instant> = std::iter::from_fn(|| due.blocking_recv()).collect();
    assert_eq!(told, (0..20).map(|index| schedule.due(index)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_still_sent_everything() -> Result<()> {
    let (gate, received) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (address, serve) = server(gate.clone(), received.clone(), SERVED).await?;
    let load = tokio::spawn(async move { LOAD.run(address, &ask()).await?.all(SERVED) });
    crate::poll::until("every request to arrive", crate::poll::DEADLINE, async || {
        let received = received.load(Ordering::SeqCst);
        ensure!(received == LOAD.requests, "{received} have arrived");
        Ok(())
    })
    .await?;
    let blocked = Instant::now();
    // The answers come at last, and their delay shows although the requests were sent in time.
    crate::poll::until("a while", crate::poll::DEADLINE, async || {
        ensure!(blocked.elapsed() > Duration::from_millis(50), "wait");
        Ok(())
    })
    .await?;
    gate.add_permits(LOAD.requests as usize);
    let (latency, lateness) = load.await??;
    serve.abort();
    assert_eq!(latency.len(), u64::from(LOAD.requests));
    assert_eq!(lateness.len(), u64::from(LOAD.requests));
    assert!(latency.min() >= 50_000, "the first answer took {} us", latency.min());
    Ok(())
}

#[tokio::test]
async fn a_refused_request_fails_the_run_with_the_answer() -> Result<()> {
    let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    let (address, serve) = server(gate, Arc::default(), "3").await?;
    let refused = LOAD.run(address, &ask()).await?.all(SERVED).unwrap_err().to_string();
    assert!(
        refused.contains("refused") && refused.contains("grpc-status"),
        "{refused}"
    );
    let refused = saturate(address, (&ask(), SERVED), 10, (1, 2))
        .await
        .unwrap_err()
        .to_string();
    serve.abort();
    assert!(refused.contains("refused"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn the_closed_loop_sends_exactly_what_it_is_told() -> Result<()> {
    let (gate, received) = (Arc::new(Semaphore::new(10_000)), Arc::new(AtomicU32::new(0)));
    let (address, serve) = server(gate, received.clone(), SERVED).await?;
    saturate(address, (&ask(), SERVED), 777, (2, 5)).await?;
    serve.abort();
    assert_eq!(received.load(Ordering::SeqCst), 777);
    Ok(())
}
