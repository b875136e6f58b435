//! Counting who answered, and judging a count.

use crate::client::Client;
use crate::harness::Testbed;
use crate::starter::version_of;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use tokio::task::JoinSet;

/// How many standard deviations a fair count may be off: a fair mesh fails such a check once in 16 000 runs.
const SIGMAS: f64 = 4.0;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<String, usize>,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, name: impl Into<String>) {
        *self.counts.entry(name.into()).or_default() += 1;
    }

    /// How many of this name.
    pub fn of(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }

    /// Whether there are some, and all are of this name.
    pub fn only(&self, name: &str) -> bool {
        self.total() > 0 && self.of(name) == self.total()
    }

    fn add(&mut self, other: Self) {
        for (name, count) in other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .counts
            .iter()
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// What a count of `trials` independent draws with this chance may be.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of requests are small and the bounds are clamped to them"
)]
pub fn binomial_band(trials: usize, chance: f64) -> RangeInclusive<usize> {
    let (mean, sigma) = (trials as f64 * chance, (trials as f64 * chance * (1.0 - chance)).sqrt());
    let low = (mean - SIGMAS * sigma).ceil().max(0.0) as usize;
    let high = (mean + SIGMAS * sigma).floor().min(trials as f64) as usize;
    low..=high
}

/// Sends `calls` inferences over `lanes` connections and counts the versions in the replies.
///
/// # Errors
/// If any call fails.
pub async fn infer_in_lanes(
    gateway: SocketAddr,
    lanes: usize,
    calls: usize,
    metadata: &[(&str, &str)],
) -> Result<Tally> {
    in_lanes(gateway, lanes, calls, metadata, Ask::Infer).await
}

/// Sends `calls` requests that need no computation over `lanes` connections and counts the workers that answered.
///
/// # Errors
/// If any call fails.
pub async fn workers_in_lanes(
    gateway: SocketAddr,
    lanes: usize,
    calls: usize,
    metadata: &[(&str, &str)],
) -> Result<Tally> {
    in_lanes(gateway, lanes, calls, metadata, Ask::Ready).await
}

/// The versions that these users are on, by one request each that needs no computation.
///
/// # Errors
/// If any call fails.
pub async fn versions_of(testbed: &Testbed, users: &[String]) -> Result<Tally> {
    let client = testbed.client().await?;
    let mut tally = Tally::default();
    for user in users {
        tally.count(version_of(&client.ready(&[("x-user-id", user)]).await?));
    }
    Ok(tally)
}

#[derive(Clone, Copy)]
enum Ask {
    Infer,
    Ready,
}

async fn in_lanes(
    gateway: SocketAddr,
    lanes: usize,
    calls: usize,
    metadata: &[(&str, &str)],
    ask: Ask,
) -> Result<Tally> {
    let metadata: Vec<(String, String)> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let (client, metadata) = (Client::connect(gateway).await?, metadata.clone());
        let share = calls / lanes + usize::from(lane < calls % lanes);
        running.spawn(async move {
            let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let mut tally = Tally::default();
            for _ in 0..share {
                tally.count(match ask {
                    Ask::Infer => client.infer(&["a short text"], &metadata).await?.version,
                    Ask::Ready => client.ready(&metadata).await?,
                });
            }
            anyhow::Ok(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = running.join_next().await {
        all.add(tally??);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_of_a_fair_coin_is_four_sigmas_wide() {
        assert_eq!(binomial_band(400, 0.5), 160..=240);
        assert_eq!(binomial_band(400, 0.1), 16..=64);
        assert_eq!(binomial_band(10, 0.0), 0..=0);
        assert_eq!(binomial_band(10, 0.5), 0..=10);
    }

    #[test]
    fn only_wants_at_least_one() {
        let mut tally = Tally::default();
        assert!(!tally.only("v1"));
        tally.count("v1");
        assert!(tally.only("v1"));
        tally.count("v2");
        assert!(!tally.only("v1"));
        assert_eq!(tally.to_string(), "v1=1, v2=1");
    }
}
