//! The law of a limit over all worker threads of a real Envoy: in any window W, at most rate · W + burst requests are let
//! through, and of what that allows nearly all.

use super::scene::{ADMITTED, REFUSED, Scene, ask, rate_limits};
use anyhow::{Result, ensure};
use kilocard_testbed::open_loop::{Answer, OpenLoop};
use serde_json::json;
use std::time::{Duration, Instant};

const RATE: u32 = 400;
const BURST: u32 = 200;
/// Five times what may pass.
const LOAD: OpenLoop = OpenLoop {
    requests: 10_000,
    rate: 5 * RATE,
    connections: 16,
};

/// Requests that must have been let through between two moments: sent after the one and answered before the other.
fn within(admitted: &[&Answer], from: Instant, to: Instant) -> u32 {
    let inside = admitted
        .iter()
        .filter(|answer| answer.sent >= from && answer.answered <= to);
    u32::try_from(inside.count()).unwrap_or(u32::MAX)
}

fn allowed(window: Duration) -> f64 {
    f64::from(RATE) * window.as_secs_f64() + f64::from(BURST)
}

/// # Errors
/// If a window has more than the law allows, or all of it less than nearly that.
fn check(answers: &[Answer]) -> Result<()> {
    let mut admitted: Vec<_> = answers.iter().filter(|answer| answer.status == ADMITTED).collect();
    let refused = answers.iter().filter(|answer| answer.status == REFUSED).count();
    ensure!(
        admitted.len() + refused == answers.len(),
        "{:?}",
        answers
            .iter()
            .find(|answer| ![ADMITTED, REFUSED].contains(&answer.status.as_str()))
    );
    admitted.sort_by_key(|answer| answer.sent);
    // Every window that begins with some request and ends with some other: of all of them, some hundred beginnings and ends.
    for first in admitted.iter().step_by(40) {
        for last in admitted.iter().step_by(40).filter(|last| last.answered > first.sent) {
            let (window, count) = (last.answered - first.sent, within(&admitted, first.sent, last.answered));
            ensure!(
                f64::from(count) <= allowed(window),
                "{count} in {window:?}, where {} may pass",
                allowed(window)
            );
        }
    }
    let span = answers
        .iter()
        .map(|answer| answer.sent)
        .max()
        .zip(answers.iter().map(|answer| answer.answered).min());
    let inner = span.map_or(Duration::ZERO, |(last, first)| last - first);
    let least = 0.999 * allowed(inner);
    ensure!(
        admitted.len() as f64 >= least,
        "{} let through, where {least} may pass in {inner:?}",
        admitted.len()
    );
    Ok(())
}

async fn hold(threads: u32) -> Result<()> {
    let limit = json!({"limits": [{"unit": "requests", "rate": RATE, "burst": BURST}]});
    let mut scene = Scene::start(threads, &[rate_limits("all", &limit)]).await?;
    let answers = LOAD.answers(scene.envoy.address(), &[ask(&[])]).await?;
    scene.envoy.check()?;
    check(&answers)?;
    let stats = scene.envoy.admin().stats("wasmcustom.kilocard_limits").await?;
    let refused = answers.iter().filter(|answer| answer.status == REFUSED).count() as u64;
    ensure!(
        stats
            .iter()
            .any(|(name, value)| name.ends_with("all.refused") && *value == refused),
        "{stats:?}"
    );
    Ok(())
}

#[tokio::test]
async fn one_thread_keeps_the_law() -> Result<()> {
    hold(1).await
}

#[tokio::test]
async fn two_threads_share_one_limit() -> Result<()> {
    hold(2).await
}

#[tokio::test]
async fn four_threads_share_one_limit() -> Result<()> {
    hold(4).await
}
