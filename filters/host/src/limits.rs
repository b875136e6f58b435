//! The limiting stage over Envoy's shared data, which all worker threads of the proxy have in common.

use kilocard_policy::limit::gcra::WHOLE;
use kilocard_policy::limit::{self, Charge, Charges, Cost, Limited, Moment, Obstacle, Outcome, Store, Subject};
use kilocard_policy::{Decision, Policy, RequestView, Verdict};

use crate::abi::{self, HostError};
use crate::counters::Counters;

/// The seed of the keys' hashes, the same in all threads and in no other process.
const SEED: &str = "kilocard.limit-seed";
/// How often to look whether another thread has drawn the seed.
const TRIES: usize = 8;

/// What one thread knows of the limits.
#[derive(Debug)]
pub(crate) struct Limits {
    seed: u64,
}

impl Limits {
    /// `drawn` becomes the seed, unless another thread was first.
    pub(crate) fn new(drawn: u64) -> Result<Self, HostError> {
        for _ in 0..TRIES {
            let (bytes, generation) = abi::shared_data(SEED)?;
            if let Ok(seed) = bytes.as_slice().try_into() {
                let seed = u64::from_le_bytes(seed);
                return Ok(Self { seed });
            }
            abi::swap_shared_data(SEED, &drawn.to_le_bytes(), generation)?;
        }
        Ok(Self { seed: drawn })
    }

    /// Takes what the request needs from all limits that are about it, or refuses it.
    pub(crate) fn apply<'p>(
        &self,
        policy: &'p Policy,
        request: &RequestView<'_>,
        decision: &mut Decision<'p>,
        counters: &Counters,
    ) -> Result<(), HostError> {
        let tables = policy.rate_limits();
        if tables.is_empty() || matches!(decision.verdict, Verdict::Refuse(_)) {
            return Ok(());
        }
        let subject = Subject::of(request, decision);
        let charges = Charges::of(tables, &subject, Cost::default(), self.seed);
        let at = Moment {
            now_ns: abi::monotonic_ns()?,
            base_share: WHOLE,
        };
        let refused = take(&charges.enforced, at, counters)?.and_then(|obstacle| Limited::of(&obstacle, &subject));
        for charge in charges.shadow {
            let obstacle = take(&[charge], at, counters)?;
            let limited = obstacle.and_then(|obstacle| Limited::of(&obstacle, &subject));
            decision.findings.extend(limited.map(Limited::into_finding));
        }
        if let Some(limited) = refused {
            decision.verdict = Verdict::Refuse(limited.into_refusal(decision.reached()));
        }
        Ok(())
    }
}

/// Takes all or none; gives what is in the way.
fn take<'p>(charges: &[Charge<'p>], at: Moment, counters: &Counters) -> Result<Option<Obstacle<'p>>, HostError> {
    if charges.is_empty() {
        return Ok(None);
    }
    match limit::admit(&SharedData, charges, at)? {
        Outcome::Admitted(overflowed) => {
            for (charge, overflowed) in charges.iter().zip(overflowed) {
                if overflowed {
                    counters.count_overflow(charge.table);
                }
            }
            Ok(None)
        }
        Outcome::Refused(obstacle) => {
            counters.count_limit(obstacle.table);
            Ok(Some(obstacle))
        }
    }
}

/// Envoy's shared data as the limiter's store.
struct SharedData;

impl Store for SharedData {
    type Error = HostError;

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), HostError> {
        abi::shared_data(name)
    }

    fn swap(&self, name: &str, value: &[u8], read: u32) -> Result<bool, HostError> {
        abi::swap_shared_data(name, value, read)
    }
}
