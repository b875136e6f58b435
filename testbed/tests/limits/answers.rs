//! What clients are told.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use kilocard_policy::details::{ErrorInfo, QuotaFailure, RetryInfo, Status};
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::{StaticMesh, all_to_v1};
use kilocard_testbed::raw::{self, Reply};
use prost::Message;
use serde_json::{Value, json};

use super::scene::rate_limits;

pub(crate) async fn start(documents: &[Value]) -> Result<StaticMesh> {
    let mut all = vec![all_to_v1()];
    all.extend_from_slice(documents);
    let plugin = Plugin::new("kilocard-gateway", "kilocard_gateway", &json!(all));
    StaticMesh::start(&[plugin], config::everything("minilm/v1")).await
}

/// One of google.rpc's messages among the details of a refusal.
fn detail<M: Message + Default + prost::Name>(reply: &Reply) -> Result<M> {
    let text = reply.header("grpc-status-details-bin").context("no details")?;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text)?;
    let status = Status::decode(bytes.as_slice())?;
    let found = status.details.iter().find(|any| any.type_url == M::type_url());
    let any = found.with_context(|| format!("no {} in {status:?}", M::full_name()))?;
    Ok(M::decode(any.value.as_slice())?)
}

#[tokio::test]
async fn a_grpc_client_hears_which_limit_it_met_and_when_to_come_back() -> Result<()> {
    let limit = json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 30, "per": "minute", "burst": 1}]});
    let mesh = start(&[rate_limits("tenants", &limit)]).await?;
    let headers: [(&str, &[u8]); 1] = [("x-tenant-id", b"acme")];
    ensure!(mesh.call(&headers).await?.grpc_status == Some(0));
    let reply = mesh.call(&headers).await?;
    ensure!(reply.grpc_status == Some(8), "{reply:?}");
    ensure!(
        reply
            .grpc_message
            .starts_with("tenants.requests: 30 requests a minute, at most 1 at once for tenant=acme, are used up"),
        "{reply:?}"
    );
    let wait: u64 = reply.header("grpc-retry-pushback-ms").context("no pushback")?.parse()?;
    ensure!((1..=2000).contains(&wait), "{wait}");
    let retry: RetryInfo = detail(&reply)?;
    let delay = retry.retry_delay.context("no delay")?;
    ensure!(
        delay.seconds <= 2 && (delay.seconds > 0 || delay.nanos > 0),
        "{delay:?}"
    );
    let failure: QuotaFailure = detail(&reply)?;
    let violation = failure.violations.first().context("no violation")?;
    ensure!(
        (
            violation.subject.as_str(),
            violation.quota_id.as_str(),
            violation.quota_value
        ) == ("tenant=acme", "tenants.requests", 30),
        "{violation:?}"
    );
    let info: ErrorInfo = detail(&reply)?;
    ensure!(
        info.reason == "RATE_LIMITED"
            && info
                .metadata
                .get("limit")
                .is_some_and(|limit| limit == "tenants.requests"),
        "{info:?}"
    );
    ensure!(mesh.forwarded() == (1, 0), "the second one went on");
    Ok(())
}

#[tokio::test]
async fn another_client_gets_429_with_the_headers_of_http() -> Result<()> {
    let http = json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "http"}, "spec": {"protocols": {"http": "route"}}});
    let limit = json!({"limits": [{"unit": "requests", "rate": 1, "per": "minute", "burst": 1}]});
    let mesh = start(&[http, rate_limits("all", &limit)]).await?;
    let get = async || {
        raw::request(
            mesh.envoy.address(),
            (http::Method::GET, "/v2/models"),
            &[],
            bytes::Bytes::new(),
        )
        .await
    };
    get().await?;
    let reply = get().await?;
    ensure!(reply.http_status == 429, "{reply:?}");
    let wait: u64 = reply.header("retry-after").context("no Retry-After")?.parse()?;
    ensure!((1..=60).contains(&wait), "{wait}");
    ensure!(
        reply.header("ratelimit-policy") == Some("\"all.requests\";q=1;w=60"),
        "{reply:?}"
    );
    ensure!(
        reply
            .header("ratelimit")
            .is_some_and(|value| value.starts_with("\"all.requests\";r=0;t=")),
        "{reply:?}"
    );
    let body: Value = serde_json::from_slice(&reply.body)?;
    ensure!(
        body["error"]["reason"] == "RATE_LIMITED" && body["error"]["quota"]["policy"] == "all",
        "{body}"
    );
    Ok(())
}

#[tokio::test]
async fn a_policy_that_only_counts_lets_everything_pass() -> Result<()> {
    let limit = json!({"shadow": true, "limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 1}]});
    let mesh = start(&[rate_limits("trial", &limit)]).await?;
    for _ in 0..4 {
        ensure!(mesh.call(&[]).await?.grpc_status == Some(0));
    }
    let stats = mesh.envoy.admin().stats("wasmcustom.kilocard_").await?;
    let of = |name: &str| {
        stats
            .iter()
            .find(|(stat, _)| stat.ends_with(name))
            .map(|(_, value)| *value)
    };
    ensure!(
        of("kilocard_limits.trial.shadow") == Some(3) && of("kilocard_reported.RATE_LIMITED") == Some(3),
        "{stats:?}"
    );
    ensure!(
        mesh.envoy.log()?.contains("report-only: RATE_LIMITED"),
        "nothing in the log"
    );
    Ok(())
}
