//! `kilocard devices`: the GPUs, what computes on them, and how they are.

use crate::args::DevicesArgs;
use crate::control_plane;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::table::Table;
use kilocard_registry::device_report::{DeviceHealth, DeviceReport, DeviceWorker, DevicesReport};
use kilocard_registry::telemetry::Telemetry;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// [`Failure::ControlPlane`].
pub async fn run(control_plane: &str, args: &DevicesArgs) -> Result<Outcome, Failure> {
    let (report, data): (DevicesReport, Value) =
        control_plane::fetch(control_plane, "/devices", "a report of devices").await?;
    let all = data
        .get("devices")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_asked = |device: &DeviceReport| {
        let node = args.node.as_ref().is_none_or(|node| *node == device.node);
        node && (!args.drained || device.health == DeviceHealth::Drained)
    };
    let both = report.devices.into_iter().zip(all);
    let (shown, data): (Vec<DeviceReport>, Vec<Value>) = both.filter(|(device, _)| is_asked(device)).unzip();
    Ok(Outcome::new(render(&shown, args), json!({"devices": data})))
}

fn render(devices: &[DeviceReport], args: &DevicesArgs) -> String {
    if devices.is_empty() {
        let filtered = args.drained || args.node.is_some();
        return match filtered {
            true => "no such device\n".to_owned(),
            false => "no devices: the inventory is empty, and no worker names a card\n".to_owned(),
        };
    }
    let mut table = Table::new(&[
        "DEVICE",
        "CARD",
        "ZONE/RACK",
        "HEALTH",
        "WORKER",
        "WEIGHT",
        "TEMP",
        "FREE MEMORY",
        "CLOCK",
        "LINKS",
        "WHY",
    ]);
    for device in devices {
        if device.workers.is_empty() {
            table.row(cells(device, None));
        }
        for worker in &device.workers {
            table.row(cells(device, Some(worker)));
        }
    }
    let drained = devices
        .iter()
        .filter(|device| device.health == DeviceHealth::Drained)
        .count();
    let simulated = devices.iter().filter(|device| device.simulated).count();
    format!(
        "{table}\n{} devices, {drained} drained, {simulated} simulated\n",
        devices.len()
    )
}

fn cells(device: &DeviceReport, worker: Option<&DeviceWorker>) -> [String; 11] {
    let telemetry = worker.and_then(|worker| worker.telemetry.as_ref());
    let of = |reading: fn(&Telemetry) -> Option<String>| telemetry.and_then(reading).unwrap_or_else(|| "-".to_owned());
    [
        format!("{}/{}", device.node, device.pci),
        card(device, worker),
        place(device),
        health(device.health).to_owned(),
        worker.map_or("-".to_owned(), |worker| worker.worker.clone()),
        worker.map_or("-".to_owned(), weights),
        of(|telemetry| telemetry.gpu.temperature_c.map(|celsius| format!("{celsius:.0} °C"))),
        of(free_memory),
        of(clock),
        of(links),
        worker.map_or_else(String::new, why),
    ]
}

fn card(device: &DeviceReport, worker: Option<&DeviceWorker>) -> String {
    let mut text = match &device.inventory {
        Some(record) => record.model.clone(),
        None => "not in the inventory".to_owned(),
    };
    if let Some(profile) = worker.and_then(|worker| worker.mig_profile.as_ref()) {
        let _ = write!(text, " {profile}");
    }
    if device.simulated {
        text.push_str(" (simulated)");
    }
    text
}

fn place(device: &DeviceReport) -> String {
    let record = device.inventory.as_ref();
    let part = |part: Option<&String>| part.map_or("-", String::as_str).to_owned();
    let zone = part(record.and_then(|record| record.zone.as_ref()));
    let rack = part(record.and_then(|record| record.rack.as_ref()));
    format!("{zone}/{rack}")
}

fn health(health: DeviceHealth) -> &'static str {
    match health {
        DeviceHealth::Drained => "DRAINED",
        DeviceHealth::Held => "held",
        DeviceHealth::Derated => "derated",
        DeviceHealth::Healthy => "healthy",
        DeviceHealth::Idle => "idle",
        DeviceHealth::Unknown => "?",
    }
}

/// One weight where all endpoints of the worker have the same.
fn weights(worker: &DeviceWorker) -> String {
    let mut weights: Vec<u32> = worker.endpoints.iter().map(|endpoint| endpoint.weight).collect();
    weights.sort_unstable();
    weights.dedup();
    match weights.as_slice() {
        [] => "-".to_owned(),
        [one] => one.to_string(),
        [least, .., most] => format!("{least}–{most}"),
    }
}

