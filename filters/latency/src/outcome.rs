//! What the end of a call says of the endpoint that it was sent to.

/// How a call ended, as far as the endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, if only to say that the request was wrong.
    Answered,
    /// It was answered by what only a broken endpoint says.
    Failed,
    /// It was refused for lack of resources: load, and no fault.
    Refused,
    /// It was cut off, by a deadline or by the client. How long it would have taken is not known.
    CutOff,
}

impl Outcome {
    /// By gRPC's status code (grpc/grpc, `doc/statuscodes.md`); one that is unknown counts as UNKNOWN.
    pub fn of_status(code: u32) -> Self {
        match code {
            // OK; INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, ABORTED,
            // OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED.
            0 | 3 | 5..=7 | 9..=12 | 16 => Self::Answered,
            // CANCELLED, DEADLINE_EXCEEDED.
            1 | 4 => Self::CutOff,
            // RESOURCE_EXHAUSTED.
            8 => Self::Refused,
            // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS.
            _ => Self::Failed,
        }
    }

    /// Whether the endpoint has said anything at all.
    pub fn is_answer(self) -> bool {
        self != Self::CutOff
    }

    /// Whether how long it took tells what requests take.
    pub fn is_sample(self) -> bool {
        self == Self::Answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_mistakes_are_no_fault_of_the_endpoint() {
        let all: Vec<_> = (0..=17).map(Outcome::of_status).collect();
        let failed: Vec<_> = (0..=17).filter(|code| all[*code] == Outcome::Failed).collect();
        assert_eq!(failed, [2, 13, 14, 15, 17]);
        assert_eq!(all[8], Outcome::Refused);
        assert!(!all[4].is_answer() && !all[1].is_sample());
    }
}
