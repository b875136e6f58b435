//! What is decided, and why.

use crate::proposal::{Metric, Proposal};
use std::fmt;

/// How many replicas there shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// So many.
    pub replicas: u32,
    /// Why not more and not fewer.
    pub reason: Reason,
    /// What each metric that has a target asks for.
    pub proposals: Vec<Proposal>,
}

/// Why a pool shall have so many replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What is borne is within the tolerance of what the replicas shall bear.
    Steady,
    /// This metric asks for them.
    Asked(Metric),
    /// No fewer, since nothing is known of this metric.
    Unknown(Metric),
    /// Not known what is borne: no ready replica reports.
    Unmeasured,
    /// Requests go to the pool, so one has to be there.
    Routed,
    /// Fewer would be below the policy's least.
    AtMin,
    /// More would be above the policy's most.
    AtMax,
    /// More are asked for, and have not been for long enough.
    StabilizingUp,
    /// Fewer are asked for, and have not been for long enough.
    StabilizingDown,
    /// More are asked for than may come in a period.
    PacedUp,
    /// Fewer are asked for than may go in a period.
    PacedDown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady => f.write_str("within the tolerance"),
            Self::Asked(metric) => write!(f, "asked for by {metric}"),
            Self::Unknown(metric) => write!(f, "not fewer: no replica reports {metric}"),
            Self::Unmeasured => f.write_str("no ready replica reports, so nothing changes"),
            Self::Routed => f.write_str("requests are routed to it, so one has to be there"),
            Self::AtMin => f.write_str("min_replicas of the policy"),
            Self::AtMax => f.write_str("max_replicas of the policy"),
            Self::StabilizingUp => f.write_str("more are asked for, but not for stabilization_s of scale_up yet"),
            Self::StabilizingDown => f.write_str("fewer are asked for, but not for stabilization_s of scale_down yet"),
            Self::PacedUp => f.write_str("more are asked for than may come in a period of scale_up"),
            Self::PacedDown => f.write_str("fewer are asked for than may go in a period of scale_down"),
        }
    }
}
