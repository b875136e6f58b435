//! What a document says, in a few words.

use kilocard_policy::config::{
    AdmissionPolicy, Document, LimitScope, MeshPolicy, PoolPolicy, RateLimitPolicy, RoutingPolicy, RuleAction,
    ScalePolicy, Spec, TimeoutPolicy, ValidationPolicy, WeightPolicy,
};

/// For a cell of a table.
pub fn summarise(document: &Document) -> String {
    let parts = match document.spec() {
        Spec::Routing(routing) => summarise_routing(routing),
        Spec::Validation(validation) => summarise_validation(validation),
        Spec::Mesh(mesh) => summarise_mesh(mesh),
        Spec::Pool(pool) => summarise_pool(pool),
        Spec::Weights(weights) => summarise_weights(weights),
        Spec::RateLimit(limits) => summarise_rate_limits(limits),
        Spec::Admission(admission) => summarise_admission(admission),
        Spec::Scale(scale) => summarise_scale(scale),
        Spec::Timeouts(timeouts) => summarise_timeouts(timeouts),
        _ => Vec::new(),
    };
    if parts.is_empty() {
        return "says nothing".to_owned();
    }
    parts.join("; ")
}

fn summarise_routing(routing: &RoutingPolicy) -> Vec<String> {
    let shares: Vec<String> = routing
        .versions
        .iter()
        .map(|version| format!("{} {}", version.version, version.weight))
        .collect();
    let default = if routing.default { " (default)" } else { "" };
    let mut parts = vec![format!("{}{default}: {}", routing.model, shares.join(", "))];
    if let Some(shadow) = &routing.shadow {
        parts.push(format!("shadow {} {}", shadow.version, shadow.percent));
    }
    if let Some(gpu) = &routing.gpu {
        parts.push(format!("GPU {}", gpu.class));
    }
    parts.extend(count(routing.rules.len(), "rule", "rules"));
    parts
}

fn summarise_validation(validation: &ValidationPolicy) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(limits) = &validation.limits {
        parts.push(format!(
            "value ≤ {} B, headers ≤ {}, total ≤ {} B",
            limits.max_header_value_bytes, limits.max_headers, limits.max_headers_total_bytes
        ));
    }
    let sections = [
        (validation.protocols.is_some(), "protocols"),
        (validation.methods.is_some(), "methods"),
        (validation.internal_headers.is_some(), "internal headers"),
        (validation.refusal.is_some(), "refusal"),
        (validation.report_only.is_some(), "report-only checks"),
    ];
    parts.extend(
        sections
            .iter()
            .filter(|(given, _)| *given)
            .map(|(_, name)| (*name).to_owned()),
    );
    let reporting = validation
        .rules
        .iter()
        .filter(|rule| rule.action == RuleAction::Report)
        .count();
    parts.extend(
        count(validation.rules.len(), "rule", "rules").map(|rules| match reporting {
            0 => rules,
            some => format!("{rules} ({some} report-only)"),
        }),
    );
    parts
}

fn summarise_mesh(mesh: &MeshPolicy) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(
        mesh.callers
            .as_ref()
            .and_then(|callers| count(callers.len(), "group of callers", "groups of callers")),
    );
    parts.extend(
        mesh.gpu_classes
            .as_ref()
            .and_then(|classes| count(classes.len(), "GPU class", "GPU classes")),
    );
    if let Some(record) = &mesh.decision_record {
        let whether = if record.response_header { "with" } else { "without" };
        parts.push(format!("responses {whether} decision record"));
    }
    parts.extend(
        mesh.capture
            .as_ref()
            .map(|capture| format!("capture {}", capture.percent)),
    );
    parts
}

fn summarise_pool(pool: &PoolPolicy) -> Vec<String> {
    let takes = pool.match_.as_ref().map_or_else(
        || "what no other pool takes".to_owned(),
        |takes| {
            let words = |words: &[&str]| words.join(" or ");
            let types: Vec<_> = takes.model_types.iter().map(|of| of.as_str()).collect();
            let priorities: Vec<_> = takes.priorities.iter().map(|of| of.as_str()).collect();
            let sla: Vec<_> = takes.sla.iter().map(|sla| format!("SLA {sla}")).collect();
            let parts = [
                takes.models.join(" or "),
                words(&types),
                sla.join(" or "),
                words(&priorities),
            ];
            let given: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            given.join(", ")
        },
    );
    let limits = &pool.limits;
    vec![
        takes,
        format!(
            "≤ {} requests, {} waiting, {} connections",
            limits.max_requests, limits.max_pending_requests, limits.max_connections
        ),
    ]
}

fn summarise_weights(weights: &WeightPolicy) -> Vec<String> {
    let mut parts = vec![weights.model.clone().unwrap_or_else(|| "all models".to_owned())];
    let sections = [
        (weights.memory.is_some(), "memory"),
        (weights.load.is_some(), "load"),
        (weights.thermal.is_some(), "thermal"),
        (weights.links.is_some(), "links"),
        (weights.smoothing.is_some(), "smoothing"),
        (weights.staleness.is_some(), "staleness"),
        (weights.publication.is_some(), "publication"),
        (weights.slow_start.is_some(), "slow start"),
        (weights.capacity.is_some(), "capacity"),
        (weights.faults.is_some(), "faults"),
        (weights.locality.is_some(), "locality"),
        (weights.spillover.is_some(), "spill-over"),
        (weights.fatal_xids.is_some(), "fatal XIDs"),
    ];
    let given = sections.iter().filter(|(given, _)| *given);
    parts.extend(given.map(|(_, name)| (*name).to_owned()));
    let cards = weights.cards.as_ref().map_or(0, Vec::len);
    parts.extend(count(cards, "card", "cards"));
    parts
}

