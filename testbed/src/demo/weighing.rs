//! Step 8: traffic in the ratio of the weights.

use super::Report;
use crate::harness::Testbed;
use crate::poll::{self, DEADLINE};
use crate::tally;
use anyhow::{Context, Result, ensure};
use kilocard_registry::report::MeshReport;

const CALLS: usize = 1000;
/// One request at a time: Envoy's least-request balancing also looks at what is under way, and under load leans from the
/// weights towards the less busy worker.
const LANES: usize = 1;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let status = at_rest(testbed).await?;
    let cluster = status
        .clusters
        .iter()
        .find(|cluster| cluster.model == "minilm" && cluster.version == "v1")
        .context("kilocard status shows no minilm/v1")?;
    let weights: u32 = cluster.endpoints.iter().map(|endpoint| endpoint.weight).sum();
    let shown: Vec<String> = cluster
        .endpoints
        .iter()
        .map(|endpoint| {
            let label = if endpoint.factors.simulated {
                "simulated"
            } else {
                "NOT labelled simulated"
            };
            format!(
                "{} weight {} ({}, {label})",
                endpoint.worker, endpoint.weight, endpoint.factors.card
            )
        })
        .collect();
    let unlike = matches!(&cluster.endpoints[..], [a, b] if a.weight != b.weight);
    let labelled = cluster.endpoints.iter().all(|endpoint| endpoint.factors.simulated);
    report.check(
        "kilocard status",
        "two unlike weights, labelled simulated",
        shown.join(", "),
        unlike && labelled,
    );

    let tally = tally::workers_in_lanes(testbed.gateway(), LANES, CALLS, &[("x-model-version", "v1")]).await?;
    for endpoint in &cluster.endpoints {
        let share = f64::from(endpoint.weight) / f64::from(weights);
        let band = tally::binomial_band(CALLS, share);
        let expected = format!(
            "{:.1} % of the requests: {} to {} of {CALLS}",
            share * 100.0,
            band.start(),
            band.end()
        );
        let served = tally.of(&endpoint.worker);
        report.check(
            &format!("traffic of {}", endpoint.worker),
            expected,
            served.to_string(),
            band.contains(&served),
        );
    }
    Ok(())
}

/// Once no weight is under way any more: workers of the step before have come back, and come back slowly.
async fn at_rest(testbed: &Testbed) -> Result<MeshReport> {
    poll::until("the weights to rest", DEADLINE, async || {
        let status = testbed.status().await?;
        for endpoint in status.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            let factors = &endpoint.factors;
            let rests = factors.slow_start.is_none() && (factors.smoothed / factors.target - 1.0).abs() < 0.01;
            let published = (f64::from(endpoint.weight) / factors.target - 1.0).abs() < 0.06;
            ensure!(rests && published, "{endpoint:?}");
        }
        Ok(status)
    })
    .await
}
