//! The tags of an endpoint, among which requests for a GPU choose. Pure.
//!
//! Every endpoint has `any`; one on a card also `gpuN` (the N-th card of its node in the order of PCI addresses), the tiers
//! of memory that its card reaches (`memory-low`, `-medium`, `-high`: a greater one includes the lesser), both together
//! (`gpu0:high`), and `class/<name>` for each class of a MeshPolicy that its card satisfies. The filter asks for the same
//! words (`kilocard_policy`, the GPU wish of a decision).

use crate::model::{Mesh, Worker};
use crate::weights::is_coherent;
use kilocard_policy::config::{GpuClass, GpuSelector, Spec};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::layout::DeviceId;
use std::sync::Arc;

/// What every endpoint has, with a card or without.
pub const ANY: &str = "any";

/// What one has whose RDMA is down and whose tensors go by another transport.
pub const RDMA_FALLBACK: &str = "rdma-fallback";

/// Tiers and the memory from which on a card is in them. GB as cards are sold, 10⁹ bytes: what a card of "16 GB" reports is
/// a little less than 16 GiB and never less than this.
const TIERS: [(&str, f64); 3] = [("low", 0.0), ("medium", 16.0), ("high", 40.0)];
const GIB: f64 = (1u64 << 30) as f64;
const GB: f64 = 1e9;

/// The classes in force, of whichever policies declare them.
pub fn classes(mesh: &Mesh) -> Vec<&GpuClass> {
    let specs = mesh.policies.values().map(|policy| policy.document.spec());
    specs
        .filter_map(|spec| match spec {
            Spec::Mesh(policy) => policy.gpu_classes.as_ref(),
            _ => None,
        })
        .flatten()
        .collect()
}

/// The tags of a worker's endpoints, sorted by what they are and not by name.
pub fn tags(mesh: &Mesh, worker: &Worker, classes: &[&GpuClass]) -> Arc<[String]> {
    let mut tags = vec![ANY.to_owned()];
    if let Some(id) = &worker.device {
        let device = mesh.devices.get(id).map(Arc::as_ref);
        let telemetry = worker.telemetry.as_ref().filter(|telemetry| is_coherent(telemetry));
        let memory_gb = match (device, telemetry) {
            (Some(device), _) => device.memory_gb * GIB / GB,
            (None, Some(telemetry)) => telemetry.memory_total_bytes as f64 / GB,
            (None, None) => 0.0,
        };
        let tiers = TIERS.iter().filter(|(_, from)| memory_gb >= *from);
        let tiers: Vec<&str> = tiers.map(|(tier, _)| *tier).collect();
        tags.extend(tiers.iter().map(|tier| format!("memory-{tier}")));
        // A card that the inventory lacks has no place among its node's cards, and is of no class.
        if let Some(device) = device {
            let gpu = format!("gpu{}", index_on_node(mesh, id));
            tags.extend(tiers.iter().map(|tier| format!("{gpu}:{tier}")));
            tags.push(gpu);
            let satisfied = classes.iter().filter(|class| satisfies(device, &class.select));
            tags.extend(satisfied.map(|class| format!("class/{}", class.name)));
        }
    }
    if worker
        .telemetry
        .as_ref()
        .and_then(|telemetry| telemetry.rdma.as_ref())
        .is_some_and(|rdma| rdma.fallback)
    {
        tags.push(RDMA_FALLBACK.to_owned());
    }
    tags.into()
}

/// How many cards of the same node come before this one.
fn index_on_node(mesh: &Mesh, id: &DeviceId) -> usize {
    let first = DeviceId {
        node: id.node.clone(),
        pci: String::new(),
    };
    let place = pci_order(&id.pci);
    let cards = mesh.devices.range(first..).map(|(card, _)| card);
    cards
        .take_while(|card| card.node == id.node)
        .filter(|card| pci_order(&card.pci) < place)
        .count()
}

/// `domain:bus:device.function` by its numbers, since tools write the domain with four or eight digits; anything else comes
/// before them, by its text. Asked for each card of a node for each worker at each build, so it allocates nothing.
fn pci_order(pci: &str) -> (Option<[u32; 4]>, &str) {
    let mut parts = pci.split([':', '.']).map(|part| u32::from_str_radix(part, 16).ok());
    let mut next = || parts.next().flatten();
    let numbers = match (next(), next(), next(), next()) {
        (Some(domain), Some(bus), Some(device), Some(function)) => Some([domain, bus, device, function]),
        _ => None,
    };
    (numbers.filter(|_| parts.next().is_none()), pci)
}

/// Whether a card is what a class wants; what the inventory does not know of a card, it does not have.
fn satisfies(device: &DeviceRecord, select: &GpuSelector) -> bool {
    let among = |names: &[String], of: Option<&str>| {
        names.is_empty() || of.is_some_and(|of| names.iter().any(|name| name.eq_ignore_ascii_case(of)))
    };
    let product = select.products.is_empty() || select.products.iter().any(|name| is_product(&device.model, name));
    product
        && among(&select.archs, device.arch.as_deref())
        && among(&select.zones, device.zone.as_deref())
        && select.nvlink.is_none_or(|nvlink| nvlink == device.nvlink)
        && select
            .min_memory_gb
            .is_none_or(|least| device.memory_gb * GIB >= f64::from(least) * GB)
}

/// Whether the words of `name` follow one another in the product name: `h100` is in `NVIDIA H100 80GB HBM3`, `l4` is not in
/// `NVIDIA L40S`.
fn is_product(model: &str, name: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_ascii_lowercase).collect()
    };
    let (model, name) = (words(model), words(name));
    !name.is_empty() && model.windows(name.len()).any(|run| run == name)
}

#[cfg(test)]
mod tests;
