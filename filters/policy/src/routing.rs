//! The routing stage: model → exact pin, or rule → split by sticky cohort or at random → canary override → readiness and
//! fallbacks → GPU class → priority and pool → shadow.

mod draw;
mod gpu;
#[cfg(test)]
mod tests;

pub(crate) use draw::captures;

use crate::caller::{Caller, Callers};
use crate::cohort::{self, Key};
use crate::config::StickyKey;
use crate::decision::{CanaryOverride, GrpcStatus, Reached, Refusal, RefusalReason, Route, RouteReason, ShadowCopy};
use crate::headers;
use crate::known::Known;
use crate::policy::{ModelRouting, Policy, Rule, VersionRouting};
use crate::request::{RequestView, without_query};
use crate::validation;

/// A request whose headers have passed their grammar.
struct Asking<'a, 'k> {
    request: &'k RequestView<'a>,
    known: &'k Known<'a>,
    /// Uniform over all of `u64`.
    random: u64,
}

/// The version that a request is for, and why.
struct Wanted<'p> {
    version: &'p VersionRouting,
    reason: RouteReason,
    bucket: Option<u16>,
    override_: CanaryOverride,
}

/// Where a request goes whose headers have passed their grammar. `random` is uniform over all of `u64`.
pub(crate) fn route<'p>(
    policy: &'p Policy,
    request: &RequestView<'_>,
    known: &Known<'_>,
    random: u64,
) -> Result<Route<'p>, Box<Refusal<'p>>> {
    let asking = Asking { request, known, random };
    let model = choose_model(policy, known.model)?;
    let path = known.path.map(without_query).unwrap_or_default();
    let rule = model.rules().first(request, asking.key(StickyKey::Tenant), path);
    let wanted = asking.want(model, rule)?;
    let mut reached = Reached {
        model: Some(model.name()),
        rule: rule.map(Rule::name),
        version: Some(wanted.version.name()),
        bucket: wanted.bucket,
    };
    let version = settle(model, &wanted).map_err(|refusal| at(reached, refusal))?;
    reached.version = Some(version.name());
    let gpu = gpu::wish(policy, model, rule, known).map_err(|refusal| at(reached, refusal))?;
    let urgency = rule.and_then(Rule::urgency).unwrap_or(model.urgency());
    let priority = urgency.of(known.priority);
    Ok(Route {
        model: model.name(),
        version: version.name(),
        route_key: version.route_key(),
        reason: wanted.reason,
        bucket: wanted.bucket,
        rule: reached.rule,
        instead_of: (version.name() != wanted.version.name()).then_some(wanted.version.name()),
        override_: wanted.override_,
        priority,
        pool: model.pools().of(priority, known.sla),
        tag: gpu::tag(known, gpu.as_ref()),
        gpu,
        shadow: shadow(model, version, random),
    })
}

impl Asking<'_, '_> {
    /// The version to go to if it is ready.
    fn want<'p>(&self, model: &'p ModelRouting, rule: Option<&'p Rule>) -> Result<Wanted<'p>, Box<Refusal<'p>>> {
        let certain = |version, reason| Wanted {
            version,
            reason,
            bucket: None,
            override_: CanaryOverride::None,
        };
        if let Some(pin) = self.known.model_version {
            let version = model.version(pin).ok_or_else(|| no_such_version(model, pin))?;
            return Ok(certain(version, RouteReason::Pinned));
        }
        if model.versions().len() == 1 {
            return Ok(certain(model.stable(), RouteReason::OnlyVersion));
        }
        let sticky = model.sticky_by().iter().find_map(|by| self.key(*by));
        let (bucket, reason) = match sticky {
            Some(key) => (cohort::bucket(model.salted(), key), RouteReason::Sticky),
            None => (cohort::scale(self.random), RouteReason::Weighted),
        };
        let (version, override_) = match validation::canary_percent(self.known) {
            Some(percent) if self.may_override(model) => {
                (model.at_canary_percent(bucket, percent), CanaryOverride::Honoured)
            }
            asked => {
                let split = rule.and_then(Rule::split);
                let version = split.map_or_else(|| model.at(bucket), |split| model.at_split(split, bucket));
                let ignored = asked.map_or(CanaryOverride::None, |_| CanaryOverride::Ignored);
                (version, ignored)
            }
        };
        Ok(Wanted {
            version,
            reason,
            bucket: Some(bucket),
            override_,
        })
    }

    fn may_override(&self, model: &ModelRouting) -> bool {
        model.honours_canary_weight()
            && match self.request.replayed() {
                // Who called is not in a capture; whether it counted is.
                Some(replayed) => replayed.may_override || matches!(model.override_by(), Callers::Anyone),
                None => model.override_by().admit(&Caller::new(self.request.peer())),
            }
    }

    /// Who asks, in one of the ways in which callers stay together.
    fn key(&self, by: StickyKey) -> Option<Key> {
        let (name, value) = match by {
            StickyKey::User => (headers::X_USER_ID, self.known.user_id),
            StickyKey::Tenant => (headers::X_TENANT_ID, self.known.tenant_id),
            StickyKey::Session => (headers::X_SESSION_ID, self.known.session_id),
        };
        Some(self.request.key_of(name.as_bytes(), value?))
    }
}

