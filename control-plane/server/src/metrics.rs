//! What the control plane counts, for Prometheus, at `/metrics`. All names begin with `kilocard_control_plane_`, but for those
//! of the pools ([`pools`]), which are of the mesh and not of the control plane: `kilocard_pool_`. What each means stands in `docs/metrics.md`, which a test holds against what is served.

use crate::ads::{Nodes, TypeCounters};
use crate::model::Mesh;
use crate::scaling::Pools;
use crate::source::Health;
use kilocard_registry::policy_status::PolicyState;
use kilocard_weights::Standing;
use kilocard_weights::fault::Code;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

mod quota;

pub use quota::QuotaMetrics;
mod pools;
mod rls;

pub use rls::RlsMetrics;

/// Label set of a metric by one word.
type ByWord = [(&'static str, &'static str); 1];
/// Counters by the last part of a type URL.
type ByType = Family<ByWord, Counter>;
/// Gauges by the last part of a type URL.
type GaugeByType = Family<ByWord, Gauge>;

/// The counters; clones share the values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Time to build a snapshot.
    pub rebuild_seconds: Histogram,
    /// Snapshots that differed from the one before.
    pub pushes: Counter,
    policies: Family<ByWord, Gauge>,
    workers: Gauge,
    endpoints: Family<ByWord, Gauge>,
    faults: Family<ByWord, Gauge>,
    spillovers: Gauge,
    spillover_percent: Gauge,
    rejected_records: Gauge,
    /// How limits of the mesh are divided.
    pub quota: QuotaMetrics,
    /// Requests of Envoy's own rate-limit filter.
    pub rls: RlsMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            rebuild_seconds: Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0]),
            pushes: Counter::default(),
            policies: Family::default(),
            workers: Gauge::default(),
            endpoints: Family::default(),
            faults: Family::default(),
            spillovers: Gauge::default(),
            spillover_percent: Gauge::default(),
            rejected_records: Gauge::default(),
            quota: QuotaMetrics::default(),
            rls: RlsMetrics::default(),
        }
    }
}

impl Metrics {
    /// Takes down which endpoints take requests, and why others do not.
    pub fn judge(&self, standings: impl Iterator<Item = Standing>) {
        let mut by_standing = BTreeMap::from([("serving", 0), ("drained", 0), ("held", 0)]);
        let mut by_code: BTreeMap<&'static str, usize> = Code::ALL.iter().map(|code| (code.as_str(), 0)).collect();
        for standing in standings {
            let (word, code) = match standing {
                Standing::Serving => ("serving", None),
                Standing::Drained(code) => ("drained", Some(code)),
                Standing::Held(code) => ("held", Some(code)),
            };
            *by_standing.entry(word).or_default() += 1;
            if let Some(code) = code {
                *by_code.entry(code.as_str()).or_default() += 1;
            }
        }
        let set = |family: &Family<ByWord, Gauge>, label: &'static str, counts: BTreeMap<&'static str, usize>| {
            for (word, count) in counts {
                family.get_or_create(&[(label, word)]).set(to_gauge(count));
            }
        };
        set(&self.endpoints, "standing", by_standing);
        set(&self.faults, "code", by_code);
    }

    /// Takes down what goes to other localities: the percents of those that send anything.
    pub fn spill(&self, away: impl Iterator<Item = u32>) {
        let (mut count, mut most) = (0, 0);
        for percent in away {
            (count, most) = (count + 1, most.max(percent));
        }
        self.spillovers.set(count);
        self.spillover_percent.set(most.into());
    }

    /// Takes down the size of the mesh.
    pub fn describe(&self, mesh: &Mesh) {
        let count = |state| mesh.verdicts.values().filter(|verdict| verdict.state == state).count();
        for (label, state) in [("accepted", PolicyState::Accepted), ("rejected", PolicyState::Rejected)] {
            self.policies
                .get_or_create(&[("state", label)])
                .set(to_gauge(count(state)));
        }
        self.workers.set(to_gauge(mesh.workers.len()));
        self.rejected_records.set(to_gauge(mesh.rejected.len()));
    }

