//! What is counted of Envoy's own rate-limit protocol.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters; clones share the values.
#[derive(Clone, Debug, Default)]
pub struct RlsMetrics {
    requests: Family<super::ByWord, Counter>,
    /// As many as there are policies.
    refusals: Family<[(&'static str, String); 1], Counter>,
}

impl RlsMetrics {
    /// A request ended so.
    pub fn count(&self, code: &'static str) {
        self.requests.get_or_create(&[("code", code)]).inc();
    }

    /// A request met a limit of this policy.
    pub fn refuse(&self, policy: &str) {
        self.refusals.get_or_create(&[("policy", policy.to_owned())]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rls_requests",
            "Requests of Envoy's own rate-limit filter, by what became of them",
            self.requests.clone(),
        );
        registry.register(
            "rls_refusals",
            "Those that met a limit of the policy, which may be one that only counts",
            self.refusals.clone(),
        );
    }
}
