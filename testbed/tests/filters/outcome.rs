//! How a decision shows: to clients that speak gRPC and to others, in headers, counters and the access log.

use super::filter::{Filter, mesh_policy, validation};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use kilocard_policy::capture::Captured;
use kilocard_policy::details::{BadRequest, ErrorInfo, Status};
use kilocard_policy::record::Record;
use kilocard_testbed::client::Client;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::all_to_v1;
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw;
use prost::Message;
use serde_json::{Value, json};

#[tokio::test]
async fn a_grpc_client_is_told_every_violation_in_the_details_of_its_status() -> Result<()> {
    let mesh = Filter::Gateway.start(&[]).await?;
    let client = Client::connect(mesh.envoy.address()).await?;
    let bad = [("x-canary-weight", "101"), ("x-priority", "P9")];
    let refused = client.ready(&bad).await.err().context("it was not refused")?;
    let status = Status::decode(refused.details())?;
    ensure!(
        status.code == 3 && status.message == refused.message(),
        "{status:?}, {refused:?}"
    );
    let [bad_request, info] = &status.details[..] else {
        anyhow::bail!("{status:?}");
    };
    let bad_request = BadRequest::decode(&bad_request.value[..])?;
    let reasons: Vec<(&str, &str)> = bad_request
        .field_violations
        .iter()
        .map(|violation| (violation.field.as_str(), violation.reason.as_str()))
        .collect();
    ensure!(
        reasons
            == [
                ("x-canary-weight", "MALFORMED_CANARY_WEIGHT"),
                ("x-priority", "MALFORMED_PRIORITY")
            ],
        "{reasons:?}"
    );
    let info = ErrorInfo::decode(&info.value[..])?;
    ensure!(info.domain == "kilocard.dev" && info.reason == reasons[0].1, "{info:?}");
    ensure!(info.metadata["rev"] == "test", "{info:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_speaks_no_grpc_is_told_in_json() -> Result<()> {
    let mesh = Filter::Gateway.start(&[]).await?;
    for (headers, reason) in [
        (&[][..], "NOT_GRPC"),
        (&[("content-type", b"application/json".as_slice())], "NOT_GRPC"),
        (&[("content-type", b"application/grpc-web+proto")], "NOT_GRPC"),
    ] {
        let target = (Method::POST, "/a.B/C");
        let reply = raw::request(mesh.envoy.address(), target, headers, Bytes::from_static(b"{}")).await?;
        ensure!(
            reply.http_status == 400 && reply.header("content-type") == Some("application/json"),
            "{reply:?}"
        );
        let body: Value = serde_json::from_slice(&reply.body)?;
        ensure!(
            body["error"]["reason"] == reason && body["error"]["code"] == 400,
            "{body}"
        );
        let record = reply.header("x-kilocard-decision").context("no record")?;
        ensure!(record.contains(&format!("refused={reason}")), "{record}");
    }
    Ok(())
}

#[tokio::test]
async fn plain_http_passes_undecided_and_without_forged_headers_where_the_policy_says_so() -> Result<()> {
    let mesh = Filter::Gateway
        .start(&[validation(&json!({"protocols": {"http": "pass"}}))])
        .await?;
    let headers: &[(&str, &[u8])] = &[("x-kilocard-route", b"minilm/v2"), ("x-note", b"1")];
    let reply = raw::request(mesh.envoy.address(), (Method::GET, "/healthz"), headers, Bytes::new()).await?;
    ensure!(reply.header("x-upstream") == Some("v1"), "{reply:?}");
    let seen = mesh.v1.seen();
    ensure!(
        seen[0].header("x-kilocard-route").is_none() && seen[0].header("x-note") == Some("1"),
        "{seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn report_only_counts_and_lets_pass_what_routing_does_not_read() -> Result<()> {
    let mesh = Filter::Gateway
        .start(&[validation(&json!({"report_only": "all"}))])
        .await?;
    for _ in 0..3 {
        let reply = mesh.call(&[("x-trace-id", b"short")]).await?;
        ensure!(reply.header("x-upstream") == Some("v1"), "{reply:?}");
    }
    let refused = mesh.call(&[("x-model-version", b"v1..2")]).await?;
    ensure!(refused.grpc_status == Some(3), "{refused:?}");
    let admin = mesh.envoy.admin();
    for (counter, value) in [
        ("kilocard_reported.MALFORMED_TRACE_ID", 3),
        ("kilocard_decisions.MALFORMED_TRACE_ID", 0),
        ("kilocard_decisions.MALFORMED_MODEL_VERSION", 1),
    ] {
        let counted = admin.stat(&format!("wasmcustom.{counter}")).await?;
        ensure!(counted == value, "{counter}: {counted}");
    }
    let log = mesh.envoy.log()?;
    ensure!(
        log.matches("report-only: MALFORMED_TRACE_ID would be refused").count() >= 1,
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn a_rule_is_counted_by_its_name_whether_it_refuses_or_reports() -> Result<()> {
    let rules = json!([
        {"name": "user-required", "header": "x-user-id", "required": true},
        {"name": "no-sql", "header": "x-note", "forbid": ["sql_injection"], "action": "report"},
    ]);
    let mesh = Filter::Gateway.start(&[validation(&json!({"rules": rules}))]).await?;
    let refused = mesh.call(&[]).await?;
    ensure!(
        refused.grpc_status == Some(3) && refused.header("x-kilocard-reason") == Some("RULE_VIOLATED"),
        "{refused:?}"
    );
    let record = refused.header("x-kilocard-decision").context("no record")?;
    ensure!(record.contains("rule=default/user-required"), "{record}");
    let reported = mesh
        .call(&[("x-user-id", b"ada"), ("x-note", b"1' OR '1'='1' --")])
        .await?;
    ensure!(reported.header("x-upstream") == Some("v1"), "{reported:?}");
    let admin = mesh.envoy.admin();
    for (counter, value) in [
        ("default.user-required.refused", 1),
        ("default.user-required.reported", 0),
        ("default.no-sql.refused", 0),
        ("default.no-sql.reported", 1),
    ] {
        let counted = admin.stat(&format!("wasmcustom.kilocard_rules.{counter}")).await?;
        ensure!(counted == value, "{counter}: {counted}");
    }
    Ok(())
}

/// Where Envoy believes `x-forwarded-for`, the address that it tells the filter is what a client wrote.
#[tokio::test]
async fn no_client_gets_into_a_group_of_callers_by_a_header() -> Result<()> {
    let install = Install::locate()?;
    let group = |addresses: &str| mesh_policy(&json!({"callers": [{"name": "operators", "addresses": [addresses]}]}));
    let rule = validation(&json!({"rules": [{"name": "admin", "header": "x-admin", "callers": ["operators"]}]}));
    for (addresses, believed, admitted) in [
        ("127.0.0.0/8", false, true),
        ("10.0.0.0/8", false, false),
        ("10.0.0.0/8", true, false),
    ] {
        let documents = json!([all_to_v1(), group(addresses), rule]);
        let plugin = Plugin::new("kilocard-gateway", "kilocard_gateway", &documents);
        let v1 = Upstream::start("v1").await?;
        let mut bootstrap = config::bootstrap(
            vec![plugin.filter(&install)],
            &[config::decided("minilm/v1")],
            &[config::cluster("minilm/v1", v1.address())],
        );
        *bootstrap
            .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/use_remote_address")
            .context("no use_remote_address")? = json!(!believed);
        let dir = tempfile::tempdir()?;
        let envoy = StaticEnvoy::start(&install, dir.path(), "envoy", &bootstrap).await?;
        let headers: &[(&str, &[u8])] = &[
            ("content-type", b"application/grpc"),
            ("x-admin", b"1"),
            ("x-forwarded-for", b"10.1.2.3"),
        ];
        let reply = raw::request(envoy.address(), (Method::POST, "/a.B/C"), headers, Bytes::new()).await?;
        let reason = reply.header("x-kilocard-reason");
        let expected = (!admitted).then_some("CALLER_NOT_ALLOWED");
        ensure!(reason == expected, "{addresses}, believed: {believed}: {reply:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_record_is_in_the_access_log_and_on_responses_only_where_the_policy_says_so() -> Result<()> {
    for on in [false, true] {
        let mesh = Filter::Gateway
            .start(&[mesh_policy(&json!({"decision_record": {"response_header": on}}))])
            .await?;
        let reply = mesh.call(&[("x-user-id", b"ada")]).await?;
        let shown = reply.header("x-kilocard-decision").map(str::to_owned);
        ensure!(shown.is_some() == on, "{reply:?}");
        let logged = poll::until("the access log", DEADLINE, async || {
            let lines = mesh.envoy.access_log()?;
            let line = lines.first().context("no line yet")?;
            Ok(line["decision"].as_str().unwrap_or_default().to_owned())
        })
        .await?;
        let record = Record::parse(&logged).map_err(anyhow::Error::msg)?;
        ensure!(record.version.as_deref() == Some("minilm/v1"), "{logged}");
        ensure!(shown.is_none_or(|shown| shown == logged), "{logged}");
    }
    Ok(())
}

#[tokio::test]
async fn a_capture_in_the_access_log_says_what_was_decided_and_not_who_asked() -> Result<()> {
    let mesh = Filter::Gateway
        .start(&[mesh_policy(
            &json!({"capture": {"percent": 100, "plain_headers": ["x-team"]}}),
        )])
        .await?;
    let headers: &[(&str, &[u8])] = &[
        ("x-user-id", b"ada-lovelace"),
        ("authorization", b"Bearer top-secret"),
        ("x-note", b"private"),
        ("x-team", b"search"),
    ];
    mesh.call(headers).await?;
    let capture = poll::until("the access log", DEADLINE, async || {
        let lines = mesh.envoy.access_log()?;
        let line = lines.first().context("no line yet")?;
        Ok(line["capture"].as_str().context("no capture")?.to_owned())
    })
    .await?;
    let line: Value = serde_json::from_str(&capture)?;
    ensure!(line["decision"]["version"] == "minilm/v1", "{capture}");
    ensure!(capture.contains("[\"x-team\",\"search\"]"), "{capture}");
    for secret in ["ada-lovelace", "top-secret", "private"] {
        ensure!(!capture.contains(secret), "{secret} in {capture}");
    }
    let replayed = Captured::parse(capture.as_bytes()).map_err(anyhow::Error::msg)?;
    ensure!(replayed.is_some(), "{capture}");
    Ok(())
}