fn free_memory(telemetry: &Telemetry) -> Option<String> {
    const GIB: f64 = (1u64 << 30) as f64;
    let free = telemetry.free_memory()?;
    let of = match telemetry.engine.kv_total_blocks {
        Some(_) => "of the KV cache".to_owned(),
        None => format!("of {:.0} GiB", telemetry.memory_total_bytes as f64 / GIB),
    };
    Some(format!("{:.0}% {of}", free * 100.0))
}

fn clock(telemetry: &Telemetry) -> Option<String> {
    let (now, max) = (telemetry.gpu.sm_clock_mhz?, telemetry.gpu.max_sm_clock_mhz?);
    Some(format!("{now}/{max} MHz"))
}

/// NVLink, PCIe and RDMA, each where it is known.
fn links(telemetry: &Telemetry) -> Option<String> {
    let nvlink = telemetry
        .gpu
        .nvlink
        .as_ref()
        .map(|link| format!("NVLink {}/{}", link.active, link.expected));
    let pcie = telemetry.gpu.pcie.as_ref().and_then(|link| {
        let (generation, width) = (link.generation?, link.width?);
        Some(format!("PCIe {generation}×{width}"))
    });
    let rdma = telemetry.rdma.as_ref().map(|rdma| {
        let up = rdma.ports.iter().filter(|port| port.is_active()).count();
        let fallback = if rdma.fallback { " FALLBACK" } else { "" };
        format!("RDMA {up}/{} by {}{fallback}", rdma.ports.len(), rdma.transport)
    });
    let known: Vec<String> = [nvlink, pcie, rdma].into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// The reasons, each once though several endpoints of the worker have it.
fn why(worker: &DeviceWorker) -> String {
    let mut reasons = Vec::new();
    for endpoint in &worker.endpoints {
        if let Some(drain) = endpoint.drained.as_ref().or(endpoint.held.as_ref()) {
            let seconds = Duration::from_millis(drain.since_ms).as_secs();
            reasons.push(format!(
                "{}: {}, for {seconds} s; returns {}",
                drain.code, drain.text, drain.returns
            ));
        }
        for factor in &endpoint.factors {
            reasons.push(format!("{} {:.2} ({})", factor.name, factor.value, factor.reason));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    reasons.retain(|reason| seen.insert(reason.clone()));
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<DeviceReport> {
        serde_json::from_value(json!([
            {"node": "gpu-a", "pci": "0000:01:00.0", "health": "drained", "simulated": true,
             "inventory": {"model": "NVIDIA H100", "memory_gb": 80, "zone": "z1", "rack": "r7", "simulated": true},
             "workers": [{"worker": "w1", "address": "10.0.0.1:9000", "mig_profile": "3g.40gb", "telemetry_age_ms": 5,
                "telemetry": {"memory_total_bytes": 85899345920u64, "memory_free_bytes": 8589934592u64,
                    "gpu": {"temperature_c": 91.4, "sm_clock_mhz": 700, "max_sm_clock_mhz": 1980,
                            "nvlink": {"active": 17, "expected": 18}}},
                "endpoints": [
                    {"cluster": "m/v1", "weight": 40, "drained": {"code": "xid_fatal", "text": "XID 79", "since_ms": 9000,
                     "returns": "after a reset"}, "held": null, "factors": []},
                    {"cluster": "m/v2", "weight": 50, "drained": {"code": "xid_fatal", "text": "XID 79", "since_ms": 9000,
                     "returns": "after a reset"}, "held": null, "factors": []}]}]},
            {"node": "gpu-b", "pci": "0000:02:00.0", "health": "idle", "simulated": false, "inventory": null, "workers": []},
        ]))
        .unwrap()
    }

    #[test]
    fn a_card_is_shown_with_its_place_its_readings_and_each_reason_once() {
        let text = render(&devices(), &DevicesArgs::default());
        let row = text.lines().find(|line| line.starts_with("gpu-a")).unwrap();
        for expected in [
            "NVIDIA H100 3g.40gb (simulated)",
            "z1/r7",
            "DRAINED",
            "40–50",
            "91 °C",
            "10% of 80 GiB",
            "700/1980 MHz",
            "NVLink 17/18",
            "xid_fatal: XID 79, for 9 s; returns after a reset",
        ] {
            assert!(row.contains(expected), "{expected:?} is not in {row}");
        }
        assert_eq!(row.matches("XID 79").count(), 1, "{row}");
        assert!(
            text.contains("not in the inventory") && text.ends_with("2 devices, 1 drained, 1 simulated\n"),
            "{text}"
        );
    }
}
