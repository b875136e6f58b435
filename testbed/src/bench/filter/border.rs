//! Where the variants must draw the same lines: what passes, what is refused, where it goes and what is stripped.
//!
//! A variant that checks less would be cheaper; measuring begins once all of them agree.

use super::generator::{HEADERS, PASSED};
use super::proxy::Proxy;
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
pub(super) const STRAY_FORMAT: &str = "%REQ(x-kilocard-stray)%%REQ(x-envoy-max-retries)%";

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
        let method = if field == ":path" { value.as_str() } else { METHOD };
        if field != ":path" {
            headers.push((field, value.as_bytes()));
        }
        expect(proxy, method, &headers, allowed, &format!("{field} {value:?}")).await?;
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
const TWICE: [(&str, &str, &str); 3] = [
    ("x-model", "minilm", "minilm"),
    ("x-user-id", "ada", "bob"),
    ("x-model-version", "v1", "v2"),
];

/// Values on both sides of the lines that `kilocard_policy` draws, and whether they pass. Of `:path` it is the method.
fn values() -> impl Iterator<Item = (&'static str, String, bool)> {
    let fixed = FIXED
        .iter()
        .map(|(field, value, allowed)| (*field, (*value).to_owned(), *allowed));
    let sized = SIZED
        .iter()
        .map(|(field, bytes, allowed)| (*field, "a".repeat(*bytes), *allowed));
    fixed.chain(sized)
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
    ("x-canary-weight", "100", true),
    ("x-canary-weight", "101", false),
    ("x-canary-weight", "0x10", false),
    ("x-model", "a b", false),
    ("x-model", "absent", false),
    ("x-model-version", "v2", true),
    ("x-model-version", "", false),
    ("x-note", "a\tb", false),
    ("x-user-id", "spiffe://mesh.example/ns/a+b=", true),
    ("x-user-id", "a b", false),
    ("x-user-id", "", false),
];

const SIZED: &[(&str, usize, bool)] = &[
    ("x-user-id", 128, true),
    ("x-user-id", 129, false),
    ("x-note", 4096, true),
    ("x-note", 4097, false),
];
