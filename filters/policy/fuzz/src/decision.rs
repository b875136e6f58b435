//! The whole decision: documents, the state of the mesh, a caller and headers.

use std::borrow::Cow;
use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use kilocard_policy::config::{self, MeshState};
use kilocard_policy::{Policy, RequestView, Route, RouteReason, Stages, Verdict};

use super::mutation::rarely;
use super::peer::Somebody;
use super::policy::check_violations;
use super::request::stock;
use super::{laws, mutation, pool};

const MOST_REQUESTS: usize = 4;
/// Of one request's headers: as many as Envoy lets through.
const MOST_BYTES: usize = 192 * 1024;

type Header = (&'static [u8], Vec<u8>);

const NAMES: &[&str] = &[
    "x-model",
    "x-model-version",
    "x-canary-weight",
    "x-user-id",
    "x-tenant-id",
    "x-session-id",
    "x-gpu-affinity",
    "x-gpu-class",
    "x-trace-id",
    "traceparent",
    "x-request-id",
    "x-priority",
    "x-sla",
    "x-team",
    "x-note",
    "x-debug",
    "x-beta",
    "x-kilocard-route",
    "x-kilocard-gpu",
    "x-envoy-max-retries",
    "content-length",
    "content-type",
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-status",
    "trace-bin",
    "authorization",
    "cookie",
    ":method",
    ":path",
    ":authority",
    ":status",
    "x-any",
    "X-Upper",
    "",
];

/// Routes of the pool's models, sorted.
const ROUTES: &[&str] = &[
    "bert/2024-05",
    "bert/2024-06.rc_1",
    "minilm/v1",
    "minilm/v2",
    "minilm/v3",
];

const VALUES: &[&str] = &[
    "minilm",
    "bert",
    "v1",
    "v2",
    "v3",
    "V2",
    "2024-05",
    "2024-06.rc_1",
    "0",
    "50",
    "100",
    "101",
    "ada",
    "acme",
    "gold",
    "silver",
    "gpu0",
    "gpu0:high",
    "any:medium",
    "gpu99999",
    "hopper-nvlink",
    "ampere",
    "at-least-16gb",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "4bf92f3577b34da6",
    "P0",
    "P3",
    "red",
    "abc",
    "1000000",
    "250m",
    "999999999S",
    "gzip",
    "gzip,identity",
    "AAEC",
    "AAE=",
    "trailers",
    "application/grpc",
    "application/grpc+proto",
    "application/grpc-web+proto",
    "application/json",
    "GET",
    "POST",
    "/kilocard.inference.v1.Inference/Generate",
    "/kilocard.inference.v1.Inference/Forbidden",
    "/inference.GRPCInferenceService/ModelInfer",
    "/",
    "/healthz?x=1",
    "",
    "' OR 1=1 --",
    "../../etc/passwd",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "a\r\nb",
    "\0",
    "é",
];

/// Around the limits of values, names and identifiers; few long ones, which cost much time.
const LENGTHS: &[usize] = &[
    1, 8, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 1024, 4096, 4097, 33_000, 70_000,
];

/// Every byte string is a mesh and a request in it; what the bytes do not say is zero.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Bytes that run out end the description early; what has been described by then is tried all the same.
    let _ = describe(&mut u);
}

fn describe(u: &mut Unstructured<'_>) -> Result<()> {
    let (policy, state) = policy(u)?;
    for _ in 0..u.int_in_range(1..=MOST_REQUESTS)? {
        let headers = headers(u)?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        check(&policy, &headers, &somebody(u)?, u.arbitrary()?, &state);
    }
    Ok(())
}

fn check(policy: &Policy, headers: &[(&[u8], &[u8])], peer: &Somebody, random: u64, state: &MeshState) {
    let view = RequestView::new(headers).from_peer(peer);
    let decision = laws::decide(policy, Stages::ALL, &view, random);
    laws::decide(policy, Stages::VALIDATION, &view, random);
    let alone = laws::decide(policy, Stages::ROUTING, &view, random);
    if let Verdict::Route(route) = decision.verdict {
        check_route(&route, headers, state);
        assert_eq!(alone.verdict, Verdict::Route(route), "routing alone goes elsewhere");
    }
    // The order of headers says nothing; but of a trace id that is given twice, which routing alone does not refuse, the
    // first is told to the worker. Two paths no HTTP codec lets through.
    if headers.iter().filter(|(name, _)| *name == b":path").count() > 1 {
        return;
    }
    let backwards: Vec<_> = headers.iter().rev().copied().collect();
    let view = RequestView::new(&backwards).from_peer(peer);
    let backwards = laws::decide(policy, Stages::ROUTING, &view, random);
    if let (Verdict::Route(some), Verdict::Route(other)) = (alone.verdict, &backwards.verdict) {
        let tag = other.tag.clone();
        assert_eq!(*other, Route { tag, ..some }, "another order, another route");
    }
}

