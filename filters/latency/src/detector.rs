//! Whether an endpoint has become late or faulty, by what was expected of it and what came.
//!
//! Lateness is a CUSUM (Page 1954) for Poisson counts (Lucas 1985): E requests were expected to end in a tick, by the
//! [hazard](crate::hazard) of those in flight, and O have. `S = max(0, S + (1 − ρ)·E + O·ln ρ)` is the log-likelihood ratio of
//! "only ρ of what is expected ends" to "all of it does", since it last favoured the former. E grows while nothing comes, so
//! a hang is seen without waiting for any request to fail.
//!
//! What is expected is corrected twice. An endpoint has a pace of its own: a slower card in a pool is no fault. And what
//! makes its peers late by as much is no fault of this one.

use crate::codec::Reader;

/// Part of the expected ends that is tested for: a slow-down to a third and more.
const RHO: f64 = 0.3;
/// Above this an endpoint is late. It is a log-likelihood ratio, so chance reaches it about once in e¹⁸ = 6·10⁷ requests; at 12,
/// it was once in some endpoint-hours.
pub const THRESHOLD: f64 = 18.0;
/// How much the sum of its peers counts against its own: when all slow down, all sums rise, and not evenly.
const PEERS_WEIGHT: f64 = 2.0;
/// Above this it is under suspicion: its requests teach nothing.
pub const SUSPICION: f64 = THRESHOLD / 2.0;
/// Memory of how late an endpoint is now, seconds.
const RECENT: f64 = 2.0;
/// Memory of its own pace, seconds.
const PACE: f64 = 300.0;
/// What a pace of 1 weighs against what was seen, in expected ends.
const PACE_PRIOR: f64 = 20.0;
/// With so many expected ends, the pace is known.
const PACE_KNOWN: f64 = 50.0;
/// The bounds of a pace, either way; cards of one pool differ by no more.
const MOST_PACE: f64 = 8.0;
/// No peers are so late that what is expected is divided by more.
const MOST_LATENESS: f64 = 8.0;
/// Expected ends without which a peer says nothing.
const PEER_EXPECTS: f64 = 3.0;
/// Memory of failures, seconds.
const FAILURES: f64 = 10.0;
/// Answers without which a peer's failures say nothing.
const PEER_ANSWERS: f64 = 10.0;
/// Log-likelihood ratio at which an endpoint is faulty: four failures in a row, where there usually are none.
pub const FAILURE_THRESHOLD: f64 = 12.0;

/// What was expected of an endpoint over some time, and what came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests that were expected to end.
    pub expected: f64,
    /// Requests that ended by an answer.
    pub answered: u32,
    /// Those of them whose answer was a failure.
    pub failed: u32,
}

/// How it stands with the others of the pool: medians over them, so that half of them can be faulty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peers {
    /// By what factor they are late, at least 1.
    pub lateness: f64,
    /// Part of their answers that are failures.
    pub failure_rate: f64,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            lateness: 1.0,
            failure_rate: 0.0,
        }
    }
}

/// The state for one endpoint: eight numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detector {
    late: f32,
    faulty: f32,
    recent: Ends,
    pace: Ends,
    answered: f32,
    failed: f32,
}

/// Expected and seen ends, of which the older weigh less.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ends {
    expected: f32,
    seen: f32,
}

impl Ends {
    fn take(&mut self, expected: f64, seen: f64, keep: f64) {
        self.expected = (f64::from(self.expected) * keep + expected).min(1e9) as f32;
        self.seen = (f64::from(self.seen) * keep + seen).min(1e9) as f32;
    }
}

impl Detector {
    pub(crate) const BYTES: usize = 32;

    /// How late it is: the CUSUM's sum.
    pub fn late(&self) -> f64 {
        self.late.into()
    }

    /// How faulty it is: the failures' log-likelihood ratio.
    pub fn faulty(&self) -> f64 {
        self.faulty.into()
    }

    /// What was lately expected of it: how much its verdict weighs.
    pub fn exposure(&self) -> f64 {
        self.recent.expected.into()
    }

    /// Expected ends of its own per end of the baseline.
    pub fn pace(&self) -> f64 {
        let seen = f64::from(self.pace.seen) + PACE_PRIOR;
        (seen / (f64::from(self.pace.expected) + PACE_PRIOR)).clamp(1.0 / MOST_PACE, MOST_PACE)
    }

    /// By what factor it has lately been late; nothing while too little was expected.
    pub fn lateness(&self) -> Option<f64> {
        let (expected, seen) = (f64::from(self.recent.expected), f64::from(self.recent.seen));
        (expected >= PEER_EXPECTS).then(|| (expected + 1.0) / (seen + 1.0))
    }

