//! GPU memory that proxies, tenants and moments share.

use super::pool::{self, Headers, Pool, ROOM};
use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::all_to_v1;
use kilocard_testbed::harness::upstream::{HOLD, MESSAGES};
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::json;
use std::time::Duration;

/// One more proxy before the same upstream, of another module.
async fn proxy(pool: &mut Pool, module: &'static str) -> Result<StaticEnvoy> {
    let mut plugin = Plugin::new("gateway", module, &json!([all_to_v1(), pool::admission(0)]));
    plugin.configuration["sync_cluster"] = json!("control-plane");
    let clusters = [
        config::cluster("minilm/v1", pool.upstream.address()),
        config::cluster("control-plane", pool.testbed.control_plane().xds()),
    ];
    let testbed = &pool.testbed;
    let routes = [config::decided("minilm/v1")];
    let bootstrap = config::bootstrap(vec![plugin.filter(testbed.install())], &routes, &clusters);
    StaticEnvoy::with_threads(testbed.install(), testbed.dir(), ("second", 2), &bootstrap).await
}

#[tokio::test]
async fn two_proxies_together_hold_no_more_than_there_is_and_demand_moves_their_shares() -> Result<()> {
    let mut pool = Pool::start("e2e-memory-shares", 0).await?;
    let second = proxy(&mut pool, "kilocard_gateway").await?;
    let (one, two) = (pool.testbed.gateway(), second.address());
    pool.await_room(two).await?;

    // Not all at once: what was reserved just before a report counts twice until the next one.
    let mut held = Vec::new();
    poll::until("both to hold what there is", DEADLINE, async || {
        held.push(pool.fill(&[(one, 10), (two, 10)], &[]).await?);
        let all = pool.upstream.held();
        ensure!(all <= ROOM, "{all} of {ROOM} are held");
        ensure!(all > ROOM * 8 / 10, "{all} of {ROOM} are held");
        Ok(())
    })
    .await?;
    pool.empty().await?;
    for fill in held {
        fill.end().await?;
    }

    // All demand at one of them: what the other does not use follows.
    let mut held = Vec::new();
    poll::until("the share of the one that is asked to grow", DEADLINE, async || {
        held.push(pool.fill(&[(one, 10)], &[]).await?);
        let all = pool.upstream.held();
        ensure!(all <= ROOM, "{all} of {ROOM} are held");
        ensure!(all > ROOM * 7 / 10, "{all} of {ROOM} are held");
        Ok(())
    })
    .await?;
    pool.empty().await?;
    for fill in held {
        fill.end().await?;
    }
    drop(second);
    pool.testbed.finish().await
}

#[tokio::test]
async fn a_tenant_that_asks_for_everything_leaves_the_other_its_part() -> Result<()> {
    let pool = Pool::start("e2e-memory-tenants", 0).await?;
    let gateway = pool.testbed.gateway();
    let mut all = Vec::new();
    poll::until("the small tenant to hold something", DEADLINE, async || {
        all.push(pool.fill(&[(gateway, 1)], &[("x-tenant-id", b"small")]).await?);
        let held = pool.upstream.held();
        ensure!(held > 0, "it holds nothing");
        Ok(())
    })
    .await?;
    poll::until("the large tenant to hold half", DEADLINE, async || {
        all.push(pool.fill(&[(gateway, 10)], &[("x-tenant-id", b"large")]).await?);
        let held = pool.upstream.held();
        ensure!(held > ROOM / 2, "{held} of {ROOM} are held");
        Ok(())
    })
    .await?;
    all.push(pool.fill(&[(gateway, ROOM)], &[("x-tenant-id", b"large")]).await?);
    let held = pool.upstream.held();
    ensure!(held <= ROOM * 8 / 10, "the large tenant holds {held} of {ROOM}");
    let mut small = 0;
    poll::until("the small tenant to get its part", DEADLINE, async || {
        let more = pool.fill(&[(gateway, 5)], &[("x-tenant-id", b"small")]).await?;
        small += more.held;
        all.push(more);
        ensure!(small >= 15, "the small tenant got {small} of 15");
        Ok(())
    })
    .await?;
    pool.empty().await?;
    for fill in all {
        fill.end().await?;
    }
    pool.testbed.finish().await
}

