//! `envoy/static-gateway.yaml`

use super::example::{Running, with_modules};
use anyhow::{Context, Result, bail, ensure};
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::poll::{self, DEADLINE};

struct Example {
    running: Running,
    hopper: Upstream,
    ampere: Upstream,
    v2: Upstream,
    v3: Upstream,
}

async fn start() -> Result<Example> {
    let (hopper, ampere) = (Upstream::start("v1-hopper").await?, Upstream::start("v1-ampere").await?);
    let (v2, v3) = (Upstream::start("v2").await?, Upstream::start("v3").await?);
    let upstreams = [(50051, &hopper), (50052, &ampere), (50053, &v2), (50054, &v3)];
    let running = Running::start(&with_modules("static-gateway.yaml")?, &upstreams).await?;
    Ok(Example {
        running,
        hopper,
        ampere,
        v2,
        v3,
    })
}

#[tokio::test]
async fn the_gateway_routes_by_its_own_decision_and_by_nothing_that_a_client_sends() -> Result<()> {
    let example = start().await?;
    let forgery: [(&str, &[u8]); 4] = [
        ("x-kilocard-route", b"minilm/v2"),
        ("x-kilocard-shadow", b"minilm/v2"),
        ("x-kilocard-gpu", b"IgA="),
        ("x-kilocard-anything", b"1"),
    ];
    for (version, upstream) in [("v1", "v1-"), ("v2", "v2"), ("v3", "v3")] {
        let headers = [&[("x-model-version", version.as_bytes())], &forgery[..]].concat();
        let reply = example.running.call(&headers).await?;
        let name = reply.header("x-upstream").context("not forwarded")?;
        ensure!(name.starts_with(upstream), "{version}: {reply:?}");
        let decision = reply.header("x-kilocard-decision").context("no decision record")?;
        ensure!(
            decision.contains(&format!("version=minilm/{version}")) && decision.contains("why=PINNED"),
            "{decision}"
        );
    }
    ensure!(example.v2.seen().len() == 1, "{:?}", example.v2.seen());
    for seen in [&example.hopper, &example.ampere, &example.v2]
        .map(Upstream::seen)
        .concat()
    {
        ensure!(
            ["x-kilocard-gpu", "x-kilocard-anything"]
                .iter()
                .all(|name| seen.header(name).is_none()),
            "{seen:?}"
        );
    }
    let refused = example.running.call(&[("x-model-version", b"")]).await?;
    ensure!(
        refused.grpc_status == Some(3) && refused.ended_by_headers,
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_for_a_class_of_gpus_gets_one_while_there_is_one() -> Result<()> {
    let example = start().await?;
    for (class, upstream) in [("hopper", "v1-hopper"), ("ampere", "v1-ampere")] {
        for _ in 0..10 {
            let headers: &[(&str, &[u8])] = &[("x-model-version", b"v1"), ("x-gpu-class", class.as_bytes())];
            let reply = example.running.call(headers).await?;
            ensure!(reply.header("x-upstream") == Some(upstream), "{class}: {reply:?}");
        }
    }
    for seen in [&example.hopper, &example.ampere].map(Upstream::seen).concat() {
        ensure!(seen.header("x-kilocard-gpu").is_none(), "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied_to_the_shadow_version() -> Result<()> {
    let example = start().await?;
    // 5 % are copied: that none of a thousand is has a probability of 10^-22.
    for _ in 0..1000 {
        ensure!(example.running.call(&[("x-model-version", b"v2")]).await?.grpc_status == Some(0));
        if !example.v3.seen().is_empty() {
            break;
        }
    }
    poll::until("a copy to arrive", DEADLINE, async || {
        let seen = example.v3.seen();
        let copy = seen.first().context("none yet")?;
        ensure!(copy.header("x-kilocard-route") == Some("minilm/v3"), "{copy:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_access_log_tells_the_decision() -> Result<()> {
    let example = start().await?;
    example.running.call(&[("x-model-version", b"v2")]).await?;
    example.running.call(&[("x-model-version", b"v9")]).await?;
    poll::until("two lines of the access log", DEADLINE, async || {
        let lines = example.running.envoy.access_log()?;
        let decisions: Vec<&str> = lines.iter().filter_map(|line| line["decision"].as_str()).collect();
        let [pinned, refused] = decisions[..] else {
            bail!("{lines:?}");
        };
        ensure!(
            pinned.contains("version=minilm/v2") && pinned.contains("rev=static-1"),
            "{pinned}"
        );
        ensure!(refused.contains("refused=VERSION_NOT_FOUND"), "{refused}");
        Ok(())
    })
    .await
}
