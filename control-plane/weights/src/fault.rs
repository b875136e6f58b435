//! For what an endpoint is drained: what a report says of its card's and its own health.

use crate::params::FaultRules;
use kilocard_registry::telemetry::{ServingHealth, Telemetry};

/// XIDs after which NVIDIA's catalogue has the card reset, the machine rebooted or the process restarted, each since memory,
/// bus, link or firmware of the card failed and not since an application erred (NVIDIA, "XID Errors", *Analyzing Xid Errors
/// with the Xid Catalog*, <https://docs.nvidia.com/deploy/xid-errors/>; *Health Validation, Xid Checks*):
/// 46 stopped processing, 48 double-bit ECC, 62 micro-controller halt, 64 row-remap failure, 74 NVLink, 79 fallen off the
/// bus, 94 contained and 95 uncontained ECC, 119 and 120 GSP firmware, 140 unrecovered ECC.
pub const FATAL_XIDS: [u32; 11] = [46, 48, 62, 64, 74, 79, 94, 95, 119, 120, 140];

/// A kind of fault. The order is that of gravity, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The driver told of a fatal XID.
    XidFatal,
    /// Uncorrectable memory errors.
    EccUncorrectable,
    /// A row could not be remapped.
    RowRemapFailure,
    /// The worker's own gRPC health says so.
    NotServing,
    /// The endpoint needs RDMA, which is down, and has nothing to fall back to.
    RdmaLost,
}

impl Code {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::XidFatal,
        Self::EccUncorrectable,
        Self::RowRemapFailure,
        Self::NotServing,
        Self::RdmaLost,
    ];

    /// Stable, for reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::XidFatal => "xid_fatal",
            Self::EccUncorrectable => "ecc_uncorrectable",
            Self::RowRemapFailure => "row_remap_failure",
            Self::NotServing => "not_serving",
            Self::RdmaLost => "rdma_lost",
        }
    }

    /// Whether the hardware itself says that it is broken. The others are inferred, and may have one cause outside of the
    /// endpoints: of a pool they drain a part only.
    pub fn is_fact(self) -> bool {
        matches!(self, Self::XidFatal | Self::EccUncorrectable | Self::RowRemapFailure)
    }

    /// What has to happen before the endpoint comes back.
    pub(crate) fn returns(self) -> &'static str {
        match self {
            Self::XidFatal => "when the worker starts anew after a reset of the card",
            Self::EccUncorrectable => "when the card has been reset and counts no uncorrectable errors",
            Self::RowRemapFailure => "when the card has been replaced",
            Self::NotServing => "when the worker's health is SERVING again",
            Self::RdmaLost => "when a port is Active again or the worker has fallen back",
        }
    }
}

/// A fault as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub code: Code,
    /// What was read, in a few words.
    pub text: String,
}

/// The gravest fault that a report tells of.
pub fn detect(telemetry: &Telemetry, rules: &FaultRules) -> Option<Fault> {
    let fault = |code, text: String| Some(Fault { code, text });
    let mut xids = telemetry.gpu.xids.iter().rev();
    if let Some(xid) = xids.find(|xid| rules.fatal_xids.contains(&xid.code)) {
        return fault(Code::XidFatal, format!("XID {}", xid.code));
    }
    if let Some(ecc) = &telemetry.gpu.ecc {
        if ecc.uncorrectable_volatile > 0 {
            let text = format!("{} uncorrectable ECC errors", ecc.uncorrectable_volatile);
            return fault(Code::EccUncorrectable, text);
        }
        if ecc.remap_failed {
            return fault(Code::RowRemapFailure, "a memory row could not be remapped".to_owned());
        }
    }
    if telemetry.health == Some(ServingHealth::NotServing) {
        return fault(Code::NotServing, "its health service says NOT_SERVING".to_owned());
    }
    let rdma = telemetry.rdma.as_ref()?;
    let all_down = !rdma.ports.is_empty() && !rdma.ports.iter().any(kilocard_registry::telemetry::RdmaPort::is_active);
    if all_down && !rdma.fallback {
        let states = rdma.ports.iter().map(|port| format!("{} {}", port.name, port.state));
        return fault(Code::RdmaLost, states.collect::<Vec<_>>().join(", "));
    }
    None
}
