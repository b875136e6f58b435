//! Where the variants must draw the same lines: what passes, what is refused, where it goes and what is stripped.
//!
//! A variant that checks less would be cheaper; measuring begins once all of them agree.

use super::proxy::Proxy;
use super::request::{HEADERS, PASSED};
use super::variant::Variant;
use crate::raw::{self, Reply};
use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;

/// The method of the inference service that the bench calls.
const METHOD: &str = "ServerReady";

/// The reply's header that tells the route which a filter decided.
pub(super) const ROUTE: &str = "x-route";
/// The reply's header that tells what a filter has left of headers that only the mesh may set.
pub(super) const STRAY: &str = "x-stray";
/// What it is made of.
pub(super) const STRAY_FORMAT: &str =
    "%REQ(x-kilocard-stray)%%REQ(x-envoy-max-retries)%%REQ(x-gateway-destination-endpoint)%";

/// That the variant does what it is measured for.
pub(super) async fn verify(proxy: &Proxy) -> Result<()> {
    let label = proxy.variant().label();
    let reply = send(proxy, METHOD, &good()).await?;
    let passed = reply.grpc_status.map(|status| status.to_string());
    ensure!(
        passed.as_deref() == Some(PASSED),
        "{label} refuses a good request: {reply:?}"
    );
    if proxy.variant() == Variant::None {
        ensure!(route(&reply).is_none(), "{label} decides a route: {reply:?}");
        return Ok(());
    }
    ensure!(
        route(&reply).is_some(),
        "{label}: a good request gets no route: {reply:?}"
    );
    for (field, value, allowed) in values() {
        let mut headers = good();
        headers.retain(|(name, _)| *name != field);
        let shown = String::from_utf8_lossy(&value);
        let method = if field == ":path" { &shown } else { METHOD };
        if field != ":path" {
            headers.push((field, &value));
        }
        expect(proxy, method, &headers, allowed, &format!("{field} {shown:?}")).await?;
    }
    for (field, allowed) in ABSENT {
        let mut headers = good();
        headers.retain(|(name, _)| *name != field);
        expect(proxy, METHOD, &headers, allowed, &format!("no {field}")).await?;
    }
    for (field, first, second) in TWICE {
        let mut headers = good();
        headers.retain(|(name, _)| *name != field);
        headers.extend([(field, first.as_bytes()), (field, second.as_bytes())]);
        expect(proxy, METHOD, &headers, false, &format!("{field} twice")).await?;
    }
    follows_pins(proxy).await?;
    strips(proxy).await
}

/// That a pin decides the route, whatever route the client claims.
async fn follows_pins(proxy: &Proxy) -> Result<()> {
    for version in ["v1", "v2"] {
        let mut headers = good();
        headers.push(("x-model-version", version.as_bytes()));
        headers.push(("x-kilocard-route", b"minilm/v9"));
        let reply = send(proxy, METHOD, &headers).await?;
        let expected = format!("minilm/{version}");
        ensure!(
            route(&reply) == Some(expected.as_str()),
            "{}: a request pinned to {version}: {reply:?}",
            proxy.variant().label()
        );
    }
    Ok(())
}

/// That what only the mesh may set does not pass.
async fn strips(proxy: &Proxy) -> Result<()> {
    let mut headers = good();
    headers.push(("x-kilocard-stray", b"forged"));
    headers.push(("x-envoy-max-retries", b"200"));
    headers.push(("x-gateway-destination-endpoint", b"127.0.0.1:forged"));
    let reply = send(proxy, METHOD, &headers).await?;
    let left = reply.headers.get(STRAY).map(http::HeaderValue::as_bytes);
    let left = left.unwrap_or_default();
    let stripped = !left.windows(6).any(|part| part == b"forged") && !left.windows(3).any(|part| part == b"200");
    ensure!(
        stripped && route(&reply).is_some(),
        "{}: internal headers pass: {reply:?}",
        proxy.variant().label()
    );
    Ok(())
}

fn good() -> Vec<(&'static str, &'static [u8])> {
    HEADERS.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
}

async fn send(proxy: &Proxy, method: &str, headers: &[(&str, &[u8])]) -> Result<Reply> {
    raw::send(proxy.address(), method, headers, &ServerReadyRequest {}).await
}

async fn expect(proxy: &Proxy, method: &str, headers: &[(&str, &[u8])], allowed: bool, what: &str) -> Result<()> {
    let reply = send(proxy, method, headers).await?;
    let routed = route(&reply).is_some();
    ensure!(
        routed == allowed,
        "{}: {what} passes: {routed}, expected {allowed}: {reply:?}",
        proxy.variant().label()
    );
    Ok(())
}

