//! `kilocard whois`: which version of each model somebody gets, and why.

use crate::args::WhoisArgs;
use crate::failure::Failure;
use crate::in_force::{self, InForce};
use crate::outcome::Outcome;
use crate::request::Request;
use crate::shares::{self, Share};
use crate::table::Table;
use kilocard_policy::config::{RoutingPolicy, StickyKey};
use kilocard_policy::{ModelRouting, Policy, RequestView, Route, Stages, Verdict, headers};
use kilocard_registry::connect::EtcdArgs;
use serde_json::{Value, json};

/// The method of the questions asked here; it matters to rules about methods only.
const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] for a model that no policy has, [`Failure::Refused`] for an id that requests may not carry.
pub async fn run(etcd: &EtcdArgs, args: &WhoisArgs) -> Result<Outcome, Failure> {
    let in_force = in_force::load(etcd, &args.files).await?;
    let who = Who {
        user: args.user.as_deref(),
        tenant: args.tenant.as_deref(),
        session: args.session.as_deref(),
    };
    whois(&in_force, who, args.model.as_deref())
}

/// Who is asked about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// As in `x-user-id`.
    pub user: Option<&'a str>,
    /// As in `x-tenant-id`.
    pub tenant: Option<&'a str>,
    /// As in `x-session-id`.
    pub session: Option<&'a str>,
}

impl<'a> Who<'a> {
    fn by(&self, key: StickyKey) -> Option<&'a str> {
        match key {
            StickyKey::User => self.user,
            StickyKey::Tenant => self.tenant,
            StickyKey::Session => self.session,
        }
    }

    fn request(&self, model: &str) -> Request {
        let given = [
            (headers::X_MODEL, Some(model)),
            (headers::X_USER_ID, self.user),
            (headers::X_TENANT_ID, self.tenant),
            (headers::X_SESSION_ID, self.session),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Request::new(PATH, &given.collect::<Vec<_>>())
    }
}

/// Answers for one user, tenant or session, for one or all models.
///
/// # Errors
/// As [`run`].
pub fn whois(in_force: &InForce, who: Who<'_>, model: Option<&str>) -> Result<Outcome, Failure> {
    let policy = &in_force.policy;
    let wanted = |candidate: &&ModelRouting| model.is_none_or(|name| name == candidate.name());
    let models: Vec<&ModelRouting> = policy.models().filter(wanted).collect();
    if let (Some(name), true) = (model, models.is_empty()) {
        return Err(no_such_model(policy, name));
    }
    let mut table = Table::new(&["MODEL", "VERSION", "REASON", "BUCKET", "RULE", "WHY"]);
    let mut values = Vec::new();
    for model in models {
        let request = who.request(model.name());
        let route = ask(policy, &request)?;
        let shares = shares::of(&in_force.documents, &route, None);
        let declared = shares::policy_of(&in_force.documents, model.name());
        let key = declared.and_then(|declared| sticky_key(declared, who));
        let bucket = route.bucket.map_or("-".to_owned(), |bucket| bucket.to_string());
        table.row([
            model.name(),
            if route.bucket.is_some() && key.is_none() {
                "any"
            } else {
                route.version
            },
            route.reason.label(),
            if key.is_some() { &bucket } else { "-" },
            route.rule.unwrap_or("-"),
            &why(model, key, &shares),
        ]);
        let drawn = route.bucket.is_some() && key.is_none();
        values.push(json!({
            "model": model.name(), "version": (!drawn).then_some(route.version), "reason": route.reason,
            "bucket": route.bucket.filter(|_| !drawn), "rule": route.rule, "sticky_by": key, "salt": model.salt(),
            "shares": shares.iter().map(Share::to_json).collect::<Value>(),
        }));
    }
    let text = if values.is_empty() {
        "no model has a policy\n".to_owned()
    } else {
        table.to_string()
    };
    let data = json!({
        "user": who.user, "tenant": who.tenant, "session": who.session, "policies": in_force.source, "models": values,
    });
    Ok(Outcome::new(text, data).with_warnings(in_force.warnings.clone()))
}

