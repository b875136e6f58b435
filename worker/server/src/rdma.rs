//! RDMA ports as the kernel tells of them: what `ibstat` shows, read from where it reads it,
//! `/sys/class/infiniband/<device>/ports/<number>/` (Linux, `Documentation/ABI/stable/sysfs-class-infiniband`).

mod watch;

pub use watch::Ports;

use kilocard_registry::telemetry::{RdmaPort, RdmaReading};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel lists the devices.
pub const ROOT: &str = "/sys/class/infiniband";

/// The machine's ports, in the order of their names. `None` on a machine without any.
///
/// # Errors
/// If they cannot be listed. A port that goes away while it is read is left out.
pub fn read(root: &Path) -> io::Result<Option<RdmaReading>> {
    let mut ports = Vec::new();
    for device in listed(root)? {
        for number in listed(&device.join("ports"))? {
            ports.extend(port(&device, &number));
        }
    }
    ports.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(reading(ports))
}

/// What tensors can travel by: the kind of the first port that is up. With ports and none of them up that is TCP, the second
/// choice.
fn reading(ports: Vec<(RdmaPort, &'static str)>) -> Option<RdmaReading> {
    let up = ports.iter().find(|(port, _)| port.is_active());
    let (transport, fallback) = (up.map_or("tcp", |(_, transport)| transport), up.is_none());
    (!ports.is_empty()).then(|| RdmaReading {
        transport: transport.to_owned(),
        fallback,
        ports: ports.into_iter().map(|(port, _)| port).collect(),
    })
}

/// What is in a folder; nothing in one that is not there.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn port(device: &Path, folder: &Path) -> Option<(RdmaPort, &'static str)> {
    let told = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let port = RdmaPort {
        name: format!("{}/{}", name(device)?, name(folder)?),
        state: state(&told("state")?).to_owned(),
        physical_state: told("phys_state").map_or_else(String::new, |line| meaning(&line).to_owned()),
        rate_gbps: told("rate").and_then(|line| rate_gbps(&line)).unwrap_or(0.0),
    };
    let transport = match told("link_layer").as_deref().map(str::trim) {
        Some("Ethernet") => "roce",
        _ => "infiniband",
    };
    Some((port, transport))
}

/// The word after the number: `LinkUp` of `5: LinkUp`.
fn meaning(line: &str) -> &str {
    line.split_once(':').map_or(line, |(_, word)| word).trim()
}

/// The kernel's `4: ACTIVE` as `ibstat` says it.
fn state(line: &str) -> &str {
    match meaning(line) {
        "ACTIVE" => "Active",
        "DOWN" => "Down",
        "INIT" => "Initializing",
        "ARMED" => "Armed",
        other => other,
    }
}

/// The number of `400 Gb/sec (4X NDR)`.
fn rate_gbps(line: &str) -> Option<f64> {
    let (number, unit) = line.trim().split_once(' ')?;
    let rate: f64 = number.parse().ok()?;
    (unit.starts_with("Gb/sec") && rate.is_finite()).then_some(rate)
}

#[cfg(test)]
mod tests;