/// The route that a filter decided.
fn route(reply: &Reply) -> Option<&str> {
    let route = reply.headers.get(ROUTE).and_then(|route| route.to_str().ok());
    route.filter(|route| route.starts_with("minilm/"))
}

/// Whether a request passes that lacks a header.
const ABSENT: [(&str, bool); 5] = [
    ("te", true),
    ("x-model", true),
    ("x-user-id", true),
    ("traceparent", true),
    ("content-type", false),
];

/// Headers that may come once.
const TWICE: [(&str, &str, &str); 5] = [
    ("x-tenant-id", "a", "b"),
    ("x-priority", "P0", "P1"),
    ("x-model", "minilm", "minilm"),
    ("x-user-id", "ada", "bob"),
    ("x-model-version", "v1", "v2"),
];

/// Values on both sides of the lines that `kilocard_policy` draws, and whether they pass. Of `:path` it is the method.
fn values() -> impl Iterator<Item = (&'static str, Vec<u8>, bool)> {
    let fixed = FIXED
        .iter()
        .map(|(field, value, allowed)| (*field, value.as_bytes().to_vec(), *allowed));
    let sized = SIZED
        .iter()
        .map(|(field, bytes, allowed)| (*field, b"a".repeat(*bytes), *allowed));
    let raw = [
        ("x-note", b"caf\xe9".to_vec(), false),
        ("x-user-id", b"\xff\xfe".to_vec(), false),
    ];
    fixed.chain(sized).chain(raw)
}

const FIXED: &[(&str, &str, bool)] = &[
    (":path", "ModelInfer", true),
    (":path", "1st", false),
    (":path", "a.b", false),
    (":path", "a/b", false),
    ("content-type", "application/grpc+proto", true),
    ("content-type", "application/grpc;charset=utf-8", true),
    ("content-type", "application/grpc+proto;charset=utf-8", true),
    ("content-type", "application/grpcx", false),
    ("content-type", "application/grpc+", false),
    ("content-type", "application/grpc-web", false),
    ("grpc-timeout", "99999999H", true),
    ("grpc-timeout", "10", false),
    ("grpc-timeout", "123456789S", false),
    ("grpc-encoding", "gzip", true),
    ("grpc-encoding", "gzip,identity", false),
    ("grpc-encoding", "", false),
    ("grpc-accept-encoding", "identity,deflate , gzip", true),
    ("grpc-accept-encoding", "identity,,gzip", false),
    ("grpc-accept-encoding", "GZIP", false),
    ("grpc-status", "0", false),
    ("grpc-previous-rpc-attempts", "1", true),
    ("x-canary-weight", "100", true),
    ("x-canary-weight", "101", false),
    ("x-canary-weight", "0x10", false),
    ("x-model", "a b", false),
    ("x-model", "absent", false),
    ("x-model-version", "v2", true),
    ("x-model-version", "", false),
    ("x-model-version", "v2.", false),
    ("x-note", "a\tb", false),
    ("x-note", "a ~b", true),
    ("x-note-bin", "AAEC", true),
    ("x-note-bin", "AA", true),
    ("x-note-bin", "AA==", true),
    ("x-note-bin", "AAEC,AA", true),
    ("x-note-bin", "AAECA", false),
    ("x-note-bin", "AA=", false),
    ("x-note-bin", "A_-C", false),
    ("x-note!", "a", false),
    ("x-gpu-affinity", "gpu0:high", true),
    ("x-gpu-affinity", "any", true),
    ("x-gpu-affinity", "gpu00", false),
    ("x-gpu-affinity", "gpu0:huge", false),
    ("x-trace-id", "0af76519-16cd", true),
    ("x-trace-id", "0af7651", false),
    (
        "traceparent",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        false,
    ),
    (
        "traceparent",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        false,
    ),
    (
        "traceparent",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        false,
    ),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        false,
    ),
    (
        "traceparent",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        true,
    ),
    ("x-priority", "P2", true),
    ("x-priority", "p2", false),
    ("x-priority", "P3", false),
    ("x-sla", "gold", true),
    ("x-sla", "gold!", false),
    ("x-tenant-id", "team-a", true),
    ("x-tenant-id", "team a", false),
    ("x-session-id", "", false),
    ("x-user-id", "spiffe://mesh.example/ns/a+b=", true),
    ("x-user-id", "a b", false),
    ("x-user-id", "", false),
];

const SIZED: &[(&str, usize, bool)] = &[
    ("x-user-id", 128, true),
    ("x-user-id", 129, false),
    ("x-trace-id", 64, true),
    ("x-trace-id", 65, false),
    ("x-note", 4096, true),
    ("x-note", 4097, false),
];
