//! The report of devices: cards of the inventory and cards that workers name, with what computes on each. Pure.

use crate::model::{Mesh, Worker};
use kilocard_registry::device_report::{DeviceEndpoint, DeviceHealth, DeviceReport, DeviceWorker, DevicesReport};
use kilocard_registry::layout::DeviceId;
use kilocard_registry::report::{ClusterReport, EndpointReport};
use std::collections::BTreeMap;

/// The report. `clusters` are those of the status report of the same mesh.
pub fn devices(mesh: &Mesh, clusters: &[ClusterReport]) -> DevicesReport {
    let mut by_worker: BTreeMap<&str, Vec<(String, &EndpointReport)>> = BTreeMap::new();
    for cluster in clusters {
        for endpoint in &cluster.endpoints {
            let name = format!("{}/{}", cluster.model, cluster.version);
            by_worker.entry(&endpoint.worker).or_default().push((name, endpoint));
        }
    }
    let mut found: BTreeMap<&DeviceId, Vec<DeviceWorker>> = mesh.devices.keys().map(|id| (id, Vec::new())).collect();
    for worker in mesh.workers.values() {
        if let Some(device) = &worker.device {
            let endpoints = by_worker.get(worker.id.as_str()).map_or(&[][..], Vec::as_slice);
            found.entry(device).or_default().push(on_device(worker, endpoints));
        }
    }
    let devices = found.into_iter();
    DevicesReport {
        devices: devices.map(|(id, workers)| device(mesh, id, workers)).collect(),
    }
}

fn device(mesh: &Mesh, id: &DeviceId, workers: Vec<DeviceWorker>) -> DeviceReport {
    let inventory = mesh.devices.get(id).map(|record| record.as_ref().clone());
    let simulated = inventory.as_ref().is_some_and(|record| record.simulated)
        || workers
            .iter()
            .any(|worker| worker.telemetry.as_ref().is_some_and(|telemetry| telemetry.simulated));
    DeviceReport {
        node: id.node.clone(),
        pci: id.pci.clone(),
        health: workers
            .iter()
            .flat_map(|worker| &worker.endpoints)
            .map(health)
            .min()
            .unwrap_or(DeviceHealth::Idle),
        inventory,
        workers,
        simulated,
    }
}

fn on_device(worker: &Worker, endpoints: &[(String, &EndpointReport)]) -> DeviceWorker {
    DeviceWorker {
        worker: worker.id.clone(),
        address: worker.address.to_string(),
        mig_profile: worker.mig_profile.clone(),
        telemetry: worker.telemetry.clone(),
        telemetry_age_ms: endpoints
            .iter()
            .find_map(|(_, endpoint)| endpoint.factors.telemetry_age_ms),
        endpoints: endpoints
            .iter()
            .map(|(cluster, report)| endpoint(cluster, report))
            .collect(),
    }
}

fn endpoint(cluster: &str, report: &EndpointReport) -> DeviceEndpoint {
    let factors = &report.factors;
    DeviceEndpoint {
        cluster: cluster.to_owned(),
        weight: report.weight,
        factors: factors
            .factors
            .iter()
            .filter(|factor| factor.value < 1.0)
            .cloned()
            .collect(),
        drained: factors.drained.clone(),
        held: factors.held.clone(),
    }
}

fn health(endpoint: &DeviceEndpoint) -> DeviceHealth {
    match endpoint {
        DeviceEndpoint { drained: Some(_), .. } => DeviceHealth::Drained,
        DeviceEndpoint { held: Some(_), .. } => DeviceHealth::Held,
        DeviceEndpoint { factors, .. } if !factors.is_empty() => DeviceHealth::Derated,
        _ => DeviceHealth::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::mesh;
    use kilocard_registry::report::{DrainReport, FactorReport, WeightFactors};
    use std::sync::Arc;

    fn clusters(worker: &str, factors: WeightFactors) -> Vec<ClusterReport> {
        let endpoint = EndpointReport {
            worker: worker.to_owned(),
            address: "10.0.0.1:9000".to_owned(),
            zone: String::new(),
            rack: String::new(),
            weight: 7,
            factors,
            tags: Vec::new(),
        };
        let value = serde_json::json!({"model": "minilm", "version": "v1", "endpoints": [endpoint]});
        vec![serde_json::from_value(value).unwrap()]
    }

    #[test]
    fn a_device_is_as_ill_as_its_illest_endpoint_and_one_without_a_worker_is_idle() {
        let mut mesh = mesh();
        let id = DeviceId {
            node: "gpu-x".to_owned(),
            pci: "0000:01:00.0".to_owned(),
        };
        let (name, worker) = mesh
            .workers
            .iter()
            .next()
            .map(|(n, w)| (n.clone(), w.as_ref().clone()))
            .unwrap();
        let worker = Worker {
            device: Some(id.clone()),
            ..worker
        };
        Arc::make_mut(&mut mesh.workers).insert(name.clone(), Arc::new(worker));
        let health = |mesh: &Mesh, factors: WeightFactors| {
            let report = devices(mesh, &clusters(&name, factors));
            report
                .devices
                .iter()
                .find(|device| device.node == "gpu-x")
                .unwrap()
                .health
        };
        let factor = |value| FactorReport {
            name: "memory".to_owned(),
            value,
            reason: String::new(),
        };
        let with = |value| WeightFactors {
            factors: vec![factor(value)],
            ..WeightFactors::default()
        };
        assert_eq!(health(&mesh, with(1.0)), DeviceHealth::Healthy);
        assert_eq!(health(&mesh, with(0.5)), DeviceHealth::Derated);
        let drained = WeightFactors {
            drained: Some(DrainReport::default()),
            ..with(0.5)
        };
        assert_eq!(health(&mesh, drained), DeviceHealth::Drained);
        Arc::make_mut(&mut mesh.workers).remove(&name);
        // No worker names it any more, and the inventory does not list it.
        assert!(devices(&mesh, &[]).devices.iter().all(|device| device.node != "gpu-x"));
        Arc::make_mut(&mut mesh.devices).insert(id, Arc::default());
        assert_eq!(health(&mesh, with(1.0)), DeviceHealth::Idle);
    }
}
