//! `envoy/kubernetes/`: what the manifests name is what the control plane serves. That a ScaledObject fits its schema is
//! checked with the other resources of Kubernetes.

use super::example::text;
use super::schema;
use anyhow::{Context, Result, ensure};
use kilocard_policy::config::{is_name, is_version};
use kilocard_testbed::install::Install;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

pub(crate) const KEDA: &str = "kubernetes/keda-scaledobject.yaml";
const ADAPTER: &str = "kubernetes/prometheus-adapter.yaml";
const HPA: &str = "kubernetes/hpa.yaml";
const OWN_DECISION: &str = "kubernetes/hpa-qps-and-memory.yaml";

fn only(example: &str) -> Result<Value> {
    let mut all = schema::documents(&text(example)?)?;
    ensure!(all.len() == 1, "{example} has {} documents", all.len());
    all.pop().context("one")
}

/// A page of the documentation.
fn page(name: &str) -> Result<String> {
    let path = Install::locate()?.root.join("docs").join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word<'v>(value: &'v Value, pointer: &str) -> Result<&'v str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no text at {pointer} of {value}"))
}

/// What comes on top of the decision is switched off: windows upwards, tolerance, and a pace that no policy exceeds.
fn ensure_it_does_as_told(behavior: &Value) -> Result<()> {
    for direction in ["scaleUp", "scaleDown"] {
        ensure!(behavior[direction]["tolerance"] == 0, "{behavior}");
    }
    ensure!(behavior["scaleUp"]["stabilizationWindowSeconds"] == 0, "{behavior}");
    let paces = list(&behavior["scaleUp"]["policies"]).iter();
    let paces: BTreeSet<String> = paces
        .map(|pace| format!("{} {}", pace["type"], pace["value"]))
        .collect();
    // The most that a ScalePolicy may say.
    let most = BTreeSet::from(["\"Percent\" 1000".to_owned(), "\"Pods\" 10000".to_owned()]);
    ensure!(
        paces == most && behavior["scaleUp"]["selectPolicy"] == "Max",
        "{behavior}"
    );
    let down = list(&behavior["scaleDown"]["policies"]);
    ensure!(
        down == [json!({"type": "Percent", "value": 100, "periodSeconds": 15})],
        "{behavior}"
    );
    Ok(())
}

#[test]
fn keda_is_pointed_at_a_pool_and_adds_nothing_to_the_decision() -> Result<()> {
    let object = only(KEDA)?;
    ensure!(
        object["kind"] == "ScaledObject" && object["apiVersion"] == "keda.sh/v1alpha1",
        "{object}"
    );
    let trigger = &object["spec"]["triggers"][0];
    ensure!(
        trigger["type"] == "external-push" && trigger["metricType"] == "AverageValue",
        "{trigger}"
    );
    ensure!(
        is_name(word(trigger, "/metadata/model")?) && is_version(word(trigger, "/metadata/version")?),
        "{trigger}"
    );
    let address = word(trigger, "/metadata/scalerAddress")?;
    ensure!(
        address.ends_with(":18000"),
        "{address} is not the default port of --xds-listen"
    );
    ensure_it_does_as_told(&object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"])
}

#[test]
fn a_horizontal_pod_autoscaler_reads_the_number_itself() -> Result<()> {
    let autoscaler = only(HPA)?;
    ensure!(autoscaler["apiVersion"] == "autoscaling/v2", "{autoscaler}");
    let [metric] = list(&autoscaler["spec"]["metrics"]) else {
        anyhow::bail!("{autoscaler}");
    };
    ensure!(
        word(metric, "/external/metric/name")? == "kilocard_pool_desired_replicas",
        "{metric}"
    );
    let target = json!({"type": "AverageValue", "averageValue": "1"});
    ensure!(metric["external"]["target"] == target, "{metric}");
    ensure_it_does_as_told(&autoscaler["spec"]["behavior"])
}

/// A sum is divided by the number of replicas, a mean is not.
#[test]
fn an_autoscaler_that_decides_by_itself_has_the_targets_of_the_documentation() -> Result<()> {
    let autoscaler = only(OWN_DECISION)?;
    let metrics = list(&autoscaler["spec"]["metrics"]).iter();
    let targets: Vec<_> = metrics
        .map(|metric| (&metric["external"]["metric"]["name"], &metric["external"]["target"]))
        .collect();
    let expected = [
        (
            json!("kilocard_pool_qps"),
            json!({"type": "AverageValue", "averageValue": "50"}),
        ),
        (
            json!("kilocard_pool_gpu_memory_used_percent"),
            json!({"type": "Value", "value": "85"}),
        ),
    ];
    ensure!(
        targets == expected.iter().map(|(name, target)| (name, target)).collect::<Vec<_>>(),
        "{targets:?}"
    );
    ensure!(page("policies.md")?.contains("targets: {qps_per_replica: 50, memory_percent: 85}"));
    Ok(())
}

#[test]
fn the_adapter_has_a_rule_for_each_metric_that_is_read_and_each_is_served() -> Result<()> {
    let adapter = only(ADAPTER)?;
    let rules = list(&adapter["rules"]["external"]);
    let documented = page("metrics.md")?;
    let (_, pools) = documented.split_once("\n## The pools").context("a section on pools")?;
    let mut ruled = BTreeSet::new();
    for rule in rules {
        let series = word(rule, "/seriesQuery")?;
        let (name, labels) = series
            .strip_prefix("{__name__=\"")
            .and_then(|rest| rest.split_once('"'))
            .with_context(|| format!("{series} names no series"))?;
        ensure!(labels == ",model!=\"\",version!=\"\"}", "{series}");
        let row = format!(
            "| `{}` | gauge | `model`, `version` |",
            name.trim_start_matches("kilocard_pool_")
        );
        ensure!(pools.contains(&row), "{name} is not in docs/metrics.md");
        ensure!(rule["resources"] == json!({"namespaced": false}), "{rule}");
        ensure!(
            word(rule, "/metricsQuery")?.starts_with("max by (model, version) (<<.Series>>{<<.LabelMatchers>>}"),
            "{rule}"
        );
        ruled.insert(name.to_owned());
    }
    let mut read = BTreeSet::new();
    for example in [HPA, OWN_DECISION] {
        let autoscaler = only(example)?;
        for metric in list(&autoscaler["spec"]["metrics"]) {
            let labels = json!({"model": "minilm", "version": "v1"});
            ensure!(
                metric["external"]["metric"]["selector"]["matchLabels"] == labels,
                "{metric}"
            );
            read.insert(word(metric, "/external/metric/name")?.to_owned());
        }
    }
    ensure!(ruled == read, "there are rules for {ruled:?}, and {read:?} are read");
    Ok(())
}
