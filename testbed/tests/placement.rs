//! Which worker a request gets: by the GPU that it asks for, by which versions are ready, and where copies go.

use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::{SimulatedGpu, WorkerSpec};
use kilocard_testbed::load::Load;
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::prometheus;
use kilocard_testbed::starter::{self, Cohorts, V1_A, V2};
use kilocard_testbed::tally;
use kilocard_testbed::{raw, refusals};
use std::time::Instant;

const CLASSES: &str = "api_version: kilocard/v1
kind: MeshPolicy
metadata: {name: mesh}
spec:
  decision_record: {response_header: true}
  gpu_classes:
    - {name: hopper-nvlink, select: {archs: [hopper], nvlink: true}, fallback: [ampere], otherwise: unavailable}
    - {name: ampere, select: {archs: [ampere]}}
";

const HOPPER: &[(&str, &str)] = &[("x-gpu-class", "hopper-nvlink")];
const AMPERE: &[(&str, &str)] = &[("x-gpu-class", "ampere")];

fn on_card(id: &str, gpu: SimulatedGpu) -> WorkerSpec {
    WorkerSpec::minilm(id, "v1").with_gpu(gpu)
}

#[tokio::test]
async fn requests_get_the_gpu_they_ask_for_and_the_next_best_when_it_is_gone() -> Result<()> {
    let mut t4 = SimulatedGpu::new("0000:1b:00.0", "Tesla T4", 16, "turing");
    t4.device.nvlink = false;
    let mut testbed = Testbed::builder("e2e-gpu-classes")
        .worker(on_card("hopper", SimulatedGpu::h100("0000:1b:00.0")))
        .worker(on_card("ampere", SimulatedGpu::a100("0000:1b:00.0")))
        .worker(on_card("turing", t4))
        .policy(CLASSES)
        .policy(starter::routing(0))
        .start()
        .await?;
    await_class(&testbed, HOPPER, "hopper").await?;
    a_wish_is_served_by_what_it_wishes(&testbed).await?;
    the_status_tells_by_what_workers_can_be_chosen(&testbed).await?;

    testbed.worker("hopper")?.sigkill().await?;
    await_class(&testbed, HOPPER, "ampere").await?;
    ensure!(
        ask(&testbed, HOPPER, 20).await?.only("ampere"),
        "the class's fallback serves"
    );

    testbed.worker("ampere")?.sigkill().await?;
    await_class(&testbed, AMPERE, "turing").await?;
    ensure!(ask(&testbed, AMPERE, 20).await?.only("turing"), "anything will do");
    let client = testbed.client().await?;
    let refused = client
        .ready(HOPPER)
        .await
        .err()
        .context("no GPU of the class is left")?;
    ensure!(refused.code() == tonic::Code::Unavailable, "{refused:?}");
    testbed.finish().await
}

async fn a_wish_is_served_by_what_it_wishes(testbed: &Testbed) -> Result<()> {
    ensure!(ask(testbed, HOPPER, 50).await?.only("hopper"), "the class asked for");
    ensure!(ask(testbed, AMPERE, 50).await?.only("ampere"), "the class asked for");
    let high = ask(testbed, &[("x-gpu-affinity", "gpu0:high")], 200).await?;
    ensure!(
        high.of("hopper") > 0 && high.of("ampere") > 0 && high.of("turing") == 0,
        "the first card of a node, of 40 GB and more: {high}"
    );
    let all = ask(testbed, &[], 400).await?;
    ensure!(
        ["hopper", "ampere", "turing"].iter().all(|worker| all.of(worker) > 0),
        "without a wish everybody serves: {all}"
    );
    let reply = raw::call(
        testbed.gateway(),
        "ServerReady",
        &[("x-gpu-class", b"hopper-nvlink")],
        &(),
    )
    .await?;
    let record = reply
        .header("x-kilocard-decision")
        .context("the record is switched on")?;
    ensure!(record.contains(" gpu=hopper-nvlink"), "{record}");
    Ok(())
}

async fn the_status_tells_by_what_workers_can_be_chosen(testbed: &Testbed) -> Result<()> {
    let status = testbed.status().await?;
    let endpoints = status.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let hopper = endpoints.clone().find(|endpoint| endpoint.worker == "hopper");
    let tags = &hopper.context("it is reported")?.tags;
    for tag in ["any", "gpu0:high", "class/hopper-nvlink"] {
        ensure!(tags.iter().any(|has| has == tag), "{tag} is missing: {tags:?}");
    }
    Ok(())
}

async fn ask(testbed: &Testbed, metadata: &[(&str, &str)], calls: usize) -> Result<tally::Tally> {
    tally::workers_in_lanes(testbed.gateway(), 2, calls, metadata).await
}

