//! The routing stage: exact pin > sticky cohort > weights.

use crate::cohort::{self, Key};
use crate::decision::{CanaryOverride, GrpcStatus, Refusal, RefusalReason, Route, RouteReason};
use crate::headers;
use crate::known::Known;
use crate::policy::{ModelRouting, Policy, VersionRouting};
use crate::validation;

#[cfg(test)]
mod tests;

/// Where a request goes whose headers have passed their grammar. `random` is uniform over all of `u64`.
pub(crate) fn route<'p>(policy: &'p Policy, known: &Known<'_>, random: u64) -> Result<Route<'p>, Refusal<'p>> {
    let model = choose_model(policy, known.model)?;
    if let Some(pin) = known.model_version {
        let version = model.version(pin).ok_or_else(|| no_such_version(model, pin))?;
        return Ok(along(model, version, RouteReason::Pinned, None));
    }
    if model.versions().len() == 1 {
        return Ok(along(model, model.stable(), RouteReason::OnlyVersion, None));
    }
    let (bucket, reason) = match known.user_id {
        Some(user) => (cohort::bucket(model.salted(), Key::of(user)), RouteReason::Sticky),
        None => (cohort::scale(random), RouteReason::Weighted),
    };
    let (version, override_) = match validation::canary_percent(known) {
        None => (model.at(bucket), CanaryOverride::None),
        Some(percent) if model.honours_canary_weight() => {
            (model.at_canary_percent(bucket, percent), CanaryOverride::Honoured)
        }
        Some(_) => (model.at(bucket), CanaryOverride::Ignored),
    };
    Ok(Route {
        override_,
        ..along(model, version, reason, Some(bucket))
    })
}

fn along<'p>(
    model: &'p ModelRouting,
    version: &'p VersionRouting,
    reason: RouteReason,
    bucket: Option<u16>,
) -> Route<'p> {
    Route {
        model: model.name(),
        version: version.name(),
        route_key: version.route_key(),
        reason,
        bucket,
        rule: None,
        instead_of: None,
        override_: CanaryOverride::None,
        gpu: None,
        shadow: None,
        tag: None,
    }
}

fn choose_model<'p>(policy: &'p Policy, asked: Option<&[u8]>) -> Result<&'p ModelRouting, Refusal<'p>> {
    if let Some(name) = asked {
        return policy.model(name).ok_or_else(|| {
            let message = format!("there is no model {}; {}", checked(name), list_models(policy));
            Refusal::new(
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
        Refusal::new(status, RefusalReason::ModelRequired, headers::X_MODEL, message)
    })
}

fn no_such_version<'p>(model: &'p ModelRouting, pin: &[u8]) -> Refusal<'p> {
    let versions = list(model.versions().iter().map(VersionRouting::name));
    let message = format!(
        "model {} has no version {}; it has {versions}",
        model.name(),
        checked(pin)
    );
    let status = GrpcStatus::NotFound;
    let mut refusal = Refusal::new(
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
