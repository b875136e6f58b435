//! What is counted of the division of limits among proxies.

use super::{saturated, to_gauge};
use kilocard_quota::Authority;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// As of the last report; clones share the values.
#[derive(Clone, Debug, Default)]
pub struct QuotaMetrics {
    proxies: Gauge,
    silent: Gauge,
    keys: Gauge,
    learning: Gauge,
    answered: Gauge,
    refused: Gauge,
    demands_refused: Gauge,
    succeeded: Gauge,
    leases: Gauge,
    beyond_keys: Gauge,
}

impl QuotaMetrics {
    /// Takes down how the division stands.
    pub fn take_down(&self, authority: &Authority) {
        let counters = authority.counters();
        self.keys.set(to_gauge(authority.managed_count()));
        self.learning.set(authority.is_learning().into());
        self.answered.set(saturated(counters.answered));
        self.refused.set(saturated(counters.refused));
        self.demands_refused.set(saturated(counters.demands_refused));
        self.succeeded.set(saturated(counters.succeeded));
        self.leases.set(saturated(counters.leases));
        self.beyond_keys.set(saturated(counters.beyond_keys));
        let (mut proxies, mut silent) = (0, 0);
        for proxy in authority.proxies() {
            (proxies, silent) = (proxies + 1, silent + i64::from(proxy.is_silent));
        }
        self.proxies.set(proxies);
        self.silent.set(silent);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            (
                "quota_proxies",
                "Proxies that have a share of the limits of the mesh",
                &self.proxies,
            ),
            (
                "quota_silent_proxies",
                "Those among them that do not report",
                &self.silent,
            ),
            ("quota_keys", "Keys of limits that are divided by demand", &self.keys),
            (
                "quota_learning",
                "1 while nothing is raised, since an earlier authority's leases may still hold",
                &self.learning,
            ),
            (
                "quota_reports",
                "Reports that this authority has answered",
                &self.answered,
            ),
            ("quota_reports_refused", "Reports that it has refused", &self.refused),
            (
                "quota_demands_refused",
                "Demands that it has passed over: their key is too long, or the report has too many",
                &self.demands_refused,
            ),
            (
                "quota_proxies_succeeded",
                "Silent proxies that it has forgotten because their node goes on under another process",
                &self.succeeded,
            ),
            (
                "quota_leases",
                "Leases that it has given, repetitions included",
                &self.leases,
            ),
            (
                "quota_keys_beyond",
                "Demands that stayed at the base share for want of room for their keys",
                &self.beyond_keys,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}
