//! `envoy/ecds.yaml` and `envoy/ecds-filter.yaml`

use super::example::{Running, replace_whole, with_modules};
use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::poll::{self, DEADLINE};

/// As `ecds.yaml` names the file that it watches.
const WATCHED: &str = "path: envoy/ecds-filter.yaml";
const REFUSED: &str = "extension_config_discovery.http_filter.kilocard-gateway.config_fail";

#[tokio::test]
async fn a_changed_file_changes_the_policies_and_a_wrong_one_changes_nothing() -> Result<()> {
    let (v1, v2) = (Upstream::start("v1").await?, Upstream::start("v2").await?);
    let dir = tempfile::tempdir()?;
    let watched = dir.path().join("filter.yaml");
    let filter = with_modules("ecds-filter.yaml")?;
    replace_whole(&watched, &filter)?;
    let text = with_modules("ecds.yaml")?;
    ensure!(text.contains(WATCHED), "the example watches another file");
    let text = text.replace(WATCHED, &format!("path: {}", watched.display()));
    let running = Running::start(&text, &[(50051, &v1), (50052, &v2)]).await?;

    let record = async || -> Result<String> {
        let reply = running.call(&[("x-user-id", b"ada")]).await?;
        ensure!(reply.grpc_status == Some(0), "{reply:?}");
        Ok(reply.header("x-kilocard-decision").context("no record")?.to_owned())
    };
    let first = poll::until("the filter", DEADLINE, record).await?;
    ensure!(
        first.contains("version=minilm/v1 ") && first.contains("rev=file-1"),
        "{first}"
    );

    // As the example says, but for all of the users, and with a revision of its own.
    let changed = filter
        .replace("\"weight\": 90", "\"weight\": 0")
        .replace("\"weight\": 10", "\"weight\": 100")
        .replace("file-1", "file-2");
    replace_whole(&watched, &changed)?;
    poll::until("the new policies", DEADLINE, async || {
        let record = record().await?;
        ensure!(
            record.contains("version=minilm/v2 ") && record.contains("rev=file-2"),
            "{record}"
        );
        Ok(())
    })
    .await?;

    let wrong = changed
        .replace("\"weight\": 100", "\"weight\": 99")
        .replace("file-2", "file-3");
    replace_whole(&watched, &wrong)?;
    let admin = running.envoy.admin();
    poll::until("wrong weights to be refused", DEADLINE, async || {
        ensure!(admin.stat(REFUSED).await? > 0);
        Ok(())
    })
    .await?;
    let log = running.envoy.log()?;
    ensure!(log.contains("configuration refused: documents[1]"), "{log}");
    let record = record().await?;
    ensure!(
        record.contains("version=minilm/v2 ") && record.contains("rev=file-2"),
        "{record}"
    );
    Ok(())
}
