//! Pools: a flood fills its own and no other, limits change live, and both ends of a connection keep it alive alike.

use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::WorkerSpec;
use kilocard_testbed::load::{Load, Sample};
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::sockets;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROUTING: &str = "api_version: kilocard/v1
kind: RoutingPolicy
metadata: {name: minilm}
spec:
  model: minilm
  model_type: embedding
  default: true
  versions: [{version: v1, weight: 100}]
";

/// Envoy has this cluster besides `minilm/v1`.
const POOLED: &str = "minilm/v1/bursts";

const FLOOD: &[(&str, &str)] = &[("x-priority", "P2")];

/// A pool of so many requests at a time.
fn pool(max_requests: u32) -> String {
    format!(
        "api_version: kilocard/v1
kind: PoolPolicy
metadata: {{name: bursts}}
spec:
  match: {{model_types: [embedding], priorities: [P2]}}
  limits: {{max_requests: {max_requests}, max_pending_requests: {max_requests}}}
"
    )
}

#[tokio::test]
async fn a_flood_fills_its_own_pool_while_every_urgent_request_is_served() -> Result<()> {
    let mut testbed = Testbed::builder("e2e-pools")
        .worker(WorkerSpec::minilm("a", "v1"))
        .policy(ROUTING)
        .policy(pool(1))
        .start()
        .await?;
    await_cluster(&mut testbed, true).await?;
    it_is_told_which_pool_takes_a_request(&testbed).await?;
    a_bad_pool_is_refused_with_its_paths(&testbed).await?;

    let urgent = Load::start(testbed.gateway(), 2, &[("x-priority", "P0")]).await?;
    let flood = Load::start(testbed.gateway(), 6, FLOOD).await?;
    the_flood_is_refused_beyond_its_limit(&flood).await?;
    urgent.await_served(20, Instant::now()).await?;

    testbed.apply(&pool(64)).await?;
    let wider = nothing_is_refused_any_more(&flood).await?;

    // The pool goes while its requests are under way.
    succeeded(&testbed, &["delete", "pool", "bursts"]).await?;
    await_cluster(&mut testbed, false).await?;
    flood.await_served(20, Instant::now()).await?;
    urgent.await_served(20, Instant::now()).await?;
    let since_then: Vec<Sample> = flood.stop().await;
    let harmed = since_then
        .iter()
        .find(|sample| sample.started >= wider && sample.failed());
    ensure!(harmed.is_none(), "a request was lost with its pool: {harmed:?}");
    outage::ensure_unharmed(urgent).await?;

    both_ends_keep_the_connection_alive_alike(&mut testbed).await?;
    testbed.finish().await
}

/// A new cluster over endpoints that Envoy has already: it must get them.
async fn await_cluster(testbed: &mut Testbed, present: bool) -> Result<()> {
    poll::until("the pool's cluster to come or go", DEADLINE, async || {
        let hosts = testbed.envoy().hosts().await?;
        let there = hosts.iter().any(|host| host.cluster == POOLED && host.healthy);
        ensure!(there == present, "{hosts:?}");
        Ok(())
    })
    .await
}

async fn it_is_told_which_pool_takes_a_request(testbed: &Testbed) -> Result<()> {
    let explained = succeeded(testbed, &["explain", "-H", "x-model: minilm", "-H", "x-priority: P2"]).await?;
    ensure!(
        explained.contains("bursts, for a request of priority P2") && explained.contains("pool=bursts"),
        "{explained}"
    );
    let status = testbed.status().await?;
    let pools = status.clusters.first().map(|cluster| cluster.pools.join(" "));
    ensure!(pools.as_deref() == Some("default bulk bursts"), "{pools:?}");
    Ok(())
}

const BAD: &str = "api_version: kilocard/v1
kind: PoolPolicy
metadata: {name: bad}
spec:
  match: {priorities: [P9]}
  limits: {max_requests: 0}
";

const SAME: &str = "api_version: kilocard/v1
kind: PoolPolicy
metadata: {name: rival}
spec:
  match: {model_types: [embedding, llm], priorities: [P1, P2]}
";