/// Until a request with this wish is served by this worker.
async fn await_class(testbed: &Testbed, wish: &[(&str, &str)], worker: &str) -> Result<()> {
    let client = testbed.client().await?;
    poll::until(&format!("{wish:?} to be served by {worker}"), DEADLINE, async || {
        let by = client.ready(wish).await?;
        ensure!(by == worker, "served by {by}");
        Ok(())
    })
    .await
}

/// `v1` and `v2`, half each, each the other's fallback.
const HALVES: &str = "api_version: kilocard/v1
kind: RoutingPolicy
metadata: {name: minilm}
spec:
  model: minilm
  default: true
  salt: minilm-2026
  versions:
    - {version: v1, weight: 50, fallback: [v2]}
    - {version: v2, weight: 50, fallback: [v1]}
";

#[tokio::test]
async fn a_version_takes_traffic_only_while_it_is_ready_and_its_fallback_otherwise() -> Result<()> {
    let mut testbed = Testbed::builder("e2e-readiness")
        .worker(WorkerSpec::minilm(V1_A, "v1"))
        .policy(CLASSES)
        .policy(HALVES)
        .start()
        .await?;
    let cohorts = Cohorts::new()?;
    let (on_v2, on_v1) = (cohorts.users(0..50, 1)?.concat(), cohorts.users(50..100, 1)?.concat());
    let canary = [("x-user-id", on_v2.as_str())];

    await_class(&testbed, &canary, V1_A).await?;
    let record = record_of(&testbed, &on_v2).await?;
    ensure!(record.contains("fallback=v2>v1"), "{record}");
    a_pin_to_a_version_that_is_not_ready_is_refused(&testbed).await?;

    // From the first request to the last nothing fails: neither when the canary comes nor when it goes.
    let load = Load::start(testbed.gateway(), 2, &canary).await?;
    testbed.start_worker(starter::v2()).await?;
    outage::await_served_by(&load, V2).await?;
    ensure!(!record_of(&testbed, &on_v2).await?.contains("fallback="), "it is ready");
    testbed.worker(V2)?.drain().await?;
    outage::await_served_by(&load, V1_A).await?;
    load.await_served(20, Instant::now()).await?;
    outage::ensure_unharmed(load).await?;

    testbed.start_worker(starter::v2()).await?;
    await_class(&testbed, &canary, V2).await?;
    let stable = [("x-user-id", on_v1.as_str())];
    let load = Load::start(testbed.gateway(), 2, &stable).await?;
    outage::await_served_by(&load, V1_A).await?;
    testbed.worker(V1_A)?.drain().await?;
    outage::await_served_by(&load, V2).await?;
    outage::ensure_unharmed(load).await?;
    testbed.finish().await
}

async fn record_of(testbed: &Testbed, user: &str) -> Result<String> {
    let reply = raw::call(testbed.gateway(), "ServerReady", &[("x-user-id", user.as_bytes())], &()).await?;
    ensure!(reply.grpc_status == Some(0), "{reply:?}");
    let record = reply
        .header("x-kilocard-decision")
        .context("the record is switched on")?;
    Ok(record.to_owned())
}

async fn a_pin_to_a_version_that_is_not_ready_is_refused(testbed: &Testbed) -> Result<()> {
    let reply = refusals::infer(testbed, &[("x-model-version", b"v2")]).await?;
    ensure!(reply.grpc_status == Some(14), "UNAVAILABLE: {reply:?}");
    ensure!(
        reply.header("x-kilocard-reason") == Some("VERSION_NOT_READY"),
        "{reply:?}"
    );
    let status = testbed.status().await?;
    ensure!(
        status.filter_state.unready == ["minilm/v2"],
        "{:?}",
        status.filter_state
    );
    Ok(())
}

/// All traffic on `v1`, and copies to `v2`.
fn shadowed(percent: u8, max_per_second: u32) -> String {
    format!(
        "{}  shadow: {{version: v2, percent: {percent}, max_per_second: {max_per_second}}}\n",
        starter::routing(0)
    )
}

/// The shadow's worker on a card with so much of its 80 GiB free.
fn shadow(free_gib: u64) -> WorkerSpec {
    let gpu = SimulatedGpu {
        memory_free_bytes: free_gib << 30,
        ..SimulatedGpu::h100("0000:1b:00.0")
    };
    starter::v2().with_gpu(gpu)
}

