//! How the division of limits stands, and what GPU memory there is, for the status report.

use super::{Channel, Term, part};
use crate::model::Mesh;
use kilocard_policy::config::{LimitScope, RateLimit, Spec};
use kilocard_proto::kilocard::sync::v1::VersionMemory;
use kilocard_quota::{Authority, ManagedKey, Share, Standing};
use kilocard_registry::report::{
    LimitedProxyReport, LimitsReport, MemoryReport, SharedKeyReport, SharedKeysReport, SharedPolicyReport,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

/// Most entries of a list; the report says how many there are.
const SHOWN: usize = 100;
/// Most keys that are shown of one policy.
const KEYS: usize = 10;

impl Channel {
    /// How the limits stand. What is divided elsewhere is not known here.
    pub fn standing(&self, mesh: &Mesh) -> LimitsReport {
        let now = self.origin.elapsed();
        let mut report = LimitsReport {
            memory: memory(mesh, &self.arrivals().headroom(mesh, now)),
            policies: shared_policies(mesh),
            ..LimitsReport::default()
        };
        let Ok(revision) = self.revision() else {
            return report;
        };
        report.divided_here = true;
        let term = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
        // One of an earlier leadership has nothing to say any more.
        if let Some(Term { authority, .. }) = term.as_ref().filter(|term| term.revision == revision) {
            take_down(&mut report, authority, now);
        }
        report
    }
}

fn take_down(report: &mut LimitsReport, authority: &Authority, now: Duration) {
    report.learning = authority.is_learning();
    let mut proxies: Vec<Standing> = authority.proxies().collect();
    proxies.sort_by_key(|proxy| (proxy.is_silent, Reverse(proxy.leases)));
    report.proxies_total = proxies.len();
    report.proxies_silent = proxies.iter().filter(|proxy| proxy.is_silent).count();
    report.proxies_waiting = proxies.iter().filter(|proxy| is_waiting(proxy)).count();
    report.proxies = proxies.iter().take(SHOWN).map(|proxy| of_proxy(proxy, now)).collect();
    let mut keys = keys(authority);
    report.memory_keys = keys.remove("").unwrap_or_default();
    for policy in &mut report.policies {
        policy.keys = keys.remove(policy.policy.as_str()).unwrap_or_default();
    }
}

fn is_waiting(proxy: &Standing) -> bool {
    !proxy.is_silent && proxy.base == Share::ZERO
}

fn of_proxy(proxy: &Standing, now: Duration) -> LimitedProxyReport {
    let age = now.saturating_sub(proxy.seen).as_millis();
    LimitedProxyReport {
        proxy: proxy.proxy.to_string(),
        base_percent: percent(proxy.base.parts().into()),
        leases: proxy.leases,
        unacknowledged: proxy.pending,
        reported_ms_ago: u64::try_from(age).unwrap_or(u64::MAX),
        silent: proxy.is_silent,
    }
}

/// The keys with leases, by policy.
fn keys(authority: &Authority) -> BTreeMap<String, SharedKeysReport> {
    let mut by_policy: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for (joined, demand) in authority.demands() {
        if let Some((policy, _)) = part(joined) {
            by_policy.entry(policy).or_default().push((demand, joined));
        }
    }
    let by_policy = by_policy.into_iter();
    by_policy
        .map(|(policy, keys)| (policy.to_owned(), largest(authority, keys)))
        .collect()
}

/// These keys of one policy, with the demand for each.
fn largest(authority: &Authority, mut keys: Vec<(u64, &str)>) -> SharedKeysReport {
    keys.sort_unstable_by_key(|(demand, joined)| (Reverse(*demand), *joined));
    let shown = keys.iter().take(KEYS);
    let shown = shown.filter_map(|(_, joined)| Some(of_key(part(joined)?.1, &authority.managed_key(joined)?)));
    SharedKeysReport {
        total: keys.len(),
        largest: shown.collect(),
    }
}

fn of_key(key: &str, managed: &ManagedKey) -> SharedKeyReport {
    let shares = || managed.shares.iter().map(|(_, share)| u64::from(share.parts()));
    SharedKeyReport {
        key: key.to_owned(),
        demand_percent: percent(managed.demand_parts),
        used_percent: percent(managed.used_parts),
        largest_share_percent: percent(shares().max().unwrap_or_default()),
        smallest_share_percent: percent(shares().min().unwrap_or_default()),
    }
}

fn percent(parts: u64) -> f64 {
    parts as f64 / 10_000.0
}

fn shared_policies(mesh: &Mesh) -> Vec<SharedPolicyReport> {
    let in_force = mesh
        .policies
        .values()
        .filter_map(|policy| match policy.document.spec() {
            Spec::RateLimit(spec) if spec.scope == LimitScope::Mesh => Some((policy.document.name(), spec)),
            _ => None,
        });
    let report = in_force.map(|(name, spec)| SharedPolicyReport {
        policy: name.to_owned(),
        limits: spec.limits.iter().map(RateLimit::to_string).collect(),
        keys: SharedKeysReport::default(),
    });
    report.collect()
}

fn memory(mesh: &Mesh, headroom: &[VersionMemory]) -> Vec<MemoryReport> {
    let mut endpoints: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for worker in mesh.workers.values().filter(|worker| !worker.draining) {
        for served in &worker.models {
            *endpoints.entry((&served.model, &served.version)).or_default() += 1;
        }
    }
    let report = headroom.iter().filter_map(|version| {
        let (model, name) = version.route.split_once('/')?;
        Some(MemoryReport {
            model: model.to_owned(),
            version: name.to_owned(),
            endpoints: endpoints.get(&(model, name)).copied().unwrap_or_default(),
            capacity_bytes: version.capacity_bytes,
            free_bytes: version.free_bytes,
            largest_free_bytes: version.largest_free_bytes,
            age_ms: version.age_ms,
        })
    });
    report.collect()
}

#[cfg(test)]
mod tests;