/// The version that serves: the one wanted if it is ready, else its first fallback that is.
fn settle<'p>(model: &'p ModelRouting, wanted: &Wanted<'p>) -> Result<&'p VersionRouting, Box<Refusal<'p>>> {
    let version = wanted.version;
    if version.is_ready() {
        return Ok(version);
    }
    let is_pinned = wanted.reason == RouteReason::Pinned;
    let may_fall_back = !is_pinned || model.pinned_fallback();
    if may_fall_back && let Some(fallback) = model.fallback_of(version) {
        return Ok(fallback);
    }
    let field = if is_pinned {
        headers::X_MODEL_VERSION
    } else {
        headers::X_MODEL
    };
    let fallbacks = model.fallbacks_of(version);
    let otherwise = if is_pinned && !may_fall_back {
        "a pinned request does not fall back".to_owned()
    } else if fallbacks.is_empty() {
        "it has no fallback".to_owned()
    } else {
        format!("nor has a fallback, {}", list(fallbacks.into_iter()))
    };
    let message = format!(
        "version {} of model {} has no ready endpoint, and {otherwise}; try again later",
        version.name(),
        model.name()
    );
    Err(refuse(
        GrpcStatus::Unavailable,
        RefusalReason::VersionNotReady,
        field,
        message,
    ))
}

/// In a box: refusals are rare, and large beside a route.
fn refuse<'p>(
    status: GrpcStatus,
    reason: RefusalReason,
    field: &str,
    message: impl std::fmt::Display,
) -> Box<Refusal<'p>> {
    Box::new(Refusal::new(status, reason, field, message))
}

fn at<'p>(reached: Reached<'p>, mut refusal: Box<Refusal<'p>>) -> Box<Refusal<'p>> {
    refusal.reached = reached;
    refusal
}

/// Where a copy goes, if this request is in the sample and the target can take it.
fn shadow<'p>(model: &'p ModelRouting, serving: &VersionRouting, random: u64) -> Option<ShadowCopy<'p>> {
    let shadow = model.shadow()?;
    let target = model.versions().get(shadow.version)?;
    let is_useful = target.is_ready() && !target.is_saturated() && target.name() != serving.name();
    (is_useful && draw::shadows(random, shadow.percent)).then_some(ShadowCopy {
        route_key: target.route_key(),
        max_per_second: shadow.max_per_second,
    })
}

fn choose_model<'p>(policy: &'p Policy, asked: Option<&[u8]>) -> Result<&'p ModelRouting, Box<Refusal<'p>>> {
    if let Some(name) = asked {
        return policy.model(name).ok_or_else(|| {
            let message = format!("there is no model {}; {}", checked(name), list_models(policy));
            refuse(
                GrpcStatus::NotFound,
                RefusalReason::ModelNotFound,
                headers::X_MODEL,
                message,
            )
        });
    }
    policy.default_model().ok_or_else(|| {
        // With no model at all the client can do nothing about it, so it is not its argument that is wrong.
        let status = if policy.models().len() == 0 {
            GrpcStatus::NotFound
        } else {
            GrpcStatus::InvalidArgument
        };
        let message = format!("is required, for no model is the default; {}", list_models(policy));
        refuse(status, RefusalReason::ModelRequired, headers::X_MODEL, message)
    })
}

fn no_such_version<'p>(model: &'p ModelRouting, pin: &[u8]) -> Box<Refusal<'p>> {
    let versions = list(model.versions().iter().map(VersionRouting::name));
    let message = format!(
        "model {} has no version {}; it has {versions}",
        model.name(),
        checked(pin)
    );
    let status = GrpcStatus::NotFound;
    let mut refusal = refuse(
        status,
        RefusalReason::VersionNotFound,
        headers::X_MODEL_VERSION,
        message,
    );
    refusal.reached.model = Some(model.name());
    refusal
}

fn list_models(policy: &Policy) -> String {
    if policy.models().len() == 0 {
        return "there are no models".to_owned();
    }
    format!("there are {}", list(policy.models().map(ModelRouting::name)))
}

/// Names for a message, as many as a header can reasonably hold.
fn list<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 16;
    let left_out = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> = names.take(SHOWN).collect();
    let shown = shown.join(", ");
    if left_out == 0 {
        shown
    } else {
        format!("{shown} and {left_out} more")
    }
}

/// A value that has passed the grammar of names, so it is short ASCII and may be shown.
fn checked(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}
