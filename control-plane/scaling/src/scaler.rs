//! A pool over time.

use crate::decision::{Decision, Reason};
use crate::history::{Changes, Extreme};
use crate::proposal::Proposal;
use crate::sample::Sample;
use kilocard_policy::config::{ScaleDown, ScalePolicy, ScaleUp};
use std::time::Duration;

/// For how many replicas a pool has been asked over time. Moments do not run backwards.
#[derive(Clone, Debug)]
pub struct Scaler {
    changes: Changes,
    /// The least that was recommended, for the window of scaling up.
    least: Extreme,
    /// The greatest that was recommended, for the window of scaling down.
    greatest: Extreme,
}

/// How many there may be for now.
#[derive(Clone, Copy)]
struct Bounded {
    replicas: u32,
    reason: Reason,
}

impl Scaler {
    /// One for a pool that has so many replicas now. As for a HorizontalPodAutoscaler that starts anew, they count as
    /// recommended: nothing is taken away before the window of scaling down is over.
    pub fn new(replicas: u32, now: Duration) -> Self {
        let (mut least, mut greatest) = (Extreme::least(), Extreme::greatest());
        least.push(replicas, now, Duration::ZERO);
        greatest.push(replicas, now, Duration::ZERO);
        Self {
            changes: Changes::new(replicas),
            least,
            greatest,
        }
    }

    /// How many replicas there shall be from now on. `is_routed`: whether requests may come at any time. They would not wait
    /// for a first replica, so it has to be there before; and where there is none yet, this is what says that there shall be.
    pub fn decide(&mut self, policy: &ScalePolicy, samples: &[Sample], is_routed: bool, now: Duration) -> Decision {
        let current = self.changes.current();
        let tolerance = f64::from(policy.tolerance_percent) / 100.0;
        let proposals = Proposal::all(&policy.targets, tolerance, samples, current);
        let wish = wish(&proposals, current, is_routed);
        let recommended = bound(wish, policy);
        let stable = self.stabilize(recommended, policy, now);
        let Bounded { replicas, reason } = self.pace(stable, policy, now);
        self.changes.push(replicas, now);
        Decision {
            replicas,
            reason,
            proposals,
        }
    }

    /// Not more than has been recommended all through one window, and not fewer than was at any time in the other
    /// (`stabilizationWindowSeconds`). The bounds of the policy do not wait.
    fn stabilize(&mut self, to: Bounded, policy: &ScalePolicy, now: Duration) -> Bounded {
        let (up, down) = (&policy.scale_up, &policy.scale_down);
        let within = |replicas: u32| replicas.clamp(policy.min_replicas, policy.max_replicas);
        let least = self.least.push(to.replicas, now, seconds(up.stabilization_s));
        let greatest = self.greatest.push(to.replicas, now, seconds(down.stabilization_s));
        let current = within(self.changes.current());
        let replicas = if current < within(least) {
            within(least)
        } else {
            current.min(within(greatest))
        };
        let reason = match replicas {
            held if held < to.replicas => Reason::StabilizingUp,
            held if held > to.replicas => Reason::StabilizingDown,
            _ => to.reason,
        };
        Bounded { replicas, reason }
    }

    /// Not more and not fewer than may come and go in a period (`policies`, of which the one counts that allows more). The
    /// bounds of the policy do not wait.
    fn pace(&self, to: Bounded, policy: &ScalePolicy, now: Duration) -> Bounded {
        let (up, down) = (&policy.scale_up, &policy.scale_down);
        let current = self.changes.current().clamp(policy.min_replicas, policy.max_replicas);
        let most = highest(self.changes.at_start(now, seconds(up.period_s)), up).max(current);
        let fewest = lowest(self.changes.at_start(now, seconds(down.period_s)), down).min(current);
        let replicas = to.replicas.clamp(fewest, most);
        let reason = match replicas {
            held if held < to.replicas => Reason::PacedUp,
            held if held > to.replicas => Reason::PacedDown,
            _ => to.reason,
        };
        Bounded { replicas, reason }
    }
}

/// The most that a metric asks for. Where one is not known, it might ask for all that there are.
fn wish(proposals: &[Proposal], current: u32, is_routed: bool) -> Bounded {
    let wish = asked(proposals, current);
    if wish.replicas == 0 && is_routed {
        return Bounded {
            replicas: 1,
            reason: Reason::Routed,
        };
    }
    wish
}

fn asked(proposals: &[Proposal], current: u32) -> Bounded {
    let steady = Bounded {
        replicas: current,
        reason: Reason::Steady,
    };
    let known = proposals
        .iter()
        .filter_map(|proposal| Some((proposal.replicas?, proposal.metric)));
    // Of equals the first, as in the policy.
    let most = known.reduce(|most, next| if next.0 > most.0 { next } else { most });
    let unknown = proposals.iter().find(|proposal| proposal.replicas.is_none());
    match (most, unknown) {
        (None, _) => Bounded {
            reason: Reason::Unmeasured,
            ..steady
        },
        (Some((replicas, _)), Some(unknown)) if replicas < current => Bounded {
            reason: Reason::Unknown(unknown.metric),
            ..steady
        },
        (Some((replicas, metric)), _) if replicas != current => Bounded {
            replicas,
            reason: Reason::Asked(metric),
        },
        _ => steady,
    }
}

fn bound(wish: Bounded, policy: &ScalePolicy) -> Bounded {
    let replicas = wish.replicas.clamp(policy.min_replicas, policy.max_replicas);
    let reason = match wish.replicas {
        wished if wished < replicas => Reason::AtMin,
        wished if wished > replicas => Reason::AtMax,
        _ => wish.reason,
    };
    Bounded { replicas, reason }
}

/// The most that there may be in a period that began with so many.
fn highest(start: u32, up: &ScaleUp) -> u32 {
    // Rounded up, as the HorizontalPodAutoscaler does; and where there were none, one may always come.
    let more = (u64::from(start) * u64::from(up.max_percent)).div_ceil(100);
    let more = u32::try_from(more).unwrap_or(u32::MAX).max(up.max_replicas);
    start.saturating_add(more).max(1)
}

/// The fewest.
fn lowest(start: u32, down: &ScaleDown) -> u32 {
    let fewer = (u64::from(start) * u64::from(down.max_percent)).div_ceil(100);
    let fewer = u32::try_from(fewer).unwrap_or(u32::MAX).max(down.max_replicas);
    start.saturating_sub(fewer)
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}
