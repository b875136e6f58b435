//! `kilocard whois`: which version of each model a user gets, and why.

use crate::args::WhoisArgs;
use crate::explain::Request;
use crate::failure::Failure;
use crate::in_force::{self, InForce};
use crate::outcome::Outcome;
use crate::shares::{self, Share};
use crate::table::Table;
use kilocard_policy::{ModelRouting, Policy, RequestView, Route, Verdict, headers};
use kilocard_registry::connect::EtcdArgs;
use serde_json::{Value, json};

/// The method of the questions asked here; which one does not matter to routing.
const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] for a model that no policy has, [`Failure::Refused`] for a user id that requests may not carry.
pub async fn run(etcd: &EtcdArgs, args: &WhoisArgs) -> Result<Outcome, Failure> {
    let in_force = in_force::load(etcd, &args.files).await?;
    whois(&in_force, &args.user, args.model.as_deref())
}

/// Answers for one user, for one or all models.
///
/// # Errors
/// As [`run`].
pub fn whois(in_force: &InForce, user: &str, model: Option<&str>) -> Result<Outcome, Failure> {
    let policy = &in_force.policy;
    let models: Vec<&ModelRouting> = policy
        .models()
        .filter(|candidate| model.is_none_or(|name| name == candidate.name()))
        .collect();
    if let (Some(name), true) = (model, models.is_empty()) {
        let names: Vec<&str> = policy.models().map(ModelRouting::name).collect();
        let there = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        return Err(Failure::NotFound(format!(
            "no policy routes model {name:?}; models with a policy: {there}"
        )));
    }
    let mut table = Table::new(&["MODEL", "VERSION", "REASON", "BUCKET", "WHY"]);
    let mut values = Vec::new();
    for model in models {
        let given = [headers::X_MODEL, headers::X_USER_ID].map(str::to_owned);
        let request = Request::new(
            PATH,
            &[
                (given[0].clone(), model.name().to_owned()),
                (given[1].clone(), user.to_owned()),
            ],
        );
        let (route, shares) = ask(policy, &request)?;
        let bucket = route.bucket.map_or("-".to_owned(), |bucket| bucket.to_string());
        table.row([
            model.name(),
            route.version,
            route.reason.label(),
            &bucket,
            &why(model, &shares),
        ]);
        values.push(json!({
            "model": model.name(), "version": route.version, "reason": route.reason, "bucket": route.bucket,
            "salt": model.salt(), "shares": shares.iter().map(Share::to_json).collect::<Value>(),
        }));
    }
    let text = if values.is_empty() {
        "no model has a policy\n".to_owned()
    } else {
        table.to_string()
    };
    let data = json!({"user": user, "policies": in_force.source, "models": values});
    Ok(Outcome::new(text, data).with_warnings(in_force.warnings.clone()))
}

fn ask<'p>(policy: &'p Policy, request: &Request) -> Result<(Route<'p>, Vec<Share>), Failure> {
    let pairs = request.pairs();
    match policy.decide(&RequestView::new(&pairs), 0).verdict {
        Verdict::Route(route) => {
            let shares = if route.bucket.is_some() {
                shares::of(policy, &pairs)
            } else {
                Vec::new()
            };
            Ok((route, shares))
        }
        Verdict::Pass => Err(Failure::Refused("the policy did not route the request".to_owned())),
        Verdict::Refuse(refusal) => Err(Failure::Refused(format!(
            "requests of this user are refused: {}",
            refusal.message
        ))),
    }
}

fn why(model: &ModelRouting, shares: &[Share]) -> String {
    if shares.is_empty() {
        return "the model has no other version".to_owned();
    }
    let division: Vec<String> = shares.iter().map(Share::describe).collect();
    format!("{}; salt {:?}", division.join(", "), model.salt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::tests::in_force;

    #[test]
    fn a_user_gets_one_version_of_each_model_and_the_bucket_that_says_so() {
        let in_force = in_force();
        let outcome = whois(&in_force, "ada", None).unwrap();
        let models = outcome.data["models"].as_array().unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!(
            (&models[0]["model"], &models[0]["reason"]),
            (&json!("bert"), &json!("ONLY_VERSION"))
        );
        let bucket = models[1]["bucket"].as_u64().unwrap();
        let expected = if bucket < 1000 { "v2" } else { "v1" };
        assert_eq!(models[1]["version"], expected);
        assert!(
            outcome
                .text
                .contains("v2 has buckets 0 to 999 (10%), v1 has buckets 1000 to 9999 (90%)"),
            "{}",
            outcome.text
        );
    }

    #[test]
    fn one_in_ten_users_is_on_the_canary_of_ten_percent() {
        let in_force = in_force();
        let on_canary = (0..1000)
            .filter(|user| {
                let outcome = whois(&in_force, &format!("user-{user}"), Some("minilm")).unwrap();
                outcome.data["models"][0]["version"] == "v2"
            })
            .count();
        assert!((60..=140).contains(&on_canary), "{on_canary} of 1000");
    }

    #[test]
    fn an_unknown_model_and_an_impossible_user_are_told_apart() {
        let in_force = in_force();
        let error = whois(&in_force, "ada", Some("gpt")).unwrap_err();
        assert!(error.to_string().contains("bert, minilm"), "{error}");
        let error = whois(&in_force, "a b", None).unwrap_err();
        assert_eq!((error.label(), error.exit_code()), ("refused", 1));
        assert!(error.to_string().contains("x-user-id"), "{error}");
    }
}
