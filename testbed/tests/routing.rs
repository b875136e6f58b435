//! Where requests go, what is refused, and what a policy change does, through real Envoy.

use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::{Key, PolicyId};
use kilocard_registry::policy_status::PolicyState;
use kilocard_registry::report::PolicyReport;
use kilocard_testbed::effect::raise_share;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::envoy::Ads;
use kilocard_testbed::load::Load;
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::refusals::{self, Reached};
use kilocard_testbed::starter::{self, Cohorts};
use kilocard_testbed::tally;
use std::time::Instant;

#[tokio::test]
async fn requests_go_where_the_policy_says_and_a_live_change_keeps_the_cohorts() -> Result<()> {
    let mut testbed = starter::mesh("e2e-routing", 10).start().await?;
    a_pin_wins_over_everything(&testbed).await?;
    without_user_and_pin_the_weights_hold(&testbed).await?;
    a_live_change_moves_only_who_it_must(&mut testbed).await?;
    an_envoy_that_asks_for_the_state_of_the_world_follows_too(&mut testbed).await?;
    testbed.finish().await
}

async fn a_pin_wins_over_everything(testbed: &Testbed) -> Result<()> {
    let client = testbed.client().await?;
    let on_v2 = Cohorts::new()?.users(0..10, 1)?.concat();
    // A client cannot smuggle in a decision of its own.
    let metadata = [
        ("x-model-version", "v1"),
        ("x-user-id", on_v2.as_str()),
        ("x-kilocard-route", "minilm/v2"),
        // Nor can it steer Envoy's router, not even from 127.0.0.1, which Envoy takes for one of its own: an inference
        // takes longer than this.
        ("x-envoy-upstream-rq-timeout-ms", "1"),
    ];
    for _ in 0..10 {
        let reply = client.infer(&["a short text"], &metadata).await?;
        ensure!(reply.version == "v1", "pinned to v1, served by {}", reply.worker);
    }
    let absent = client
        .ready(&[("x-model-version", "v9")])
        .await
        .err()
        .context("v9 does not exist")?;
    ensure!(
        absent.code() == tonic::Code::NotFound && absent.message().contains("v1"),
        "{absent:?}"
    );
    Ok(())
}

async fn without_user_and_pin_the_weights_hold(testbed: &Testbed) -> Result<()> {
    const CALLS: usize = 1000;
    let workers = tally::workers_in_lanes(testbed.gateway(), 4, CALLS, &[]).await?;
    let band = tally::binomial_band(CALLS, 0.1);
    ensure!(
        band.contains(&workers.of(starter::V2)),
        "v2 has 10 %: {band:?} expected, {workers} seen"
    );
    ensure!(
        workers.of(starter::V1_A) > 0 && workers.of(starter::V1_B) > 0,
        "both serve v1: {workers}"
    );
    Ok(())
}

async fn a_live_change_moves_only_who_it_must(testbed: &mut Testbed) -> Result<()> {
    let cohorts = Cohorts::new()?;
    let (early, middle, late) = (
        cohorts.users(0..10, 100)?,
        cohorts.users(10..50, 100)?,
        cohorts.users(50..100, 100)?,
    );
    ensure!(
        tally::versions_of(testbed, &early).await?.only("v2"),
        "below 10 % is v2"
    );
    ensure!(
        tally::versions_of(testbed, &middle).await?.only("v1"),
        "from 10 % on is v1"
    );
    raise_share(testbed, &middle[0], 10, 50).await?;
    ensure!(
        tally::versions_of(testbed, &early).await?.only("v2"),
        "nobody moves off v2"
    );
    ensure!(
        tally::versions_of(testbed, &middle).await?.only("v2"),
        "up to 50 % comes to v2"
    );
    ensure!(
        tally::versions_of(testbed, &late).await?.only("v1"),
        "from 50 % on stays on v1"
    );
    Ok(())
}

async fn an_envoy_that_asks_for_the_state_of_the_world_follows_too(testbed: &mut Testbed) -> Result<()> {
    testbed.replace_envoy(Ads::StateOfTheWorld).await?;
    let user = Cohorts::new()?.users(50..60, 1)?.concat();
    raise_share(testbed, &user, 50, 60).await?;

    let address = testbed.worker(starter::V1_B)?.grpc().context("it serves")?;
    let load = Load::start(testbed.gateway(), 2, &[("x-model-version", "v1")]).await?;
    outage::await_served_by(&load, starter::V1_B).await?;
    testbed.worker(starter::V1_B)?.drain().await?;
    testbed.envoy().await_endpoint(address, false).await?;
    load.await_served(10, Instant::now()).await?;
    outage::ensure_unharmed(load).await
}

