//! What the status report says of the source: what is served, who is held, and which replica leads. Pure.

use crate::election::Outcome;
use crate::saved::to_unix_ms;
use crate::source::intake::{Serving, Standing};
use kilocard_registry::report::{ElectionReport, HoldReport, SavedReport, SourceReport};
use std::time::{Instant, SystemTime};

/// The report as of `now`.
pub fn source(standing: &Standing, now: SystemTime) -> SourceReport {
    let unix_ms = |at: Instant| {
        let until = at.saturating_duration_since(Instant::now());
        let since = Instant::now().saturating_duration_since(at);
        to_unix_ms(now + until - since)
    };
    let (serving, saved) = match standing.serving {
        Serving::Nothing => ("nothing", None),
        Serving::Source => ("source", None),
        Serving::Disk { saved_at, revision } => {
            let saved_unix_ms = to_unix_ms(saved_at);
            (
                "disk",
                Some(SavedReport {
                    saved_unix_ms,
                    revision,
                }),
            )
        }
    };
    let hold = standing.hold.as_ref().map(|hold| HoldReport {
        since_unix_ms: unix_ms(hold.since),
        until_unix_ms: unix_ms(hold.until),
        reason: format!(
            "{} workers vanished within a few seconds without having said that they leave: they stay in the mesh until \
             they return, POST /hold/release, or the time is over",
            hold.workers.len()
        ),
        workers: hold.workers.keys().cloned().collect(),
    });
    SourceReport {
        kind: standing.kind.to_owned(),
        serving: serving.to_owned(),
        saved,
        hold,
    }
}

/// The election as this replica sees it.
pub fn election(replica: &str, outcome: &Outcome) -> ElectionReport {
    ElectionReport {
        replica: replica.to_owned(),
        leads: outcome.ours.is_some(),
        leader: outcome.leader.clone(),
    }
}
