//! What the tests of several modules share.

use serde_json::{Value, json};

use crate::config::{Document, parse};
use crate::{Decision, GrpcStatus, Policy, RefusalReason, RequestView, Route, Stages, Verdict};

/// A RoutingPolicy named like its model.
pub(crate) fn routing(model: &str, versions: &[(&str, f64)]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .map(|(version, weight)| json!({"version": version, "weight": weight}))
        .collect();
    json!({
        "api_version": "kilocard/v1",
        "kind": "RoutingPolicy",
        "metadata": {"name": model},
        "spec": {"model": model, "versions": versions},
    })
}

/// The same, for requests without `x-model` too.
pub(crate) fn default_routing(model: &str, versions: &[(&str, f64)]) -> Value {
    let mut document = routing(model, versions);
    document["spec"]["default"] = json!(true);
    document
}

pub(crate) fn document(json: &Value) -> Document {
    parse(json).unwrap()
}

pub(crate) fn policy(documents: &[Value]) -> Policy {
    let documents: Vec<_> = documents.iter().map(document).collect();
    Policy::compile("test-1", &documents).unwrap()
}

/// A gRPC request as a stock client sends it, with some headers more.
pub(crate) fn request<'a>(more: &[(&'a str, &'a [u8])]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut headers: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b":authority", b"mesh.example.org"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"grpc-rust/0.14"),
    ];
    for (name, value) in more {
        headers.push((name.as_bytes(), value));
    }
    headers
}

pub(crate) fn decide<'p>(policy: &'p Policy, more: &[(&str, &[u8])], random: u64) -> Decision<'p> {
    policy.decide(&RequestView::new(&request(more)), random)
}

pub(crate) fn routed<'p>(policy: &'p Policy, more: &[(&str, &[u8])], random: u64) -> Route<'p> {
    match decide(policy, more, random).verdict {
        Verdict::Route(route) => route,
        other => panic!("expected a route, got {other:?}"),
    }
}

/// What a refusal tells the client, free of the policy that it came from.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: GrpcStatus,
    pub(crate) reason: RefusalReason,
    pub(crate) field: String,
    pub(crate) message: String,
}

pub(crate) fn refused(policy: &Policy, more: &[(&str, &[u8])]) -> Refused {
    refused_headers(policy, &request(more), Stages::ALL)
}

pub(crate) fn refused_headers(policy: &Policy, headers: &[(&[u8], &[u8])], stages: Stages) -> Refused {
    match policy.decide_stages(stages, &RequestView::new(headers), 0).verdict {
        Verdict::Refuse(refusal) => Refused {
            status: refusal.status,
            reason: refusal.reason,
            field: refusal.field,
            message: refusal.message,
        },
        other => panic!("expected a refusal, got {other:?}"),
    }
}