#[tokio::test]
async fn copies_reach_the_shadow_sampled_and_capped_and_clients_see_none_of_it() -> Result<()> {
    let mut testbed = Testbed::builder("e2e-shadow")
        .worker(WorkerSpec::minilm(V1_A, "v1"))
        .worker(shadow(60))
        .policy(shadowed(100, 100_000))
        .start()
        .await?;
    every_request_is_computed_twice_and_answered_once(&mut testbed).await?;
    a_share_of_the_requests_is_copied(&mut testbed).await?;
    no_more_are_copied_than_the_policy_allows_a_second(&mut testbed).await?;

    testbed.apply(&shadowed(100, 100_000)).await?;
    await_copies(&mut testbed, "all copied again", |copies, calls| copies == calls).await?;
    testbed.worker(V2)?.drain().await?;
    testbed.start_worker(shadow(1)).await?;
    await_copies(&mut testbed, "a shadow without memory to be spared", |copies, _| {
        copies == 0
    })
    .await?;
    let status = testbed.status().await?;
    ensure!(
        status.filter_state.saturated == ["minilm/v2"],
        "{:?}",
        status.filter_state
    );
    ensure!(copies_of(&mut testbed, 50).await? == 0, "it is spared");

    testbed.worker(V2)?.drain().await?;
    ensure!(
        copies_of(&mut testbed, 50).await? == 0,
        "nothing goes to one that is gone"
    );
    testbed.finish().await
}

async fn every_request_is_computed_twice_and_answered_once(testbed: &mut Testbed) -> Result<()> {
    const CALLS: usize = 20;
    await_copies(testbed, "copies", |copies, calls| copies == calls).await?;
    let before = shadow_requests(testbed).await?;
    let client = testbed.client().await?;
    for _ in 0..CALLS {
        let reply = client.infer(&["a short text"], &[]).await?;
        ensure!(reply.worker == V1_A && reply.version == "v1", "{reply:?}");
    }
    poll::until("the copies to be computed", DEADLINE, async || {
        let computed = shadow_requests(testbed).await? - before;
        ensure!((computed - CALLS as f64).abs() < 0.5, "{computed} so far");
        Ok(())
    })
    .await
}

async fn a_share_of_the_requests_is_copied(testbed: &mut Testbed) -> Result<()> {
    const CALLS: usize = 400;
    testbed.apply(&shadowed(25, 100_000)).await?;
    await_copies(testbed, "fewer copies", |copies, calls| copies < calls).await?;
    let band = tally::binomial_band(CALLS, 0.25);
    let copies = copies_of(testbed, CALLS).await?;
    ensure!(band.contains(&copies), "{band:?} expected, {copies} seen");
    Ok(())
}

async fn no_more_are_copied_than_the_policy_allows_a_second(testbed: &mut Testbed) -> Result<()> {
    const CALLS: usize = 200;
    testbed.apply(&shadowed(100, 1)).await?;
    // A share of 25 % might by chance copy none of ten, but not as few of so many.
    let begun = Instant::now();
    poll::until("the cap", DEADLINE, async || {
        let begun = Instant::now();
        let copies = copies_of(testbed, CALLS).await?;
        let allowed = begun.elapsed().as_secs() as usize + 2;
        ensure!(copies <= allowed, "{copies} copies, {allowed} allowed");
        Ok(())
    })
    .await?;
    let copies = copies_of(testbed, CALLS).await?;
    let allowed = begun.elapsed().as_secs() as usize + 2;
    ensure!(copies <= allowed, "{copies} copies, at most {allowed} allowed");
    let page = testbed.envoy().stats("wasmcustom.kilocard_shadow").await?;
    let capped = page.iter().find(|(name, _)| name.ends_with(".capped"));
    ensure!(capped.is_some_and(|(_, count)| *count > 0), "{page:?}");
    Ok(())
}

/// Sends so many requests that need no computation, all of which `v1` must serve, and counts what Envoy sent to `v2`.
async fn copies_of(testbed: &mut Testbed, calls: usize) -> Result<usize> {
    const TO_SHADOW: &str = "cluster.minilm_v2.upstream_rq_total";
    let before = testbed.envoy().stat(TO_SHADOW).await?;
    let served = tally::workers_in_lanes(testbed.gateway(), 2, calls, &[]).await?;
    ensure!(served.only(V1_A), "clients see the primary: {served}");
    Ok(usize::try_from(testbed.envoy().stat(TO_SHADOW).await? - before)?)
}

async fn await_copies(testbed: &mut Testbed, what: &str, is: impl Fn(usize, usize) -> bool) -> Result<()> {
    const CALLS: usize = 10;
    poll::until(what, DEADLINE, async || {
        let copies = copies_of(testbed, CALLS).await?;
        ensure!(is(copies, CALLS), "{copies} of {CALLS}");
        Ok(())
    })
    .await
}

async fn shadow_requests(testbed: &mut Testbed) -> Result<f64> {
    let page = testbed.worker(V2)?.metrics().await?;
    Ok(prometheus::sum(&page, "kilocard_worker_shadow_requests_total", &[]))
}
