//! Why a breaker is where it is.

/// A reason, the strongest evidence first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// Nothing has happened yet.
    #[default]
    None,
    /// Two connections failed or were reset within a second.
    ConnectionErrors,
    /// Its health check says NOT_SERVING, or its card has failed.
    NotServing,
    /// Far fewer requests end than are expected of those in flight.
    Late,
    /// Far more answers are failures than of its peers.
    Failures,
    /// Its heartbeats stay away.
    Heartbeats,
    /// Its P99.9 is more than twice what it was in the long run.
    Slow,
    /// A probe failed.
    ProbeFailed,
    /// Its backoff is over.
    BackoffOver,
    /// Enough probes passed.
    ProbesPassed,
    /// There was no further sign.
    Recovered,
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::None,
        Self::ConnectionErrors,
        Self::NotServing,
        Self::Late,
        Self::Failures,
        Self::Heartbeats,
        Self::Slow,
        Self::ProbeFailed,
        Self::BackoffOver,
        Self::ProbesPassed,
        Self::Recovered,
    ];

    /// A stable name, for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ConnectionErrors => "connection-errors",
            Self::NotServing => "not-serving",
            Self::Late => "late",
            Self::Failures => "failures",
            Self::Heartbeats => "heartbeats",
            Self::Slow => "slow",
            Self::ProbeFailed => "probe-failed",
            Self::BackoffOver => "backoff-over",
            Self::ProbesPassed => "probes-passed",
            Self::Recovered => "recovered",
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_reason() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::of_code(11), None);
    }
}