    /// Part of its answers that were failures lately; nothing while there are too few.
    pub fn failure_rate(&self) -> Option<f64> {
        let answered = f64::from(self.answered);
        (answered >= PEER_ANSWERS).then(|| f64::from(self.failed) / answered)
    }

    /// Takes a tick's tally into what peers are compared by. Before [`judge`](Self::judge), for the whole pool.
    pub fn observe(&mut self, tally: Tally, seconds: f64) {
        let expected = sane(tally.expected) * self.pace();
        self.recent
            .take(expected, f64::from(tally.answered), (-seconds / RECENT).exp());
        let keep = (-seconds / FAILURES).exp();
        self.answered = (f64::from(self.answered) * keep + f64::from(tally.answered)) as f32;
        self.failed = (f64::from(self.failed) * keep + f64::from(tally.failed)) as f32;
    }

    /// Takes the tally into the sums, against what its peers show. The tick may have lasted however long. Its own pace is
    /// learnt only while it `may_learn`: closed and under no suspicion of the breaker.
    pub fn judge(&mut self, tally: Tally, peers: Peers, seconds: f64, may_learn: bool) {
        let lateness = if peers.lateness.is_finite() {
            peers.lateness
        } else {
            1.0
        };
        let lateness = lateness.clamp(1.0, MOST_LATENESS);
        let usual = sane(tally.expected) / lateness;
        let answered = f64::from(tally.answered);
        // Where all are late, the baseline is no longer true, and each request adds that much more chance: a dispersion, by
        // which the likelihood is divided (Wedderburn 1974).
        let gain = ((1.0 - RHO) * usual * self.pace() + answered * RHO.ln()) / lateness;
        let late = self.late() + gain;
        self.late = late.clamp(0.0, 3.0 * THRESHOLD) as f32;
        // One that says nothing has no pace.
        if may_learn && self.has_ends() {
            let was_known = self.is_known();
            // By the baseline as it is: against what the peers' lateness leaves of it, pace and lateness would each grow by the
            // other.
            self.pace.take(sane(tally.expected), answered, (-seconds / PACE).exp());
            if !was_known && self.is_known() {
                // What was summed by a pace that was only guessed.
                self.late = 0.0;
            }
        }
        let usual = (2.0 * peers.failure_rate).clamp(0.01, 0.3);
        let unusual = (5.0 * usual).clamp(0.25, 0.9);
        let failed = f64::from(tally.failed.min(tally.answered));
        let gain = failed * (unusual / usual).ln() + (answered - failed) * ((1.0 - unusual) / (1.0 - usual)).ln();
        self.faulty = (self.faulty() + gain).clamp(0.0, 3.0 * FAILURE_THRESHOLD) as f32;
    }

    /// Whether it is late, where its peers' sums stand at `peers`. Before its own pace is known, only if nothing at all comes.
    pub fn is_late(&self, peers: f64) -> bool {
        self.excess(peers) > THRESHOLD && (self.is_known() || self.recent.seen < 1.0)
    }

    /// Whether it looks as if it were late.
    pub fn is_suspect(&self, peers: f64) -> bool {
        self.excess(peers) > SUSPICION
    }

    fn excess(&self, peers: f64) -> f64 {
        self.late() - PEERS_WEIGHT * peers
    }

    /// Whether anything at all has ended lately.
    pub fn has_ends(&self) -> bool {
        self.recent.seen >= 1.0
    }

    /// Whether too many of its answers are failures.
    pub fn is_faulty(&self) -> bool {
        self.faulty() > FAILURE_THRESHOLD
    }

    /// Forgets what speaks against it, for a new beginning; its pace stays.
    pub fn acquit(&mut self) {
        *self = Self {
            pace: self.pace,
            ..Self::default()
        };
    }

    /// Keeps the sums from growing while nothing may follow from them.
    pub fn hold(&mut self) {
        self.late = self.late.min(THRESHOLD as f32);
        self.faulty = self.faulty.min(FAILURE_THRESHOLD as f32);
    }

    fn is_known(&self) -> bool {
        f64::from(self.pace.expected) >= PACE_KNOWN
    }

    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        let (recent, pace) = (self.recent, self.pace);
        let numbers = [
            self.late,
            self.faulty,
            recent.expected,
            recent.seen,
            pace.expected,
            pace.seen,
            self.answered,
            self.failed,
        ];
        into.extend(numbers.into_iter().flat_map(f32::to_le_bytes));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut number = || reader.positive_f32();
        Some(Self {
            late: number()?,
            faulty: number()?,
            recent: Ends {
                expected: number()?,
                seen: number()?,
            },
            pace: Ends {
                expected: number()?,
                seen: number()?,
            },
            answered: number()?,
            failed: number()?,
        })
    }
}

fn sane(expected: f64) -> f64 {
    if expected.is_finite() {
        expected.clamp(0.0, 1e9)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
