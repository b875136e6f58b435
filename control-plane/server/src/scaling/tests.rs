use super::*;
use crate::snapshot::tests::{policies, worker};
use kilocard_registry::telemetry::{EngineLoad, ServingHealth};
use kilocard_registry::worker::Telemetry;
use kilocard_scaling::Reason;
use serde_json::{Value, json};

mod keda;

fn served(version: &str) -> ServedModel {
    ServedModel {
        model: "llama".to_owned(),
        version: version.to_owned(),
    }
}

fn document(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn scale(name: &str, changes: &Value) -> Value {
    let mut spec = json!({"model": "llama", "max_replicas": 40, "targets": {"qps_per_replica": 50}});
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    document("ScalePolicy", name, &spec)
}

fn routing(versions: &Value) -> Value {
    document(
        "RoutingPolicy",
        "llama",
        &json!({"model": "llama", "versions": versions}),
    )
}

/// A report with so many requests per second and so much memory in use.
fn report(qps: f64, memory_percent: u64) -> Telemetry {
    Telemetry {
        memory_total_bytes: 100,
        memory_free_bytes: 100 - memory_percent,
        sequence: 1,
        refresh_ms: Some(1000),
        health: Some(ServingHealth::Serving),
        engine: EngineLoad {
            requests_per_second: Some(qps),
            queue: Some(1.0),
            ..EngineLoad::default()
        },
        ..Telemetry::default()
    }
}

/// A mesh of workers of `llama`, each with its version and report, and these policies.
fn mesh(workers: &[(&str, &Telemetry)], documents: &[Value]) -> Mesh {
    let workers = workers.iter().zip(8001..).map(|((version, telemetry), port)| {
        let (id, mut worker) = worker(&format!("w-{port}"), port, &[("llama", version)], None);
        Arc::make_mut(&mut worker).telemetry = Some((*telemetry).clone());
        (id, worker)
    });
    Mesh {
        workers: Arc::new(workers.collect()),
        policies: policies(documents),
        ..Mesh::default()
    }
}

/// The pools of a mesh, `later` after its reports came.
fn pools(mesh: &Mesh, later: Duration) -> Pools {
    let (mut weights, begun) = (Weights::default(), Instant::now());
    weights.follow(mesh, begun);
    weights.follow(mesh, begun + later);
    Scaling::default().decide(mesh, &weights, begun + later)
}

#[test]
fn a_pool_is_what_its_workers_report() {
    let workers = [
        ("v1", &report(80.0, 50)),
        ("v1", &report(90.0, 70)),
        ("v2", &report(5.0, 10)),
    ];
    let pools = pools(&mesh(&workers, &[scale("s", &json!({}))]), Duration::ZERO);
    let v1 = &pools[&served("v1")];
    assert_eq!((v1.ready(), v1.qps(), v1.queue()), (2, Some(170.0), Some(2.0)));
    assert_eq!((v1.memory_percent(), v1.memory_max_percent()), (Some(60.0), Some(70.0)));
    assert_eq!((v1.desired(), pools[&served("v2")].desired()), (Some(4), Some(1)));
    assert!(!v1.is_simulated);
}

#[test]
fn a_drained_worker_and_an_old_report_do_not_count() {
    let (busy, mut ill) = (report(80.0, 50), report(500.0, 50));
    ill.health = Some(ServingHealth::NotServing);
    let workers = [("v1", &busy), ("v1", &busy), ("v1", &busy), ("v1", &ill)];
    let mesh = mesh(&workers, &[scale("s", &json!({}))]);
    let fresh = &pools(&mesh, Duration::ZERO)[&served("v1")];
    assert_eq!((fresh.samples.len(), fresh.ready(), fresh.qps()), (4, 3, Some(240.0)));
    assert_eq!(fresh.desired(), Some(5));
    let old = &pools(&mesh, Duration::from_secs(10))[&served("v1")];
    assert_eq!((old.ready(), old.qps()), (3, None));
    let decision = &old.plan.as_ref().unwrap().decision;
    assert_eq!((decision.replicas, decision.reason), (4, Reason::Unmeasured));
}

#[test]
fn the_policy_of_a_version_goes_before_that_of_all_versions() {
    let documents = [
        scale("all", &json!({"min_replicas": 2})),
        scale("own", &json!({"version": "v2", "min_replicas": 3})),
    ];
    let idle = report(0.0, 0);
    let pools = pools(&mesh(&[("v1", &idle), ("v2", &idle)], &documents), Duration::ZERO);
    let plan = |version: &str| {
        let plan = pools[&served(version)].plan.as_ref().unwrap();
        (plan.policy.as_str(), plan.decision.replicas)
    };
    assert_eq!((plan("v1"), plan("v2")), (("all", 2), ("own", 3)));
}

#[test]
fn without_a_policy_a_pool_is_only_measured() {
    let pools = pools(&mesh(&[("v1", &report(80.0, 50))], &[]), Duration::ZERO);
    let pool = &pools[&served("v1")];
    assert_eq!((pool.qps(), pool.desired()), (Some(80.0), None));
    assert_eq!(pool.report(&served("v1")).reason, None);
}

#[test]
fn routing_brings_the_first_replica_and_without_it_there_may_be_none() {
    let versions = json!([
        {"version": "v1", "weight": 90, "fallback": ["v4"]}, {"version": "v2", "weight": 10}, {"version": "v3", "weight": 0},
        {"version": "v4", "weight": 0},
    ]);
    let documents = [routing(&versions), scale("s", &json!({"min_replicas": 0}))];
    let pools = pools(&mesh(&[], &documents), Duration::ZERO);
    let desired: Vec<_> = pools
        .iter()
        .map(|(served, pool)| (served.version.as_str(), pool.desired()))
        .collect();
    assert_eq!(
        desired,
        [("v1", Some(1)), ("v2", Some(1)), ("v3", Some(0)), ("v4", Some(1))],
        "v3 is served by pin only"
    );
}

#[test]
fn a_first_version_a_rule_and_a_shadow_are_wanted_too() {
    let routing = document(
        "RoutingPolicy",
        "llama",
        &json!({
            "model": "llama", "shadow": {"version": "v3", "percent": 5, "max_per_second": 10},
            "versions": [
                {"version": "v1", "weight": 0}, {"version": "v2", "weight": 100, "fallback": []},
                {"version": "v3", "weight": 0}, {"version": "v4", "weight": 0}, {"version": "v5", "weight": 0},
            ],
            "rules": [{"name": "r", "match": {"tenants": ["t"]}, "versions": [
                {"version": "v4", "weight": 100}, {"version": "v5", "weight": 0},
            ]}],
        }),
    );
    let policies = policies(&[routing]);
    let spec = policies.values().next().unwrap().document.spec();
    let Spec::Routing(routing) = spec else {
        panic!("{spec:?}")
    };
    assert_eq!(wanted(routing), BTreeSet::from(["v1", "v2", "v3", "v4"]));
}

#[test]
fn what_was_decided_is_kept_while_a_pool_is_known() {
    let (busy, idle) = (report(200.0, 0), report(0.0, 0));
    let documents = [scale("s", &json!({}))];
    let (mut scaling, mut weights, now) = (Scaling::default(), Weights::default(), Instant::now());
    let mut desired = |workers: &[(&str, &Telemetry)], seconds: u64| {
        let (mesh, now) = (mesh(workers, &documents), now + Duration::from_secs(seconds));
        weights.follow(&mesh, now);
        let pools = scaling.decide(&mesh, &weights, now);
        pools.get(&served("v1")).and_then(Pool::desired)
    };
    assert_eq!(desired(&[("v1", &busy)], 0), Some(4));
    assert_eq!(
        desired(&[("v1", &idle)], 1),
        Some(4),
        "fewer not before the window is over"
    );
    assert_eq!(desired(&[], 2), None, "nobody knows it");
    assert_eq!(desired(&[("v1", &idle)], 3), Some(1), "and then it begins anew");
}

#[tokio::test]
async fn nothing_is_decided_before_the_first_mesh_and_it_ends_when_told() {
    let (meshes, mesh_now) = watch::channel(None);
    let (pools, mut decided) = watch::channel(None);
    let (weights, cancel) = (SharedWeights::default(), CancellationToken::new());
    let task = tokio::spawn(run(mesh_now, weights.clone(), pools, cancel.clone()));
    let mesh = mesh(&[("v1", &report(80.0, 50))], &[scale("s", &json!({}))]);
    weights.lock().follow(&mesh, Instant::now());
    assert!(decided.borrow().is_none());
    meshes.send_replace(Some(Arc::new(mesh)));
    decided.changed().await.unwrap();
    let first = decided.borrow_and_update().clone().unwrap();
    assert_eq!(first[&served("v1")].desired(), Some(2));
    cancel.cancel();
    task.await.unwrap();
}
