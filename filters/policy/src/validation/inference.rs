//! The grammars of our own headers.

use super::findings::Findings;
use super::grammar;
use crate::decision::RefusalReason;
use crate::headers;
use crate::known::Known;

/// All of them.
pub(super) fn check(known: &Known<'_>, findings: &mut Findings<'_>) {
    check_for_routing(known, findings);
    findings.ensure(
        known.trace_id,
        grammar::is_trace_id,
        RefusalReason::MalformedTraceId,
        headers::X_TRACE_ID,
        "must be 8 to 64 letters, digits or `-`",
    );
    findings.ensure(
        known.traceparent,
        grammar::is_traceparent,
        RefusalReason::MalformedTraceparent,
        headers::TRACEPARENT,
        "must be version-traceid-parentid-flags in lower-case hexadecimal, as W3C Trace Context has it",
    );
    findings.ensure(
        known.priority,
        grammar::is_priority,
        RefusalReason::MalformedPriority,
        headers::X_PRIORITY,
        "must be P0, P1 or P2",
    );
    findings.ensure(
        known.sla,
        headers::is_name_value,
        RefusalReason::MalformedSla,
        headers::X_SLA,
        NAME,
    );
}

const NAME: &str = "must be 1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
const VERSION: &str =
    "must be 1 to 64 letters and digits, with single `.`, `_` or `-` between them, like v2 or 2026.11";

/// Those that the routing stage reads to decide. What only goes into the tag of a request (`x-trace-id`, `traceparent`) is
/// not among them: routing makes do without.
pub(super) fn check_for_routing(known: &Known<'_>, findings: &mut Findings<'_>) {
    findings.ensure(
        known.model,
        headers::is_name_value,
        RefusalReason::MalformedModel,
        headers::X_MODEL,
        NAME,
    );
    findings.ensure(
        known.model_version,
        headers::is_version_value,
        RefusalReason::MalformedModelVersion,
        headers::X_MODEL_VERSION,
        VERSION,
    );
    findings.ensure(
        known.canary_weight,
        |value| grammar::percent(value).is_some(),
        RefusalReason::MalformedCanaryWeight,
        headers::X_CANARY_WEIGHT,
        "must be an integer from 0 to 100",
    );
    findings.ensure(
        known.gpu_affinity,
        grammar::is_gpu_affinity,
        RefusalReason::MalformedGpuAffinity,
        headers::X_GPU_AFFINITY,
        "must be gpu0 to gpu9999 or any, then nothing, :high, :medium or :low, like gpu0:high",
    );
    findings.ensure(
        known.gpu_class,
        headers::is_name_value,
        RefusalReason::MalformedGpuClass,
        headers::X_GPU_CLASS,
        NAME,
    );
    let ids = [
        (known.user_id, RefusalReason::MalformedUserId, headers::X_USER_ID),
        (known.tenant_id, RefusalReason::MalformedTenantId, headers::X_TENANT_ID),
        (
            known.session_id,
            RefusalReason::MalformedSessionId,
            headers::X_SESSION_ID,
        ),
    ];
    for (value, reason, field) in ids {
        if let Some(value) = value {
            check_id(value, reason, field, findings);
        }
    }
}

fn check_id(value: &[u8], reason: RefusalReason, field: &str, findings: &mut Findings<'_>) {
    let max = headers::MAX_USER_ID_BYTES;
    if value.is_empty() || value.len() > max {
        let message = format_args!("must be 1 to {max} bytes long, is {}", value.len());
        findings.add(reason, field, message);
    } else if let Some(at) = value.iter().position(|byte| !headers::is_user_id_byte(*byte)) {
        let allowed = "letters, digits and . _ @ : + / = -";
        let message = format_args!("the character at position {} is not allowed; use {allowed}", at + 1);
        findings.add(reason, field, message);
    }
}
