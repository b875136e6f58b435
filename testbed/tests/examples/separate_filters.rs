//! `envoy/separate-filters.yaml`

use super::example::{Running, with_modules};
use anyhow::{Result, ensure};
use kilocard_testbed::harness::upstream::Upstream;

#[tokio::test]
async fn validation_and_routing_work_as_two_filters() -> Result<()> {
    let (stable, canary) = (Upstream::start("stable").await?, Upstream::start("canary").await?);
    let upstreams = [(50051, &stable), (50052, &canary)];
    let running = Running::start(&with_modules("separate-filters.yaml")?, &upstreams).await?;
    for (headers, upstream) in [
        ([("x-model-version", b"v2".as_slice())], "canary"),
        ([("x-model-version", b"v1")], "stable"),
        ([("x-canary-weight", b"100")], "canary"),
        ([("x-canary-weight", b"0")], "stable"),
    ] {
        let reply = running.call(&headers).await?;
        ensure!(reply.header("x-upstream") == Some(upstream), "{headers:?}: {reply:?}");
        let record = reply.header("x-kilocard-decision").unwrap_or_default();
        ensure!(record.contains("rev=separate-1"), "{reply:?}");
    }
    let forged = running
        .call(&[("x-kilocard-route", b"minilm/v2"), ("x-model-version", b"v1")])
        .await?;
    ensure!(forged.header("x-upstream") == Some("stable"), "{forged:?}");

    let before = (stable.seen().len(), canary.seen().len());
    let long = [b'a'; 2049];
    for headers in [[("x-model-version", b"".as_slice())], [("x-note", long.as_slice())]] {
        let refused = running.call(&headers).await?;
        ensure!(
            refused.grpc_status == Some(3) && refused.ended_by_headers,
            "{refused:?}"
        );
    }
    let unknown = running.call(&[("x-model-version", b"v9")]).await?;
    ensure!(unknown.grpc_status == Some(5), "{unknown:?}");
    ensure!(before == (stable.seen().len(), canary.seen().len()));
    Ok(())
}
