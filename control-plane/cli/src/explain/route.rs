//! Why a request goes where it goes.

use super::Explained;
use crate::in_force::InForce;
use crate::request::Request;
use crate::shares::{self, Share};
use kilocard_policy::config::{RoutingPolicy, StickyKey};
use kilocard_policy::{CanaryOverride, Route, RouteReason, headers};
use serde_json::{Value, json};
use std::fmt::Write;

/// A route and what it was decided on.
pub(super) struct RouteInContext<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) request: &'a Request,
    pub(super) route: &'a Route<'a>,
    pub(super) random: Option<u64>,
}

impl RouteInContext<'_> {
    pub(super) fn explain(&self) -> Explained {
        let asked = self
            .request
            .get(headers::X_CANARY_WEIGHT)
            .and_then(|percent| percent.parse().ok());
        let shares = shares::of(&self.in_force.documents, self.route, asked);
        let Route {
            model,
            version,
            route_key,
            reason,
            ..
        } = self.route;
        let mut text = if self.is_drawn() {
            let each: Vec<String> = shares
                .iter()
                .map(|share| format!("{model}/{} {}%", share.version, share.percent()))
                .collect();
            format!("forwarded at random: {}\n", each.join(", "))
        } else {
            format!("forwarded to {route_key}\n")
        };
        let _ = writeln!(text, "  model    {model}{}", self.why_model());
        if !self.is_drawn() {
            let _ = writeln!(text, "  version  {version}");
        }
        let _ = writeln!(text, "  reason   {}: {}", reason.label(), self.why_version(&shares));
        for (name, value) in self.further() {
            let _ = writeln!(text, "  {name:<8} {value}");
        }
        Explained {
            text,
            data: self.data(),
            shares,
        }
    }

    /// Whether the version is drawn anew for every such request, and the draw was not given.
    fn is_drawn(&self) -> bool {
        self.route.reason == RouteReason::Weighted && self.random.is_none()
    }

    fn data(&self) -> Value {
        let mut data = json!(self.route);
        data["action"] = json!("forward");
        if self.is_drawn() {
            for of_the_draw in ["version", "route_key", "bucket", "instead_of"] {
                data[of_the_draw] = Value::Null;
            }
        }
        // Whether this very request would be copied is drawn, too.
        let shadow = self.policy().and_then(|policy| policy.shadow.as_ref());
        if self.random.is_none() {
            data["shadow"] = json!(shadow);
        }
        data
    }

    fn policy(&self) -> Option<&RoutingPolicy> {
        shares::policy_of(&self.in_force.documents, self.route.model)
    }

    /// What there is to say of rule, fallback, GPU, pool, shadow and tag.
    fn further(&self) -> Vec<(&'static str, String)> {
        let route = self.route;
        let mut lines = Vec::new();
        lines.extend(route.rule.map(|rule| ("rule", rule.to_owned())));
        let fallback = |wanted| {
            (
                "fallback",
                format!("{wanted} has no ready endpoint, so {} serves", route.version),
            )
        };
        lines.extend(route.instead_of.map(fallback));
        lines.extend(route.gpu.as_ref().map(|wish| ("gpu", wish.label.to_string())));
        let pool = route
            .pool
            .map(|pool| format!("{pool}, for a request of priority {}", route.priority));
        lines.extend(pool.map(|pool| ("pool", pool)));
        if let Some(shadow) = self.policy().and_then(|policy| policy.shadow.as_ref()) {
            let this_one = match (self.random, &route.shadow) {
                (None, _) => "",
                (Some(_), Some(_)) => "; this one is",
                (Some(_), None) => "; this one is not",
            };
            let copies = format!(
                "{} of the requests are copied to {}/{}, at most {} a second by each proxy{this_one}",
                shadow.percent, route.model, shadow.version, shadow.max_per_second
            );
            lines.push(("shadow", copies));
        }
        lines.extend(route.tag.clone().map(|tag| ("tag", tag)));
        lines
    }

    fn why_model(&self) -> &'static str {
        match self.request.get(headers::X_MODEL) {
            Some(_) => "",
            None => " (the default: no x-model was given)",
        }
    }

    fn why_version(&self, shares: &[Share]) -> String {
        let bucket = self.route.bucket.unwrap_or_default();
        let division: Vec<String> = shares.iter().map(Share::describe).collect();
        let division = format!("{}{}", division.join(", "), self.overridden());
        match self.route.reason {
            RouteReason::Pinned => "x-model-version names it".to_owned(),
            RouteReason::OnlyVersion => "the model has no other version".to_owned(),
            RouteReason::Sticky => {
                let salt = self.policy().map_or("", |policy| policy.salt.as_str());
                let header = self.sticky_header().unwrap_or("the caller");
                format!("{header} with salt {salt:?} falls into bucket {bucket}; {division}")
            }
            RouteReason::Weighted => match self.random {
                Some(random) => format!("random number {random} falls into bucket {bucket}; {division}"),
                None => format!("{}, so every request is drawn anew; {division}", self.why_drawn()),
            },
            other => other.label().to_owned(),
        }
    }

    /// The header by which the policy keeps this request's sender on a version.
    fn sticky_header(&self) -> Option<&'static str> {
        let keys = self.policy()?.sticky_by.iter().copied().map(header_of);
        keys.into_iter().find(|header| self.request.get(header).is_some())
    }

    fn why_drawn(&self) -> String {
        let keys = self.policy().map_or(&[][..], |policy| &policy.sticky_by);
        let headers: Vec<&str> = keys.iter().copied().map(header_of).collect();
        match headers.as_slice() {
            [] => "x-model-version is not given and the policy is not sticky".to_owned(),
            headers => format!("neither x-model-version nor {} is given", headers.join(" nor ")),
        }
    }

    /// Whether the weights are those of the policy.
    fn overridden(&self) -> &'static str {
        match (self.route.override_, self.request.get(headers::X_CANARY_WEIGHT)) {
            (CanaryOverride::Honoured, _) => "; the canary's weight is that of x-canary-weight",
            (CanaryOverride::Ignored, _) => "; x-canary-weight does not count for this caller",
            (CanaryOverride::None, Some(_)) => "; x-canary-weight does not count here",
            (CanaryOverride::None, None) => "",
        }
    }
}

fn header_of(key: StickyKey) -> &'static str {
    match key {
        StickyKey::User => headers::X_USER_ID,
        StickyKey::Tenant => headers::X_TENANT_ID,
        StickyKey::Session => headers::X_SESSION_ID,
    }
}