async fn a_bad_pool_is_refused_with_its_paths(testbed: &Testbed) -> Result<()> {
    for (document, paths) in [
        (BAD, &["spec.match.priorities[0]", "spec.limits.max_requests"][..]),
        (SAME, &["spec.match: would take requests that PoolPolicy/bursts takes"]),
    ] {
        let told = testbed.apply(document).await.err().context("a bad pool was applied")?;
        let told = format!("{told:#}");
        ensure!(paths.iter().all(|path| told.contains(path)), "{told}");
    }
    Ok(())
}

async fn the_flood_is_refused_beyond_its_limit(flood: &Load) -> Result<()> {
    poll::until("the flood to fill its pool", DEADLINE, async || {
        let samples = flood.samples();
        let served = samples.iter().filter(|sample| !sample.failed()).count();
        let refused: Vec<&String> = samples
            .iter()
            .filter_map(|sample| sample.outcome.as_ref().err())
            .collect();
        ensure!(
            served >= 5 && refused.len() >= 20,
            "{served} served, {} refused",
            refused.len()
        );
        let other = refused
            .iter()
            .find(|why| !(why.contains("Unavailable") && why.contains("overflow")));
        Ok(ensure_none(other))
    })
    .await?
}

fn ensure_none(other: Option<&&String>) -> Result<()> {
    ensure!(other.is_none(), "refused for another reason: {other:?}");
    Ok(())
}

/// Gives the moment from which on every request of the flood was served.
async fn nothing_is_refused_any_more(flood: &Load) -> Result<Instant> {
    poll::until("the wider limit to be felt", DEADLINE, async || {
        let samples = flood.samples();
        let last_refused = samples
            .iter()
            .filter(|sample| sample.failed())
            .map(|sample| sample.finished)
            .max();
        let since = last_refused.context("nothing was ever refused")?;
        let served = samples.iter().filter(|sample| sample.started > since).count();
        ensure!(served >= 30, "{served} served since the last refusal");
        Ok(since)
    })
    .await
}

/// HTTP/2 pings and the kernel's probes of both ends: every 30 s, as documented.
async fn both_ends_keep_the_connection_alive_alike(testbed: &mut Testbed) -> Result<()> {
    const INTERVAL: Duration = Duration::from_secs(30);
    let dump = testbed
        .envoy()
        .page("/config_dump?resource=dynamic_active_clusters")
        .await?;
    let dump: serde_json::Value = serde_json::from_str(&dump)?;
    let cluster = dump
        .pointer("/configs/0/cluster")
        .context("no cluster in Envoy's configuration")?;
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let pings = &cluster["typed_extension_protocol_options"][options]["explicit_http_config"]["http2_protocol_options"]
        ["connection_keepalive"];
    ensure!(pings["interval"] == "30s" && pings["timeout"] == "10s", "{pings}");
    let probes = &cluster["upstream_connection_options"]["tcp_keepalive"];
    let expected = serde_json::json!({"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3});
    ensure!(*probes == expected, "{probes}");

    let worker: SocketAddr = testbed.worker("a")?.grpc().context("the worker serves")?;
    poll::until("the kernel to keep both ends alive", DEADLINE, async || {
        let sockets = sockets::established()?;
        let ends = |of: fn(&sockets::Socket) -> SocketAddr| {
            let ends: Vec<_> = sockets.iter().filter(|socket| of(socket) == worker).copied().collect();
            ensure!(!ends.is_empty(), "no connection to the worker");
            // A timer that is due just now may already be a tick beyond.
            let alive = |socket: &sockets::Socket| socket.probe_in.is_some_and(|left| left <= INTERVAL);
            ensure!(ends.iter().all(alive), "{ends:?}");
            Ok(())
        };
        ends(|socket| socket.local)?;
        ends(|socket| socket.remote)
    })
    .await
}

/// What the command line says.
async fn succeeded(testbed: &Testbed, arguments: &[&str]) -> Result<String> {
    let output = testbed.kilocard(arguments).await?;
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "kilocard {arguments:?}: {out}{error}");
    Ok(out.into_owned())
}
