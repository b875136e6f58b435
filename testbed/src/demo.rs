//! The demonstration: eight steps through a real mesh, each with what was expected and what was seen.

mod embeddings;
mod failures;
mod limiting;
mod live_change;
mod refusing;
mod report;
mod routing;
mod starting;
mod weighing;

use crate::harness::Testbed;
use anyhow::Result;
pub use report::Report;
pub(crate) use report::say;

/// The weights of `v2`, in percent: at the start, after the live change, and after the control plane came back.
const V2_PERCENT: [u16; 3] = [10, 50, 60];

/// Runs all steps; false if one of them failed. Ends everything it started.
///
/// # Errors
/// If the mesh does not start or does not end.
pub async fn run() -> Result<bool> {
    let mut report = Report::default();
    let mut testbed = starting::run(&mut report).await?;
    steps(&mut testbed, &mut report).await;
    report.summary();
    let passed = report.passed();
    if passed {
        testbed.finish().await?;
        say("   Everything that was started has been ended.");
        next();
    } else {
        say(&format!("   Logs are kept in {}", testbed.dir().display()));
    }
    Ok(passed)
}

async fn steps(testbed: &mut Testbed, report: &mut Report) {
    let titles = [
        "A real sentence embedding through the whole mesh",
        "Pin, split by weights, sticky users",
        "A policy changed live",
        "Bad requests are refused at the door",
        "One tenant is limited, live, and nobody else",
        "Worker, etcd and control plane fail under load",
        "Traffic follows the devices' weights (simulated cards)",
    ];
    for (number, title) in (2..).zip(titles) {
        report.step(number, title);
        let outcome = match number {
            2 => embeddings::run(testbed, report).await,
            3 => routing::run(testbed, report).await,
            4 => live_change::run(testbed, report).await,
            5 => refusing::run(testbed, report).await,
            6 => limiting::run(testbed, report).await,
            7 => failures::run(testbed, report).await,
            _ => weighing::run(testbed, report).await,
        };
        if let Err(error) = outcome.and_then(|()| testbed.check()) {
            report.broke(&error);
        }
    }
}

fn next() {
    say("\nTry next:");
    say("   cargo xtask up             keep such a mesh running; prints its addresses and commands to paste");
    say("   cargo xtask test           every check of the project, end-to-end tests on real Envoy and etcd among them");
    say("   cargo xtask bench push     etcd write to effect at the client, p50 and p99");
    say("   docs/policies.md           what a policy can say");
}