fn summarise_admission(admission: &AdmissionPolicy) -> Vec<String> {
    let memory = admission.memory.as_ref().map_or_else(
        || "memory is no condition".to_owned(),
        |memory| {
            format!(
                "{} B a request, {} B a token",
                memory.bytes_per_request, memory.bytes_per_token
            )
        },
    );
    vec![admission.model.clone(), memory]
}

fn summarise_timeouts(timeouts: &TimeoutPolicy) -> Vec<String> {
    let of = |what: &str, floor_ms: u32, ceiling_ms: u32| format!("{what} {floor_ms} to {ceiling_ms} ms");
    let mut parts = vec![
        timeouts.model.clone(),
        of("unary", timeouts.unary.floor_ms, timeouts.unary.ceiling_ms),
        of(
            "first message",
            timeouts.first_message.floor_ms,
            timeouts.first_message.ceiling_ms,
        ),
        of("gap", timeouts.gap.floor_ms, timeouts.gap.ceiling_ms),
    ];
    if timeouts.shadow {
        parts.push("only counted".to_owned());
    }
    parts
}

fn summarise_rate_limits(policy: &RateLimitPolicy) -> Vec<String> {
    let limits = policy.limits.iter().map(|limit| {
        let unit = limit.unit.as_str().replace('_', " ");
        format!("{} {unit}/{} (burst {})", limit.rate, limit.per, limit.burst)
    });
    let mut parts: Vec<_> = limits.collect();
    if !policy.by.is_empty() {
        let by: Vec<_> = policy.by.iter().map(|part| part.as_str()).collect();
        parts.push(format!("by {}", by.join(", ")));
    }
    parts.push(match policy.scope {
        LimitScope::Proxy => "in each proxy".to_owned(),
        LimitScope::Mesh => "in all proxies together".to_owned(),
    });
    if policy.shadow {
        parts.push("only counted".to_owned());
    }
    parts
}

fn summarise_scale(scale: &ScalePolicy) -> Vec<String> {
    let of = scale
        .version
        .as_ref()
        .map_or_else(|| scale.model.clone(), |version| format!("{}/{version}", scale.model));
    let targets = &scale.targets;
    let mut parts = vec![format!("{of}: {} to {}", scale.min_replicas, scale.max_replicas)];
    parts.extend(targets.qps_per_replica.map(|rate| format!("{rate} requests/s")));
    parts.extend(targets.memory_percent.map(|percent| format!("memory {percent}%")));
    parts.extend(targets.queue_per_replica.map(|queue| format!("queue {queue}")));
    parts
}

/// `3 rules`; nothing for none.
fn count(number: usize, one: &str, more: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{number} {more}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_policy::config::parse;
    use serde_json::{Value, json};

    fn summary(kind: &str, spec: &Value) -> String {
        let document = json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        summarise(&parse(&document).unwrap())
    }

    #[test]
    fn every_kind_says_what_it_holds() {
        let versions = json!([{"version": "v1", "weight": 87.5}, {"version": "v2", "weight": 12.5}]);
        assert_eq!(
            summary(
                "RoutingPolicy",
                &json!({
                "model": "m", "default": true, "versions": versions,
                "shadow": {"version": "v2", "percent": 5, "max_per_second": 20},
                "rules": [{"name": "r", "match": {"tenants": ["t"]}, "gpu": {"class": "hopper"}}]})
            ),
            "m (default): v1 87.5%, v2 12.5%; shadow v2 5%; 1 rule"
        );
        assert_eq!(
            summary(
                "ValidationPolicy",
                &json!({
                "protocols": {"grpc_web": "accept"},
                "rules": [{"name": "a", "header": "x-a", "required": true, "action": "report"},
                          {"name": "b", "header": "x-b", "required": true}]})
            ),
            "protocols; 2 rules (1 report-only)"
        );
        assert_eq!(
            summary(
                "MeshPolicy",
                &json!({
                "gpu_classes": [{"name": "a", "select": {"nvlink": true}}, {"name": "b", "select": {"zones": ["z"]}}],
                "decision_record": {"response_header": true}, "capture": {"percent": 1}})
            ),
            "2 GPU classes; responses with decision record; capture 1%"
        );
        let weights = json!({"model": "m", "memory": {}, "cards": [{"product": "L4", "capacity": 60}]});
        assert_eq!(summary("WeightPolicy", &weights), "m; memory; 1 card");
        let scale = json!({"model": "m", "version": "v1", "max_replicas": 8,
            "targets": {"qps_per_replica": 50, "memory_percent": 85}});
        assert_eq!(
            summary("ScalePolicy", &scale),
            "m/v1: 1 to 8; 50 requests/s; memory 85%"
        );
        assert_eq!(summary("MeshPolicy", &json!({})), "says nothing");
        assert_eq!(
            summary(
                "PoolPolicy",
                &json!({
                "match": {"model_types": ["llm", "rerank"], "sla": ["gold"], "priorities": ["P0"]},
                "limits": {"max_requests": 64}})
            ),
            "llm or rerank, SLA gold, P0; ≤ 64 requests, 16384 waiting, 4096 connections"
        );
    }
}