#[tokio::test]
async fn what_is_bad_is_refused_whether_a_request_or_a_policy() -> Result<()> {
    let mut testbed = starter::mesh("e2e-refusals", 10).start().await?;
    bad_requests_never_reach_a_worker(&mut testbed).await?;
    many_headers_within_the_limits_reach_a_worker(&testbed).await?;
    the_command_line_refuses_a_bad_policy_with_its_path(&testbed).await?;
    a_bad_policy_in_etcd_leaves_the_last_good_one_in_force(&mut testbed).await?;
    testbed.finish().await
}

async fn bad_requests_never_reach_a_worker(testbed: &mut Testbed) -> Result<()> {
    let before = Reached::read(testbed).await?;
    for bad in refusals::all() {
        let reply = bad.send(testbed).await?;
        ensure!(bad.is_refused_by(&reply), "{}: {reply:?}", bad.what);
    }
    let after = Reached::read(testbed).await?;
    ensure!(after == before, "{} got past the filter", after.since(before));
    // The counters do count: the same request without a fault shows in both.
    let good = refusals::infer(testbed, &[("x-user-id", b"ada")]).await?;
    ensure!(good.grpc_status == Some(0), "{good:?}");
    let one = Reached {
        forwarded: 1,
        computed: 1,
    };
    let reached = Reached::read(testbed).await?.since(after);
    ensure!(reached == one, "{reached}");
    Ok(())
}

/// More than HTTP libraries take by default, less than the policy's and Envoy's limits.
async fn many_headers_within_the_limits_reach_a_worker(testbed: &Testbed) -> Result<()> {
    let value = [b'a'; 4096];
    let names = ["x-note-0", "x-note-1", "x-note-2", "x-note-3", "x-note-4"];
    let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, value.as_slice())).collect();
    let reply = refusals::infer(testbed, &headers).await?;
    ensure!(reply.grpc_status == Some(0), "{reply:?}");
    Ok(())
}

const BAD_POLICY: &str = r#"{"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
    "spec": {"model": "minilm", "default": true, "versions": [{"version": "v1", "weight": 150}, {"version": "v2", "weight": 10}]}}"#;

async fn the_command_line_refuses_a_bad_policy_with_its_path(testbed: &Testbed) -> Result<()> {
    let told = testbed
        .apply(BAD_POLICY)
        .await
        .err()
        .context("a weight of 150 must be refused")?;
    ensure!(format!("{told:#}").contains("spec.versions[0].weight"), "{told:#}");
    ensure!(format!("{told:#}").contains("exit status: 2"), "{told:#}");
    Ok(())
}

async fn a_bad_policy_in_etcd_leaves_the_last_good_one_in_force(testbed: &mut Testbed) -> Result<()> {
    let users = Cohorts::new()?.users(0..10, 50)?;
    let good = await_verdict(testbed, PolicyState::Accepted).await?;
    let key = testbed
        .layout()
        .key(&Key::Policy(PolicyId::new("RoutingPolicy", "minilm")));
    // Past the command line, as another tool might.
    testbed
        .etcd()
        .client()
        .await?
        .put(key.as_str(), BAD_POLICY, None)
        .await?;
    let bad = await_verdict(testbed, PolicyState::Rejected).await?;
    ensure!(
        bad.status.serving_revision == Some(good.status.revision),
        "{bad:?} after {good:?}"
    );
    let paths: Vec<&str> = bad.status.errors.iter().map(|error| error.path.as_str()).collect();
    ensure!(
        paths.iter().any(|path| path.contains("spec.versions[0].weight")),
        "{paths:?}"
    );
    ensure!(
        tally::versions_of(testbed, &users).await?.only("v2"),
        "the last good policy is in force"
    );
    testbed.apply(&starter::routing(20)).await?;
    await_verdict(testbed, PolicyState::Accepted).await?;
    Ok(())
}

async fn await_verdict(testbed: &Testbed, state: PolicyState) -> Result<PolicyReport> {
    poll::until(&format!("the verdict {state:?}"), DEADLINE, async || {
        let report = testbed.status().await?;
        let policy = report
            .policies
            .into_iter()
            .find(|policy| policy.name == "minilm")
            .context("not reported")?;
        ensure!(policy.status.state == state, "{policy:?}");
        Ok(policy)
    })
    .await
}
