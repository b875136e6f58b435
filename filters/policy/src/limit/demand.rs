//! What is asked of the limits that the whole mesh shares: added up in every thread, then over all threads, then reported.

use std::collections::HashMap;

use super::key::{self, Subject};
use super::limiter::Charge;
use crate::config::LimitScope;

/// Most keys of which demand is kept at a time. Of the others nothing is reported: they stay on the base share.
const MAX_KEYS: usize = 1024;
/// Longest text of a policy's name and a key together that is reported: the control plane takes no longer ones.
const MAX_TEXT_BYTES: usize = 1000;

/// What was asked for, by policy and key, each in nanoseconds of what the whole limit gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands(HashMap<(String, String), u64>);

impl Demands {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what a request asked for, whether it got it or not; of limits that each proxy has for itself, nothing.
    pub fn ask(&mut self, charge: &Charge<'_>, subject: &Subject<'_>) {
        let table = charge.table;
        if table.scope() != LimitScope::Mesh {
            return;
        }
        let each = || {
            let limits = table.limits().iter();
            limits.map(|quota| (quota, charge.cost.of(quota.limit.unit)))
        };
        // What can never be had is no demand: no share helps it.
        if each().any(|(quota, cost)| cost > quota.gcra.burst()) {
            return;
        }
        let asked = each().map(|(quota, cost)| quota.gcra.time_of(cost)).max();
        let asked = asked.unwrap_or_default();
        let text = key::text(subject, table.by());
        if asked > 0 && table.name().len() + text.len() <= MAX_TEXT_BYTES {
            self.add((table.name().to_owned(), text), asked);
        }
    }

    fn add(&mut self, key: (String, String), asked_ns: u64) {
        if self.0.len() < MAX_KEYS || self.0.contains_key(&key) {
            let sum = self.0.entry(key).or_default();
            *sum = sum.saturating_add(asked_ns);
        }
    }

    /// Adds what another thread noted.
    pub fn merge(&mut self, other: Self) {
        for (key, asked) in other.0 {
            self.add(key, asked);
        }
    }

    /// Each key with what was asked of it in parts per million of what its limit gave in this time.
    pub fn rates(&self, elapsed_ns: u64) -> impl Iterator<Item = (&str, &str, u32)> {
        self.0.iter().map(move |((policy, key), asked)| {
            let parts = u128::from(*asked) * 1_000_000 / u128::from(elapsed_ns.max(1));
            (policy.as_str(), key.as_str(), u32::try_from(parts).unwrap_or(u32::MAX))
        })
    }

    /// For a value that threads share.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for ((policy, key), asked) in &self.0 {
            for text in [policy, key] {
                // Together they have `MAX_TEXT_BYTES`, so the length fits.
                bytes.extend((text.len() as u16).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            bytes.extend(asked.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; nothing of what is not that.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut demands = Self::default();
        let mut rest = bytes;
        while let Some((policy, key, asked)) = read(&mut rest) {
            demands.add((policy, key), asked);
        }
        demands
    }
}

fn read(rest: &mut &[u8]) -> Option<(String, String, u64)> {
    let (policy, key) = (read_text(rest)?, read_text(rest)?);
    let (asked, after) = rest.split_first_chunk()?;
    *rest = after;
    Some((policy, key, u64::from_le_bytes(*asked)))
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demands(all: &[(&str, &str, u64)]) -> Demands {
        let mut demands = Demands::default();
        for (policy, key, asked) in all {
            demands.add(((*policy).to_owned(), (*key).to_owned()), *asked);
        }
        demands
    }

    #[test]
    fn what_threads_noted_adds_up_and_becomes_a_rate() {
        let mut one = demands(&[("p", "a", 100), ("p", "b", 5)]);
        one.merge(demands(&[("p", "a", 300), ("q", "a", 1)]));
        let mut rates: Vec<_> = one.rates(200).collect();
        rates.sort_unstable();
        assert_eq!(rates, [("p", "a", 2_000_000), ("p", "b", 25_000), ("q", "a", 5_000)]);
    }

    #[test]
    fn strangers_take_a_bounded_room() {
        let mut all = Demands::default();
        for user in 0..10_000 {
            all.add(("p".to_owned(), format!("user={user}")), 1);
        }
        assert_eq!(all.rates(1).count(), MAX_KEYS);
        all.add(("p".to_owned(), "user=0".to_owned()), 1);
        assert!(
            all.rates(1)
                .any(|(_, key, parts)| key == "user=0" && parts == 2_000_000)
        );
    }

    proptest! {
        #[test]
        fn bytes_lead_back(keys in prop::collection::vec(("[a-z]{0,8}", "[ -~]{0,20}", any::<u64>()), 0..20)) {
            let keys: Vec<_> = keys.iter().map(|(policy, key, asked)| (policy.as_str(), key.as_str(), *asked)).collect();
            let demands = demands(&keys);
            prop_assert_eq!(Demands::from_bytes(&demands.to_bytes()), demands);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _ = Demands::from_bytes(&bytes);
        }
    }
}
