//! What the policies in force say and gRPC clients do not do, so that nobody takes silence for agreement.

use super::{is_ambiguous, rule};
use crate::model::Mesh;
use crate::snapshot::GATEWAY;
use kilocard_policy::config::{Document, RoutingPolicy, Spec};
use kilocard_registry::report::ProxylessLimit;

/// All of them, by policy in the order of names, then by worker.
pub fn of(mesh: &Mesh) -> Vec<ProxylessLimit> {
    let documents = mesh.policies.values().map(|policy| policy.document.as_ref());
    documents.flat_map(of_document).chain(of_workers(mesh)).collect()
}

fn of_document(document: &Document) -> Vec<ProxylessLimit> {
    let found = match document.spec() {
        Spec::Routing(policy) => of_routing(policy),
        Spec::Validation(_) => vec![("spec".to_owned(), "requests are not validated".to_owned())],
        Spec::Pool(_) => vec![("spec".to_owned(), "all requests of a version share one pool".to_owned())],
        _ => Vec::new(),
    };
    let of = |(field, effect)| ProxylessLimit {
        of: document.id(),
        field,
        effect,
    };
    found.into_iter().map(of).collect()
}

fn of_routing(policy: &RoutingPolicy) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut tell = |field: String, effect: String| found.push((field, effect));
    if policy.model == GATEWAY {
        let effect = format!("xds:///{GATEWAY} is for all models; this one has no target of its own");
        tell("spec.model".to_owned(), effect);
    }
    if policy.versions.len() > 1 {
        if !policy.sticky_by.is_empty() {
            let effect = "callers do not stay on a version: each request is drawn anew, by the same weights";
            tell("spec.sticky_by".to_owned(), effect.to_owned());
        }
        if !policy.canary_override.is_empty() {
            let effect = "x-canary-weight counts for nobody";
            tell("spec.canary_override".to_owned(), effect.to_owned());
        }
        for (index, declared) in policy.rules.iter().enumerate() {
            if let Err(why) = rule::check(&declared.match_) {
                let effect = format!("rule {} does not count: {why}", declared.name);
                tell(format!("spec.rules[{index}].match"), effect);
            }
        }
    }
    if policy.shadow.is_some() {
        tell("spec.shadow".to_owned(), "no request is copied".to_owned());
    }
    if policy.gpu.is_some() || policy.rules.iter().any(|rule| rule.gpu.is_some()) {
        let effect = "requests get any GPU that serves their version, by its weight";
        tell("spec.gpu".to_owned(), effect.to_owned());
    }
    found
}

fn of_workers(mesh: &Mesh) -> impl Iterator<Item = ProxylessLimit> {
    mesh.workers.values().filter_map(|worker| {
        let twice = worker.models.iter().find(|served| is_ambiguous(worker, &served.model))?;
        Some(ProxylessLimit {
            of: format!("worker {}", worker.id),
            field: "models".to_owned(),
            effect: format!(
                "is not offered for {}: it serves several versions of it, and gRPC clients cannot tell it which is meant; \
                 give each version a worker of its own",
                twice.model
            ),
        })
    })
}