#[tokio::test]
async fn a_stream_that_outgrows_its_reservation_leaves_less_for_others_while_it_runs() -> Result<()> {
    let pool = Pool::start("e2e-memory-overrun", 0).await?;
    let gateway = pool.testbed.gateway();
    // It reserves a part of the card and takes 81; the upstream's own report does not show it.
    let stream = pool::send(gateway, &[(MESSAGES, b"80"), (HOLD, b"1")]);
    poll::until("the growth to be held", DEADLINE, async || {
        let reply = pool::call(gateway, &[("x-max-tokens", b"60")]).await?;
        ensure!(reply.grpc_status == Some(8), "{reply:?}");
        Ok(())
    })
    .await?;
    ensure!(!stream.is_finished(), "the stream has ended");
    pool.empty().await?;
    ensure!(stream.await??.grpc_status == Some(0));
    poll::until("what it held to be free", DEADLINE, async || {
        let reply = pool::call(gateway, &[("x-max-tokens", b"60")]).await?;
        ensure!(reply.grpc_status == Some(0), "{reply:?}");
        Ok(())
    })
    .await?;
    pool.testbed.finish().await
}

#[tokio::test]
async fn a_request_waits_a_moment_for_memory_and_goes_on_when_there_is_some() -> Result<()> {
    let pool = Pool::start("e2e-memory-wait", 200).await?;
    let gateway = pool.testbed.gateway();
    // A machine that is too slow lets the 200 ms pass before the memory is free: then once more.
    poll::until("a request to have waited and gone on", DEADLINE, async || {
        let fill = pool.fill(&[(gateway, ROOM + 5)], &[]).await?;
        let before = pool.upstream.seen().len();
        let waiting = pool::send(gateway, &[]);
        tokio::time::sleep(Duration::from_millis(60)).await;
        let forwarded = pool.upstream.seen().len() - before;
        let is_waiting = forwarded == 0 && !waiting.is_finished();
        pool.empty().await?;
        let reply = waiting.await??;
        fill.end().await?;
        ensure!(is_waiting, "it did not wait");
        ensure!(
            reply.grpc_status == Some(0) && reply.header("x-upstream") == Some("arena"),
            "{reply:?}"
        );
        Ok(())
    })
    .await?;
    pool.testbed.finish().await
}

#[tokio::test]
async fn requests_that_wait_while_the_policy_changes_are_answered() -> Result<()> {
    let mut pool = Pool::start("e2e-memory-change", 200).await?;
    let gateway = pool.testbed.gateway();
    let fill = pool.fill(&[(gateway, ROOM + 5)], &[]).await?;
    // So many that some wait at every moment of the change.
    let waiting = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..100 {
            asked.push(pool::send(gateway, &[]));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut statuses = Vec::new();
        for one in asked {
            statuses.push(one.await??.grpc_status);
        }
        anyhow::Ok(statuses)
    });
    let said = pool.testbed.kilocard(&["delete", "admission", "minilm"]).await?;
    ensure!(said.status.success(), "{said:?}");
    let statuses = waiting.await?.context("a request that waited got no answer")?;
    let count = |status| statuses.iter().filter(|one| **one == Some(status)).count();
    let (passed, refused) = (count(0), count(8));
    ensure!(passed + refused == statuses.len(), "{statuses:?}");
    ensure!(passed > 0, "the change did not come in this time");
    pool.empty().await?;
    fill.end().await?;
    pool.testbed.check()?;
    pool.testbed.finish().await
}

#[tokio::test]
async fn what_a_trapped_thread_held_is_free_again_some_seconds_later() -> Result<()> {
    let mut pool = Pool::start("e2e-memory-trap", 0).await?;
    let second = proxy(&mut pool, "kilocard_trap").await?;
    let gateway = second.address();
    pool.await_room(gateway).await?;
    // This proxy may use half of the card, and more when it asks for more. For both there is no room.
    const ONE: Headers = &[("x-max-tokens", b"39"), (HOLD, b"1")];
    const ANOTHER: Headers = &[("x-max-tokens", b"69")];
    let mut held = pool::send(gateway, ONE);
    poll::until("it to be held", DEADLINE, async || {
        if held.is_finished() {
            // Its share had not come yet.
            held = pool::send(gateway, ONE);
        }
        ensure!(pool.upstream.held() == 1);
        Ok(())
    })
    .await?;
    ensure!(pool::call(gateway, ANOTHER).await?.grpc_status == Some(8));
    let trapped = pool::call(gateway, &[("x-provoke-trap", b"gateway")]).await?;
    ensure!(trapped.grpc_status == Some(14), "{trapped:?}");
    let mut was_refused = false;
    poll::until("what the trapped thread held to be free", DEADLINE, async || {
        let reply = pool::call(gateway, ANOTHER).await?;
        was_refused |= reply.grpc_status == Some(8);
        ensure!(reply.grpc_status == Some(0), "{reply:?}");
        Ok(())
    })
    .await?;
    ensure!(was_refused, "it was free at once, so nothing was held over the trap");
    pool.empty().await?;
    drop((held.await?, second));
    pool.testbed.finish().await
}
