//! `kind: MeshPolicy`: what every stage shares.

use serde::Serialize;

use super::limits::{MAX_DECLARED, MAX_LIST};
use super::name;
use super::reader::{Key, Node};
use super::violation::{Violations, quote};
use super::weight::Weight;
use crate::headers;

mod address;
mod caller;
mod gpu_class;
mod runtime;
mod spiffe;

pub use address::Cidr;
pub use caller::{ANYONE, CallerGroup};
pub use gpu_class::{GpuClass, GpuSelector, Otherwise};
pub use runtime::{Runtime, RuntimeValue};
pub use spiffe::SpiffePattern;

pub(super) use caller::read_names as read_caller_names;

/// What every stage shares. Each section may stand in one document of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct MeshPolicy {
    /// Groups of callers, by which other documents name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<CallerGroup>", default, length(max = 256)))]
    pub callers: Option<Vec<CallerGroup>>,
    /// Classes of GPUs that requests can ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<GpuClass>", default, length(max = 256)))]
    pub gpu_classes: Option<Vec<GpuClass>>,
    /// Where the record of a decision goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "DecisionRecord", default))]
    pub decision_record: Option<DecisionRecord>,
    /// Which requests are captured for a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Capture", default))]
    pub capture: Option<Capture>,
    /// Values of the proxies' runtime, by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Runtime", default))]
    pub runtime: Option<Runtime>,
}

/// Where the record of a decision goes, besides the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct DecisionRecord {
    /// Whether responses carry it.
    #[cfg_attr(test, schemars(default))]
    pub response_header: bool,
}

/// Which requests are captured for a replay, and what of them is not hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct Capture {
    /// How many of the requests, in percent with at most two decimals.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0, max = 100)))]
    pub percent: Weight,
    /// Headers whose values are kept as they are, besides those that Kilocard reads and those of gRPC and HTTP.
    #[cfg_attr(
        test,
        schemars(
            default,
            length(max = 64),
            inner(regex(pattern = r"^[0-9a-z_.-]{1,128}$|^:(path|authority)$"))
        )
    )]
    pub plain_headers: Vec<String>,
}

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<MeshPolicy> {
    let spec = spec.object(
        &["callers", "gpu_classes", "decision_record", "capture", "runtime"],
        out,
    )?;
    let callers = spec.maybe("callers", out, |node, out| {
        let key = Key {
            field: ".name",
            of: |group: &CallerGroup| group.name.clone(),
        };
        node.distinct(0..=MAX_DECLARED, &key, out, CallerGroup::read)
    });
    let gpu_classes = spec.maybe("gpu_classes", out, gpu_class::read_all);
    let decision_record = spec.maybe("decision_record", out, |node, out| {
        let record = node.object(&["response_header"], out)?;
        let response_header = record.or_default("response_header", out, Node::boolean)?;
        Some(DecisionRecord { response_header })
    });
    let capture = spec.maybe("capture", out, read_capture);
    let runtime = spec.maybe("runtime", out, runtime::read);
    Some(MeshPolicy {
        callers: callers?,
        gpu_classes: gpu_classes?,
        decision_record: decision_record?,
        capture: capture?,
        runtime: runtime?,
    })
}

fn read_capture(node: &Node<'_>, out: &mut Violations) -> Option<Capture> {
    let capture = node.object(&["percent", "plain_headers"], out)?;
    let percent = capture.must("percent", out, Weight::read);
    let plain_headers = capture.or_default("plain_headers", out, |node, out| {
        node.set(0..=MAX_LIST, out, read_plain_header)
    });
    Some(Capture {
        percent: percent?,
        plain_headers: plain_headers?,
    })
}

/// What says who asked, or lets others ask as them, is never kept as it is.
fn read_plain_header(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let path = node.path();
    let header = name::header(node, out)?;
    if headers::is_always_hashed(&header) {
        out.add(
            path,
            format!("{} is always hashed in a capture: it says who asks", quote(&header)),
        );
        return None;
    }
    Some(header)
}
