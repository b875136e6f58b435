//! Step 5: what must not pass.

use super::Report;
use crate::harness::Testbed;
use crate::refusals::{self, Reached};
use anyhow::{Context, Result};
use kilocard_policy::details::{BadRequest, Status};
use prost::Message;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let before = Reached::read(testbed).await?;
    for bad in refusals::all() {
        let reply = bad.send(testbed).await?;
        let seen = format!(
            "grpc-status {}, {}, {:?}",
            reply.grpc_status.map_or("none".to_owned(), |status| status.to_string()),
            if reply.ended_by_headers {
                "trailers-only"
            } else {
                "with a body"
            },
            reply.grpc_message,
        );
        let expected = format!("INVALID_ARGUMENT (3), trailers-only, naming {}", bad.field);
        report.check(bad.what, expected, seen, bad.is_refused_by(&reply));
    }
    several_at_once(testbed, report).await?;
    let after = Reached::read(testbed).await?;
    let none = Reached {
        forwarded: 0,
        computed: 0,
    };
    let reached = after.since(before);
    report.check(
        "what of that got past the filter",
        none.to_string(),
        reached.to_string(),
        reached == none,
    );

    // The same request without the fault, so that an unchanged counter means something.
    let good = refusals::infer(testbed, &[("x-model-version", b"v1")]).await?;
    let one = Reached {
        forwarded: 1,
        computed: 1,
    };
    let reached = Reached::read(testbed).await?.since(after);
    let ok = good.grpc_status == Some(0);
    let seen = format!(
        "grpc-status {}, {reached}",
        good.grpc_status.map_or(-1, |status| status)
    );
    report.check(
        "the same request without a fault",
        format!("grpc-status 0, {one}"),
        seen,
        ok && reached == one,
    );
    Ok(())
}

/// All that is wrong is told at once, in the status details that gRPC libraries decode, rules by their names.
async fn several_at_once(testbed: &Testbed, report: &mut Report) -> Result<()> {
    let bad = [("x-canary-weight", "101"), ("x-team", "sales")];
    let client = testbed.client().await?;
    let refused = client.ready(&bad).await.err().context("it was not refused")?;
    let status = Status::decode(refused.details())?;
    let bad_request = status.details.first().context("no details")?;
    let violations = BadRequest::decode(bad_request.value.as_slice())?.field_violations;
    let told: Vec<String> = violations
        .iter()
        .map(|violation| format!("{} ({})", violation.description, violation.reason))
        .collect();
    let right = match violations.as_slice() {
        [canary, team] => {
            canary.reason == "MALFORMED_CANARY_WEIGHT"
                && team.reason == "RULE_VIOLATED"
                && team.field == "x-team"
                && team.description.contains("known-team")
        }
        _ => false,
    };
    report.check(
        "two faults at once, one of them against the policy's rule known-team",
        "one refusal that tells both, and the rule",
        told.join("; "),
        right,
    );
    Ok(())
}
