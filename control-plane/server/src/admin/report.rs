//! The status report, from the same placement that proxies are configured by. Pure.

use crate::model::Mesh;
use crate::scaling::Pools as ScaledPools;
use crate::secrets::Secrets;
use crate::snapshot::placement::place;
use crate::snapshot::pool::Pools;
use crate::snapshot::proxyless;
use crate::source::Health;
use crate::weights::{SharedWeights, Weights};
use kilocard_policy::config::MeshState;
use kilocard_registry::report::{
    ClusterReport, ControlPlaneReport, ElectionReport, EndpointReport, FilterStateReport, LimitsReport, LocalityReport,
    MeshReport, NodeReport, PolicyReport, ProxylessReport, RejectedRecord, SourceReport, SpillReport,
};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Locality, Split};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What proxies were given last.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Content hash of the snapshot.
    pub snapshot_version: String,
    /// What it tells the filters of the versions.
    pub state: Arc<MeshState>,
    /// The secrets.
    pub secrets: Arc<Secrets>,
    /// What endpoints weigh and why.
    pub weights: SharedWeights,
    /// How many replicas there shall be.
    pub pools: Arc<ScaledPools>,
    /// How the limits of the mesh are divided.
    pub limits: LimitsReport,
}

/// The report as of `now`.
pub fn report(mesh: &Mesh, health: &Health, given: &Given, nodes: Vec<NodeReport>, now: Instant) -> MeshReport {
    MeshReport {
        control_plane: ControlPlaneReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            etcd_connected: health.is_connected(),
            etcd_revision: health.revision.get(),
            snapshot_version: given.snapshot_version.clone(),
            source: SourceReport::default(),
            election: ElectionReport::default(),
        },
        scaling: given.pools.iter().map(|(served, pool)| pool.report(served)).collect(),
        limits: given.limits.clone(),
        filter_state: FilterStateReport {
            unready: given.state.unready.clone(),
            saturated: given.state.saturated.clone(),
        },
        policies: policies(mesh),
        clusters: clusters(mesh, &given.weights.lock(), now),
        rejected_records: mesh
            .rejected
            .iter()
            .map(|(key, reason)| RejectedRecord {
                key: key.clone(),
                reason: reason.clone(),
            })
            .collect(),
        proxyless: ProxylessReport {
            targets: proxyless::targets(&mesh.policies).map(str::to_owned).collect(),
            limits: proxyless::limits::of(mesh),
        },
        nodes,
        secrets: given.secrets.report(),
    }
}

fn policies(mesh: &Mesh) -> Vec<PolicyReport> {
    let verdicts = mesh.verdicts.iter();
    verdicts
        .map(|(id, status)| PolicyReport {
            kind: id.kind.clone(),
            name: id.name.clone(),
            status: status.clone(),
        })
        .collect()
}

fn clusters(mesh: &Mesh, weights: &Weights, now: Instant) -> Vec<ClusterReport> {
    let placement = place(mesh, weights).into_iter();
    let pools = Pools::of(&mesh.policies);
    placement
        .map(|(served, placed)| ClusterReport {
            pools: pools.names(&served.model),
            localities: localities(&served, weights, now),
            endpoints: placed
                .into_iter()
                .map(|(worker, placed)| EndpointReport {
                    address: placed.address.to_string(),
                    zone: placed.locality.zone.clone(),
                    rack: placed.locality.rack.clone(),
                    weight: placed.weighed.weight,
                    factors: weights.explain(&served, &worker, now).unwrap_or_default(),
                    tags: placed.tags.to_vec(),
                    worker,
                })
                .collect(),
            model: served.model,
            version: served.version,
        })
        .collect()
}

fn localities(served: &ServedModel, weights: &Weights, now: Instant) -> Vec<LocalityReport> {
    let splits = weights.splits().filter(|(of, _, _)| *of == served);
    let splits: BTreeMap<&Locality, &Split> = splits.map(|(_, own, split)| (own, split)).collect();
    let sites = weights.sites(served, now);
    if sites.keys().all(|locality| locality.zone.is_empty()) {
        return Vec::new();
    }
    let sites = sites.into_iter();
    sites
        .map(|(locality, site)| {
            let split = splits.get(&*locality).copied();
            let to = split.into_iter().flat_map(|split| &split.to);
            LocalityReport {
                zone: locality.zone.clone(),
                rack: locality.rack.clone(),
                capacity: site.capacity,
                busy: site.busy,
                away_percent: split.map_or(0, |split| split.away),
                to: to.map(|(to, percent)| spill(to, *percent)).collect(),
            }
        })
        .collect()
}

fn spill(to: &Locality, percent: u32) -> SpillReport {
    SpillReport {
        zone: to.zone.clone(),
        rack: to.rack.clone(),
        percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::mesh;

    #[test]
    fn the_report_shows_what_proxies_are_given() {
        let mut mesh = mesh();
        mesh.rejected = Arc::new([("/kilocard/v1/workers/x".into(), "because".into())].into());
        let state = MeshState {
            unready: vec!["minilm/v2".into()],
            saturated: vec![],
        };
        let given = Given {
            snapshot_version: "v".into(),
            state: Arc::new(state),
            secrets: Arc::default(),
            weights: SharedWeights::default(),
            pools: Arc::default(),
            limits: LimitsReport::default(),
        };
        let now = Instant::now();
        given.weights.lock().follow(&mesh, now);
        let report = report(&mesh, &Health::default(), &given, vec![], now);
        insta::assert_json_snapshot!(report);
    }
}
