//! Make before break.

use anyhow::{Result, ensure};
use kilocard_testbed::changes::{self, Options};
use std::time::Duration;

/// "In general, to avoid traffic drop, sequencing of updates should follow a make before break model": CDS first, then EDS, LDS,
/// RDS, and "stale CDS clusters and related EDS endpoints (ones no longer being referenced) can then be removed".
#[tokio::test]
async fn cases_35_and_36_no_request_is_dropped_while_everything_changes_and_clusters_go_after_their_routes()
-> Result<()> {
    let mut testbed = changes::mesh("e2e-changes").await?;
    let options = Options {
        changes: 150,
        pause: Duration::from_millis(20),
        lanes: 2,
        seed: 20_261_126,
    };
    let outcome = changes::run(&mut testbed, options, |_| ()).await?;
    ensure!(outcome.failed == 0, "{outcome:#?}");
    ensure!(outcome.nacks == 0, "{outcome:#?}");
    ensure!(outcome.requests > 500, "too little load to say anything: {outcome:#?}");
    // Clusters were taken away, and at no time did a route name one that was not there.
    let (added, removed) = outcome.clusters;
    ensure!(added > 10 && removed > 5, "{outcome:#?}");
    ensure!(outcome.unrouted == (0, 0), "{outcome:#?}");
    testbed.finish().await
}
