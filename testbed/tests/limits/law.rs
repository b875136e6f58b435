//! The law of a limit over all worker threads of a real Envoy: in any window W, at most rate · W + burst requests are let
//! through, and of what that allows nearly all.

use super::scene::{ADMITTED, REFUSED, Scene, ask, rate_limits};
use anyhow::{Result, ensure};
use kilocard_testbed::open_loop::{Answer, OpenLoop};
use serde_json::json;
use std::time::{Duration, Instant};

/// A limit on requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Law {
    /// A second.
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

impl Law {
    pub(crate) fn allows(self, window: Duration) -> f64 {
        f64::from(self.rate) * window.as_secs_f64() + f64::from(self.burst)
    }

    /// # Errors
    /// If some window has more: of all windows that begin with a request and end with another, some ten thousand.
    pub(crate) fn hold(self, admitted: &mut [&Answer]) -> Result<()> {
        admitted.sort_by_key(|answer| answer.sent);
        let step = (admitted.len() / 100).max(1);
        for first in admitted.iter().step_by(step) {
            for last in admitted.iter().step_by(step).filter(|last| last.answered > first.sent) {
                let (window, count) = (last.answered - first.sent, within(admitted, first.sent, last.answered));
                let most = self.allows(window);
                ensure!(count as f64 <= most, "{count} in {window:?}, where {most} may pass");
            }
        }
        Ok(())
    }
}

/// Those let through.
pub(crate) fn admitted(answers: &[Answer]) -> Vec<&Answer> {
    answers.iter().filter(|answer| answer.status == ADMITTED).collect()
}

/// Requests that must have been let through between two moments: sent after the one and answered before the other.
pub(crate) fn within(admitted: &[&Answer], from: Instant, to: Instant) -> usize {
    let inside = admitted
        .iter()
        .filter(|answer| answer.sent >= from && answer.answered <= to);
    inside.count()
}

/// Time in which a full bucket had nobody to give to: a busy machine may hold up everybody for a while.
fn idle(answers: &[Answer]) -> Duration {
    let fills_in = Duration::from_secs_f64(f64::from(LAW.burst) / f64::from(LAW.rate));
    let mut times: Vec<_> = answers.iter().map(|answer| answer.answered).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.map(|gap| gap.saturating_sub(fills_in)).sum()
}

const LAW: Law = Law { rate: 400, burst: 200 };
/// Five times what may pass.
const LOAD: OpenLoop = OpenLoop {
    requests: 10_000,
    rate: 5 * LAW.rate,
    connections: 16,
};

async fn hold(threads: u32) -> Result<()> {
    let limit = json!({"limits": [{"unit": "requests", "rate": LAW.rate, "burst": LAW.burst}]});
    let mut scene = Scene::start(threads, &[rate_limits("all", &limit)]).await?;
    let answers = LOAD.answers(scene.envoy.address(), &[ask(&[])]).await?;
    scene.envoy.check()?;
    let mut admitted = admitted(&answers);
    let refused = answers.iter().filter(|answer| answer.status == REFUSED).count();
    let other = answers
        .iter()
        .find(|answer| ![ADMITTED, REFUSED].contains(&answer.status.as_str()));
    ensure!(admitted.len() + refused == answers.len(), "{other:?}");
    LAW.hold(&mut admitted)?;
    // From the first answer to the last request the door was besieged.
    let last = answers.iter().map(|answer| answer.sent).max();
    let first = answers.iter().map(|answer| answer.answered).min();
    let besieged = last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first);
    let besieged = besieged.saturating_sub(idle(&answers));
    let least = 0.999 * LAW.allows(besieged);
    let count = admitted.len();
    ensure!(
        count as f64 >= least,
        "{count} let through, where {least} may pass in {besieged:?}"
    );
    let stats = scene.envoy.admin().stats("wasmcustom.kilocard_limits").await?;
    let counted = stats.iter().find(|(name, _)| name.ends_with("all.refused"));
    ensure!(
        counted.is_some_and(|(_, value)| *value == refused as u64),
        "{refused} refused: {stats:?}"
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