fn no_such_model(policy: &Policy, name: &str) -> Failure {
    let names: Vec<&str> = policy.models().map(ModelRouting::name).collect();
    let there = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Failure::NotFound(format!(
        "no policy routes model {name:?}; models with a policy: {there}"
    ))
}

/// By what the policy keeps them on a version, if by anything that is known.
fn sticky_key(policy: &RoutingPolicy, who: Who<'_>) -> Option<StickyKey> {
    policy.sticky_by.iter().copied().find(|key| who.by(*key).is_some())
}

/// Only routing is asked: who has which version does not depend on what a whole request has to carry.
fn ask<'p>(policy: &'p Policy, request: &Request) -> Result<Route<'p>, Failure> {
    let pairs = request.pairs();
    match policy
        .decide_stages(Stages::ROUTING, &RequestView::new(&pairs), 0)
        .verdict
    {
        Verdict::Route(route) => Ok(route),
        Verdict::Pass => Err(Failure::Refused("the policy did not route the request".to_owned())),
        Verdict::Refuse(refusal) => Err(Failure::Refused(format!(
            "their requests are refused: {}",
            refusal.message
        ))),
    }
}

fn why(model: &ModelRouting, key: Option<StickyKey>, shares: &[Share]) -> String {
    if shares.is_empty() {
        return "the model has no other version".to_owned();
    }
    let division: Vec<String> = shares.iter().map(Share::describe).collect();
    let how = match key {
        Some(key) => format!("by {}, salt {:?}", key.as_str(), model.salt()),
        None => "drawn anew for every request".to_owned(),
    };
    format!("{}; {how}", division.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::in_force;

    fn user(user: &str) -> Who<'_> {
        Who {
            user: Some(user),
            ..Who::default()
        }
    }

    #[test]
    fn a_user_gets_one_version_of_each_model_and_the_bucket_that_says_so() {
        let in_force = in_force();
        let outcome = whois(&in_force, user("ada"), None).unwrap();
        let models = outcome.data["models"].as_array().unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!(
            (&models[0]["model"], &models[0]["reason"]),
            (&json!("bert"), &json!("ONLY_VERSION"))
        );
        let bucket = models[1]["bucket"].as_u64().unwrap();
        let expected = if bucket < 1000 { "v2" } else { "v1" };
        assert_eq!(models[1]["version"], expected);
        let division = "v2 has buckets 0 to 999 (10%), v1 has buckets 1000 to 9999 (90%); by user";
        assert!(outcome.text.contains(division), "{}", outcome.text);
    }

    #[test]
    fn one_in_ten_users_is_on_the_canary_of_ten_percent() {
        let in_force = in_force();
        let on_canary = (0..1000)
            .filter(|number| {
                let outcome = whois(&in_force, user(&format!("user-{number}")), Some("minilm")).unwrap();
                outcome.data["models"][0]["version"] == "v2"
            })
            .count();
        assert!((60..=140).contains(&on_canary), "{on_canary} of 1000");
    }

    #[test]
    fn somebody_whom_the_policy_does_not_know_by_is_drawn_anew() {
        let who = Who {
            session: Some("s-1"),
            ..Who::default()
        };
        let outcome = whois(&in_force(), who, Some("minilm")).unwrap();
        let model = &outcome.data["models"][0];
        assert_eq!(
            (&model["version"], &model["bucket"], &model["sticky_by"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert!(
            outcome.text.contains("drawn anew for every request"),
            "{}",
            outcome.text
        );
    }

    #[test]
    fn an_unknown_model_and_an_impossible_user_are_told_apart() {
        let in_force = in_force();
        let error = whois(&in_force, user("ada"), Some("gpt")).unwrap_err();
        assert!(error.to_string().contains("bert, minilm"), "{error}");
        let error = whois(&in_force, user("a b"), None).unwrap_err();
        assert_eq!((error.label(), error.exit_code()), ("refused", 1));
        assert!(error.to_string().contains("x-user-id"), "{error}");
    }
}
