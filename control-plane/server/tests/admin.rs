//! The admin API of a running control plane, which serves a folder: its answers against its own description, its metrics
//! against the documented names.

use clap::Parser;
use jsonschema::Validator;
use kilocard_control_plane::config::Args;
use kilocard_control_plane::server;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// A control plane that ends with the test.
struct Served {
    url: String,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn write(folder: &Path, path: &str, value: &Value) {
    let path = folder.join("mesh").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

/// A mesh of one policy, two cards and a worker whose card has had a fatal XID.
fn populate(folder: &Path) {
    let policy = json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "versions": [{"version": "v1", "weight": 100}]}});
    write(folder, "policies/RoutingPolicy/minilm.json", &policy);
    let card = json!({"model": "NVIDIA H100 80GB HBM3", "memory_gb": 80, "zone": "z1", "simulated": true});
    write(folder, "devices/gpu/gpu-a/0000:01:00.0.json", &card);
    write(folder, "devices/gpu/gpu-a/0000:02:00.0.json", &card);
    let worker = json!({"id": "w1", "address": "127.0.0.1:9", "node": "gpu-a", "device": "0000:01:00.0",
        "models": [{"model": "minilm", "version": "v1"}],
        "telemetry": {"simulated": true, "memory_total_bytes": 1000, "memory_free_bytes": 100, "sequence": 1,
            "gpu": {"temperature_c": 70.0, "xids": [{"code": 79, "at_ms": 1}]}}});
    write(folder, "workers/w1.json", &worker);
}

async fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    populate(folder.path());
    std::fs::write(at("filter.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let args = Args::try_parse_from([
        "kilocard-control-plane",
        "--source-dir",
        &at("mesh"),
        "--filter-wasm",
        &at("filter.wasm"),
        "--endpoints-file",
        &at("endpoints.json"),
        "--state-dir",
        "",
        "--xds-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ])
    .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(args.check().unwrap(), stop.clone()));
    let endpoints =
        within(async || serde_json::from_slice::<Value>(&std::fs::read(at("endpoints.json")).ok()?).ok()).await;
    let url = format!("http://{}", endpoints["admin"].as_str().unwrap());
    within(async || reqwest::get(format!("{url}/ready")).await.ok()?.error_for_status().ok()).await;
    Served {
        url,
        stop,
        _folder: folder,
    }
}

/// Asks until there is an answer.
async fn within<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking)
        .await
        .expect("no answer within the deadline")
}

/// What the description says of an answer's body.
fn validator(description: &Value, path: &str, method: &str, status: &str) -> Validator {
    let answer = &description["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"];
    assert!(answer.is_object(), "{method} {path} {status} is not described");
    let schema = json!({"allOf": [answer], "components": description["components"]});
    jsonschema::validator_for(&schema).unwrap()
}

async fn get(served: &Served, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{}{path}", served.url)).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn what_the_control_plane_answers_is_what_it_describes() {
    let served = serve().await;
    let (_, description) = get(&served, "/openapi.json").await;
    for path in ["/status", "/devices"] {
        let (status, body) = get(&served, path).await;
        assert_eq!(status, 200, "{body}");
        let errors: Vec<String> = validator(&description, path, "get", "200")
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{path}: {errors:?}\n{body:#}");
    }
    let (_, devices) = get(&served, "/devices").await;
    let health: Vec<&str> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|d| d["health"].as_str())
        .collect();
    // Ill, and the only one of its pool: it cannot be spared.
    assert_eq!(health, ["held", "idle"], "{devices:#}");
    // The validator is no rubber stamp.
    let (_, mut status) = get(&served, "/status").await;
    status["clusters"][0]["endpoints"][0]["weight"] = json!("heavy");
    assert!(!validator(&description, "/status", "get", "200").is_valid(&status));
}

#[tokio::test]
async fn errors_have_a_code_and_say_what_to_do() {
    let served = serve().await;
    let (status, body) = get(&served, "/nope").await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("not_found")));
    assert!(
        body["error"]["message"].as_str().unwrap().contains("/openapi.json"),
        "{body}"
    );
    let answer = reqwest::Client::new()
        .post(format!("{}/status", served.url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "wrong_method");
}

/// A metric: its name and its kind.
type Metric = (String, String);

/// The tables of docs/metrics.md, each metric with whether it has labels: one that has is served from its first count on.
fn documented() -> BTreeMap<Metric, bool> {
    let text = include_str!("../../../docs/metrics.md");
    let (own, rest) = text
        .split_once("\n## The pools")
        .expect("the table is followed by that of the pools");
    let (pools, _) = rest.split_once("\n## ").expect("the tables are followed by a section");
    [("kilocard_control_plane", own), ("kilocard_pool", pools)]
        .into_iter()
        .flat_map(|(prefix, table)| {
            let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
            rows.map(move |row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let name = cells[0].trim_end_matches('`');
                let metric = (format!("{prefix}_{name}"), cells[1].to_owned());
                (metric, !cells[2].is_empty())
            })
        })
        .collect()
}

#[tokio::test]
async fn the_metrics_are_those_that_the_documentation_names() {
    let served = serve().await;
    let text = reqwest::get(format!("{}/metrics", served.url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let kinds = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeSet<Metric> = kinds
        .map(|(name, kind)| {
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        })
        .collect();
    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    let missing: Vec<&Metric> = served
        .iter()
        .filter(|metric| !documented.contains_key(*metric))
        .collect();
    let gone = documented
        .iter()
        .filter(|(metric, has_labels)| !**has_labels && !served.contains(*metric));
    let gone: Vec<&Metric> = gone.map(|(metric, _)| metric).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in docs/metrics.md: {missing:?}; only there: {gone:?}"
    );
}
