//! What a decision costs natively: by stage and outcome under a policy with 100 rules of each kind, and by how many rules
//! there are that do not apply. In wasm the same code costs a small factor more; the host calls around it are measured on
//! Envoy by `cargo xtask bench filter`.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use kilocard_policy::config::{Document, parse};
use kilocard_policy::{Policy, RequestView, Stages, Verdict};
use serde_json::{Value, json};

type Headers<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Rules that one document may hold.
const DOCUMENT_RULES: usize = 4096;

/// Rules of each kind in the policy of the outcomes.
const RULES: usize = 100;

/// How many rules that do not apply there are, along the curves.
const CURVE: [usize; 4] = [10, 100, 1000, 10_000];

const STAGES: [(&str, Stages); 3] = [
    ("validation", Stages::VALIDATION),
    ("routing", Stages::ROUTING),
    ("both", Stages::ALL),
];

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

fn document(kind: &str, name: &str, spec: &Value) -> Document {
    let document = parse(&json!({
        "api_version": "kilocard/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    }));
    document.expect("a document of the bench is valid")
}

fn compile(documents: &[Document]) -> Policy {
    Policy::compile("bench", documents).expect("the documents of the bench contradict nothing")
}

fn routing(model: &str, rules: &[Value]) -> Document {
    let spec = json!({
        "model": model,
        "versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 7.5}, {"version": "v3", "weight": 2.5}],
        "rules": rules,
    });
    document("RoutingPolicy", model, &spec)
}

/// So many validation rules that the match keeps from applying, in as many documents as they need.
fn validation_rules(count: usize, matching: impl Fn(usize) -> Value) -> Vec<Document> {
    let rule = |index| {
        json!({
            "name": format!("rule-{index}"), "match": matching(index), "header": "x-team",
            "required": true, "pattern": "[a-z]+", "length": {"max": 32},
        })
    };
    let rules: Vec<Value> = (0..count).map(rule).collect();
    let chunks = rules.chunks(DOCUMENT_RULES).enumerate();
    chunks
        .map(|(place, rules)| document("ValidationPolicy", &format!("rules-{place}"), &json!({"rules": rules})))
        .collect()
}

/// So many routing rules that do not apply: of the asked model as many as a document may hold, the rest of other models.
fn routing_rules(count: usize, matching: impl Fn(usize) -> Value) -> Vec<Document> {
    let rule = |index| json!({"name": format!("rule-{index}"), "match": matching(index), "versions": [{"version": "v2", "weight": 100}]});
    let rules: Vec<Value> = (0..count).map(rule).collect();
    let names = ["minilm".to_owned()]
        .into_iter()
        .chain((1..).map(|place| format!("model-{place}")));
    let mut chunks = rules.chunks(DOCUMENT_RULES);
    let first = chunks.next().unwrap_or_default();
    names
        .zip([first].into_iter().chain(chunks))
        .map(|(name, rules)| routing(&name, rules))
        .collect()
}

fn outcome(policy: &Policy, stages: Stages, headers: &Headers<'_>) -> &'static str {
    match policy.decide_stages(stages, &RequestView::new(headers), 0).verdict {
        Verdict::Pass => "PASS",
        Verdict::Route(route) => route.reason.label(),
        Verdict::Refuse(refusal) => refusal.reason.label(),
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    (policy, stages): (&Policy, Stages),
    headers: &Headers<'_>,
) {
    let mut random = 1_u64;
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            black_box(policy.decide_stages(stages, &RequestView::new(black_box(headers)), random));
        });
    });
}

/// By stage and outcome. Nine in ten of the 100 rules of each kind are for other models, methods and tenants; every tenth
/// applies: its header is looked for and its conditions are checked.
fn outcomes(criterion: &mut Criterion) {
    let mut documents = validation_rules(RULES, |index| match index % 10 {
        0 => json!({"models": ["minilm"]}),
        1..5 => json!({"models": [format!("model-{index}")]}),
        _ => json!({"methods": [format!("/other.Service{index}/*")]}),
    });
    documents.extend(routing_rules(RULES, |index| match index % 10 {
        0 => json!({"headers": [{"name": "x-team", "one_of": [format!("team-{index}")]}]}),
        1..5 => json!({"tenants": [format!("tenant-{index}")]}),
        _ => json!({"methods": [format!("/other.Service{index}/*")]}),
    }));
    let policy = compile(&documents);
    let user = "spiffe://mesh.example.org/ns/default/sa/ada";
    let cases = [
        (
            "pinned",
            "PINNED",
            request(&[("x-team", "blue"), ("x-model-version", "v2")]),
        ),
        ("sticky", "STICKY", request(&[("x-team", "blue"), ("x-user-id", user)])),
        ("weighted", "WEIGHTED", request(&[("x-team", "blue")])),
        (
            "refused",
            "MALFORMED_USER_ID",
            request(&[("x-team", "blue"), ("x-user-id", "ada'; DROP TABLE users; --")]),
        ),
    ];
    for (name, stages) in STAGES {
        let mut group = criterion.benchmark_group(format!("100 rules/{name}"));
        for (case, expected, headers) in &cases {
            let passes = stages == Stages::VALIDATION && *case != "refused";
            let expected = if passes { "PASS" } else { expected };
            assert_eq!(
                outcome(&policy, stages, headers),
                expected,
                "{name}, {case}: measures something else"
            );
            measure(
                &mut group,
                BenchmarkId::from_parameter(case),
                (&policy, stages),
                headers,
            );
        }
        group.finish();
    }
}

/// The documents that hold so many rules.
type Documents<'f> = &'f dyn Fn(usize) -> Vec<Document>;

/// By the number of rules that do not apply, for what keeps them from applying.
fn curves(criterion: &mut Criterion) {
    let by_model = |index: usize| json!({"models": [format!("model-{index}")]});
    let by_method = |index: usize| json!({"methods": [format!("/other.Service{index}/Method")]});
    let by_tenant = |index: usize| json!({"tenants": [format!("tenant-{index}")]});
    let with_routing = |mut documents: Vec<Document>| {
        documents.push(routing("minilm", &[]));
        documents
    };
    let kinds: [(&str, Documents<'_>); 4] = [
        ("validation by model", &|count| {
            with_routing(validation_rules(count, by_model))
        }),
        ("validation by method", &|count| {
            with_routing(validation_rules(count, by_method))
        }),
        ("routing by tenant", &|count| routing_rules(count, by_tenant)),
        ("routing by method", &|count| routing_rules(count, by_method)),
    ];
    let headers = request(&[("x-user-id", "ada"), ("x-tenant-id", "blue")]);
    for (name, documents) in kinds {
        let mut group = criterion.benchmark_group(format!("rules that do not apply/{name}"));
        for count in CURVE {
            let policy = compile(&documents(count));
            assert_eq!(outcome(&policy, Stages::ALL, &headers), "STICKY", "{name}, {count}");
            measure(
                &mut group,
                BenchmarkId::from_parameter(count),
                (&policy, Stages::ALL),
                &headers,
            );
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    // Sub-microsecond functions need no longer.
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = outcomes, curves
}
criterion_main!(benches);