/// It is the route that was asked for, to a version that can take it.
fn check_route(route: &Route<'_>, headers: &[(&[u8], &[u8])], state: &MeshState) {
    let asked = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| *name == wanted.as_bytes())
            .map(|(_, value)| *value)
    };
    assert!(
        asked("x-model").is_none_or(|model| model == route.model.as_bytes()),
        "{route:?}"
    );
    if let Some(pin) = asked("x-model-version") {
        assert_eq!(route.reason, RouteReason::Pinned);
        assert_eq!(route.instead_of.unwrap_or(route.version).as_bytes(), pin, "{route:?}");
    }
    let is_in = |keys: &[String], key: &str| keys.iter().any(|one| one == key);
    assert!(!is_in(&state.unready, route.route_key), "{route:?}");
    if let Some(wanted) = route.instead_of {
        assert!(is_in(&state.unready, &format!("{}/{wanted}", route.model)), "{route:?}");
    }
    if let Some(shadow) = route.shadow {
        assert!(
            !is_in(&state.unready, shadow.route_key) && !is_in(&state.saturated, shadow.route_key),
            "{route:?}"
        );
    }
}

/// Of the pool's documents, some changed, in some state of the mesh. A change that is refused is taken back, so that a
/// decision always follows.
fn policy(u: &mut Unstructured<'_>) -> Result<(Cow<'static, Policy>, MeshState)> {
    let fallback = || Ok((Cow::Borrowed(pool::rich()), MeshState::default()));
    if u.arbitrary()? {
        return fallback();
    }
    let mut documents = Vec::new();
    for (original, parsed) in pool::documents().iter().zip(pool::parsed()) {
        match u.int_in_range(0..=3)? {
            0 => continue,
            1 => match config::parse(&mutation::document(original, u)?) {
                Ok(document) => documents.push(document),
                Err(violations) => {
                    check_violations(&violations);
                    documents.push(parsed.clone());
                }
            },
            _ => documents.push(parsed.clone()),
        }
    }
    let state = MeshState {
        unready: some_routes(u)?,
        saturated: some_routes(u)?,
    };
    match Policy::compile_in(&state, "fuzz-1", &documents) {
        Ok(policy) => Ok((Cow::Owned(policy), state)),
        Err(violations) => {
            check_violations(&violations);
            fallback()
        }
    }
}

fn some_routes(u: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let mut routes = Vec::new();
    for route in ROUTES {
        if u.arbitrary()? {
            routes.push((*route).to_owned());
        }
    }
    Ok(routes)
}

fn somebody(u: &mut Unstructured<'_>) -> Result<Somebody> {
    let addresses = [
        None,
        Some(IpAddr::from([10, 1, 2, 3])),
        Some(IpAddr::from(u.arbitrary::<u128>()?.to_be_bytes())),
    ];
    let mut uris = Vec::new();
    for _ in 0..u.int_in_range(0..=2)? {
        uris.push(match u.int_in_range(0..=3)? {
            0 => "spiffe://mesh.example/ns/ops/sa/ada".to_owned(),
            1 => "spiffe://mesh.example/ns/ops/sa/eve".to_owned(),
            2 => "spiffe://mesh.example/ns/ops/../ops".to_owned(),
            _ => u.arbitrary()?,
        });
    }
    Ok(Somebody {
        address: *u.choose(&addresses)?,
        uris,
    })
}

fn headers(u: &mut Unstructured<'_>) -> Result<Vec<Header>> {
    let mut given: Vec<Header> = Vec::new();
    let mut left = MOST_BYTES;
    for _ in 0..u.int_in_range(0..=24)? {
        let name = u.choose(NAMES)?.as_bytes();
        let value = value(u)?;
        let times = if rarely(u, 32)? { u.int_in_range(1..=600)? } else { 1 };
        for _ in 0..times {
            left = left.saturating_sub(name.len() + value.len());
            if left > 0 {
                given.push((name, value.clone()));
            }
        }
    }
    if rarely(u, 8)? {
        return Ok(given);
    }
    let mut all = stock(|name| given.iter().any(|(given, _)| *given == name));
    all.append(&mut given);
    Ok(all)
}

fn value(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=15)? {
        0 => vec![u.arbitrary()?; *u.choose(LENGTHS)?],
        1 | 2 => u.arbitrary::<&[u8]>()?.to_vec(),
        3 => format!("{}", u.arbitrary::<u32>()?).into_bytes(),
        _ => u.choose(VALUES)?.as_bytes().to_vec(),
    })
}
