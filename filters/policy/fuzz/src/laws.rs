//! What holds for every decision.

use kilocard_policy::record::{MAX_RECORD_BYTES, Record};
use kilocard_policy::{Decision, Finding, MAX_FINDINGS, Policy, Refusal, RequestView, Route, Stages, Verdict};

use super::details;

/// As many bytes as gRPC clients surely take for the details of an error: they allow 8 KiB for all trailers.
const LONGEST_DETAILS: usize = 6 * 1024;

/// As many bytes as a message to a client may have: it travels in a header.
const LONGEST_MESSAGE: usize = 4096;

/// Decides, and holds the decision against the laws.
pub(crate) fn decide<'p>(policy: &'p Policy, stages: Stages, view: &RequestView<'_>, random: u64) -> Decision<'p> {
    let decision = policy.decide_stages(stages, view, random);
    let again = policy.decide_stages(stages, view, random);
    assert_eq!(decision, again, "the same request is decided in two ways");
    check(policy, &decision);
    decision
}

/// Holds a decision of this policy against the laws.
pub(crate) fn check(policy: &Policy, decision: &Decision<'_>) {
    check_findings(&decision.findings);
    let record = check_record(policy, decision);
    match &decision.verdict {
        Verdict::Pass => {}
        Verdict::Route(route) => check_route(policy, route),
        Verdict::Refuse(refusal) => {
            check_refusal(refusal);
            details::check(refusal, &record);
            assert!(kilocard_policy::details::refusal_status(refusal, &record).len() <= LONGEST_DETAILS);
        }
    }
}

/// It fits a header, and is read back as it was written.
fn check_record<'d>(policy: &'d Policy, decision: &'d Decision<'_>) -> Record<'d> {
    let record = Record::of(policy.revision(), decision);
    let line = record.to_string();
    assert!(is_printable(&line) && line.len() <= MAX_RECORD_BYTES, "{line:?}");
    let read = Record::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(read.to_string(), line);
    // Of a long one something is left out.
    assert!(
        read == record || line.len() > MAX_RECORD_BYTES / 2,
        "{record:?} became {line}"
    );
    record
}

fn check_route(policy: &Policy, route: &Route<'_>) {
    let model = policy
        .model(route.model.as_bytes())
        .expect("the model is one of the policy's");
    let mut versions = model.versions().iter();
    assert!(versions.any(|version| version.name() == route.version), "{route:?}");
    assert_eq!(route.route_key, format!("{}/{}", route.model, route.version));
    assert!(
        route
            .bucket
            .is_none_or(|bucket| bucket < kilocard_policy::cohort::BUCKETS),
        "{route:?}"
    );
    assert!(
        route
            .tag
            .as_deref()
            .is_none_or(|tag| is_printable(tag) && tag.len() <= 128),
        "{route:?}"
    );
    if let Some(gpu) = &route.gpu {
        assert!(is_printable(&gpu.label) && is_printable(&gpu.subset), "{route:?}");
    }
    if let Some(shadow) = route.shadow {
        assert_ne!(shadow.route_key, route.route_key, "a shadow of itself");
        assert!(shadow.route_key.starts_with(&format!("{}/", route.model)), "{route:?}");
    }
    assert_ne!(route.instead_of, Some(route.version), "its own fallback");
}

fn check_refusal(refusal: &Refusal<'_>) {
    check_findings(&refusal.violations);
    let first = refusal.violations.first().expect("a refusal has a violation");
    assert_eq!(
        (first.reason, &first.field, &first.message),
        (refusal.reason, &refusal.field, &refusal.message)
    );
}

fn check_findings(findings: &[Finding<'_>]) {
    assert!(findings.len() <= MAX_FINDINGS, "{} findings", findings.len());
    for finding in findings {
        assert!(is_printable(&finding.field), "{finding:?}");
        assert!(is_printable(&finding.message), "{finding:?}");
        assert!(finding.message.starts_with(&finding.field), "{finding:?}");
        assert!(
            finding.message.len() <= LONGEST_MESSAGE,
            "{} bytes",
            finding.message.len()
        );
    }
}

/// Fit for a header's value: printable ASCII and not empty.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}
