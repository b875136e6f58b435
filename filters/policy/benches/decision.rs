//! What a decision costs natively, by outcome. In wasm the same code costs a small factor more; the host calls around it
//! are measured on Envoy by `cargo xtask bench filter`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kilocard_policy::config::parse;
use kilocard_policy::{Policy, RequestView, Verdict};
use serde_json::json;

type Headers<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Fifteen headers, as a stock client's call has when it arrives at the filter.
fn request<'a>(more: &[(&'a str, &'a str)]) -> Headers<'a> {
    let stock = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/inference.GRPCInferenceService/ModelInfer"),
        (":authority", "mesh.example.org:8443"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "grpc-python/1.71.0 grpc-c/46.0.0 (linux; chttp2)"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("grpc-timeout", "2000m"),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "5b1c6c5e-9c66-4f41-9a3b-3f6f7a1d2c4e"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-model", "minilm"),
    ];
    stock
        .iter()
        .chain(more)
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect()
}

fn policy() -> Policy {
    let document = parse(&json!({
        "api_version": "kilocard/v1",
        "kind": "RoutingPolicy",
        "metadata": {"name": "minilm"},
        "spec": {
            "model": "minilm",
            "versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 7.5}, {"version": "v3", "weight": 2.5}],
        },
    }));
    let document = document.expect("the document of the bench is valid");
    Policy::compile("bench", [&document]).expect("one document contradicts none")
}

fn decisions(criterion: &mut Criterion) {
    let policy = policy();
    let cases = [
        ("pinned", "PINNED", request(&[("x-model-version", "v2")])),
        (
            "sticky",
            "STICKY",
            request(&[("x-user-id", "spiffe://mesh.example.org/ns/default/sa/ada")]),
        ),
        ("weighted", "WEIGHTED", request(&[("x-tenant", "blue")])),
        (
            "refused",
            "MALFORMED_USER_ID",
            request(&[("x-user-id", "ada'; DROP TABLE users; --")]),
        ),
    ];
    let mut group = criterion.benchmark_group("decision");
    for (name, expected, headers) in cases {
        let seen = match policy.decide(&RequestView::new(&headers), 0).verdict {
            Verdict::Pass => "",
            Verdict::Route(route) => route.reason.label(),
            Verdict::Refuse(refusal) => refusal.reason.label(),
        };
        assert_eq!(seen, expected, "the case measures something else");
        let mut random = 1_u64;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                black_box(policy.decide(&RequestView::new(black_box(&headers)), random));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