    /// Everything in OpenMetrics text, as of now.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub fn render(&self, health: &Health, nodes: &Nodes, pools: &Pools) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("kilocard_control_plane");
        registry.register("etcd_connected", "1 while etcd answers", health.connected.clone());
        registry.register(
            "etcd_revision",
            "Newest etcd revision taken in",
            health.revision.clone(),
        );
        registry.register(
            "etcd_relists",
            "Full listings of etcd, by what made them necessary",
            health.relists.clone(),
        );
        register_source(&mut registry, health);
        registry.register(
            "rebuild_seconds",
            "Time to build a snapshot",
            self.rebuild_seconds.clone(),
        );
        registry.register(
            "pushes",
            "Snapshots that differed from the one before",
            self.pushes.clone(),
        );
        registry.register(
            "policies",
            "Policies by the verdict on their newest document",
            self.policies.clone(),
        );
        registry.register(
            "workers",
            "Workers with a sound record, each an endpoint",
            self.workers.clone(),
        );
        registry.register(
            "endpoints",
            "Workers times versions, by whether they take requests",
            self.endpoints.clone(),
        );
        registry.register(
            "faults",
            "Endpoints that are drained or held, by why",
            self.faults.clone(),
        );
        registry.register(
            "spillovers",
            "Localities of model versions whose proxies send requests elsewhere",
            self.spillovers.clone(),
        );
        registry.register(
            "spillover_percent",
            "Percent of the requests that the one which sends most sends elsewhere",
            self.spillover_percent.clone(),
        );
        registry.register(
            "rejected_records",
            "Records that are ignored",
            self.rejected_records.clone(),
        );
        self.quota.register(&mut registry);
        self.rls.register(&mut registry);
        let connected = to_gauge(nodes.counters().connected_streams);
        registry.register("nodes", "Proxies with an open xDS stream", ConstGauge::new(connected));
        register_xds(&mut registry, nodes);
        let mut text = String::new();
        encode_registry(&mut text, &registry)?;
        encode_registry(&mut text, &pools::registry(pools))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What the mesh rests on, and how well it is kept.
fn register_source(registry: &mut Registry, health: &Health) {
    registry.register(
        "state_source",
        "1 for what the served mesh rests on",
        health.state_source.clone(),
    );
    registry.register(
        "held_workers",
        "Workers that stay in the mesh though their records are gone",
        health.held_workers.clone(),
    );
    registry.register(
        "holds_ended",
        "Holds that ended, by the reason",
        health.holds_ended.clone(),
    );
    registry.register("state_saves", "Last good states written to disk", health.saves.clone());
    registry.register(
        "leader",
        "1 while this replica is the elected one",
        health.leader.clone(),
    );
    registry.register(
        "status_write_failures",
        "Attempts to write verdicts that failed",
        health.status_write_failures.clone(),
    );
    registry.register(
        "state_save_failures",
        "Last good states that could not be written to disk",
        health.save_failures.clone(),
    );
}

/// What the xDS services counted, by type.
fn register_xds(registry: &mut Registry, nodes: &Nodes) {
    let counters = nodes.counters();
    let by_type = |count: &dyn Fn(&TypeCounters) -> u64| {
        let family = ByType::default();
        for (kind, counted) in &counters.types {
            let word = kind.url().rsplit('.').next().unwrap_or_default();
            family.get_or_create(&[("type", word)]).inc_by(count(counted));
        }
        family
    };
    let totals: [(&str, &str, ByType); 4] = [
        (
            "xds_responses",
            "Responses sent to proxies",
            by_type(&|counted| counted.responses),
        ),
        (
            "xds_acks",
            "Responses that proxies accepted",
            by_type(&|counted| counted.acks),
        ),
        (
            "xds_nacks",
            "Responses that proxies refused",
            by_type(&|counted| counted.nacks),
        ),
        (
            "xds_oversized_responses",
            "Responses beyond what a gRPC client takes by default",
            by_type(&|counted| counted.oversized),
        ),
    ];
    for (name, help, family) in totals {
        registry.register(name, help, family);
    }
    let (refused, behind, longest) = (GaugeByType::default(), GaugeByType::default(), Family::default());
    for (kind, counted) in &counters.types {
        let label: ByWord = [("type", kind.url().rsplit('.').next().unwrap_or_default())];
        refused.get_or_create(&label).set(saturated(counted.refused_resources));
        behind.get_or_create(&label).set(saturated(counted.behind));
        let seconds: &Gauge<f64, AtomicU64> = &longest.get_or_create(&label);
        seconds.set(counted.behind_longest.as_secs_f64());
    }
    registry.register(
        "xds_refused_resources",
        "Resources that proxies refused and do without",
        refused,
    );
    registry.register("xds_behind", "Streams that lack something of what is served", behind);
    registry.register("xds_behind_seconds", "For how long the slowest of them has", longest);
    registry.register(
        "xds_push_seconds",
        "From a change until a proxy had acknowledged what followed from it",
        nodes.push_seconds(),
    );
    let denied = Counter::<u64>::default();
    denied.inc_by(counters.denied);
    registry.register(
        "xds_denied_streams",
        "Streams refused since their node is not allowed",
        denied,
    );
}

fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::mesh;

    #[test]
    fn the_text_names_what_an_operator_alerts_on() {
        let (metrics, health) = (Metrics::default(), Health::default());
        metrics.describe(&mesh());
        health.relists.get_or_create(&[("reason", "compacted")]).inc();
        let text = metrics.render(&health, &Nodes::default(), &Pools::default()).unwrap();
        for line in [
            "kilocard_control_plane_etcd_connected 0",
            "kilocard_control_plane_etcd_relists_total{reason=\"compacted\"} 1",
            "kilocard_control_plane_policies{state=\"accepted\"} 1",
            "kilocard_control_plane_workers 2",
            "kilocard_control_plane_nodes 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
