//! What a number was measured on: without it, the number says nothing.

use crate::install::Install;
use anyhow::Result;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The machine and the programs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    load_average: String,
    envoy: String,
    etcd: String,
    build: &'static str,
}

impl Machine {
    pub(super) fn here() -> Result<Self> {
        let install = Install::locate()?;
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Ok(Self {
            cpu: cpu.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average: read("/proc/loadavg"),
            envoy: version(&install.envoy),
            etcd: version(&install.etcd),
            build: if cfg!(debug_assertions) {
                "dev profile"
            } else {
                "release profile"
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            kernel,
            load_average,
            envoy,
            etcd,
            build,
        } = self;
        write!(
            f,
            "{cpu}, {cores} cores, Linux {kernel}, load {load_average}; {envoy}; {etcd}; control plane in {build}"
        )
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Envoy: "<path>  version: <hash>/<version>/…"; etcd: "etcd Version: <version>".
    let line = text
        .lines()
        .find(|line| line.to_lowercase().contains("version:"))
        .unwrap_or_default();
    format!(
        "{name} {}",
        line.split_once("ersion:").map_or("unknown", |(_, rest)| rest.trim())
    )
}
