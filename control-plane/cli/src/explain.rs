//! `kilocard explain`: what the mesh does with a request, stage by stage, and why.

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::in_force::{self, InForce};
use crate::outcome::Outcome;
use crate::shares::{self, Share};
use kilocard_policy::{CanaryOverride, Policy, Refusal, RequestView, Route, RouteReason, Stages, Verdict, headers};
use kilocard_registry::connect::EtcdArgs;
use serde_json::{Value, json};
use std::fmt::Write;

/// The request that is explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    headers: Vec<Header>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    name: String,
    value: String,
    filled_in: bool,
}

impl Header {
    /// Whether the filter takes it off a request that it forwards. It counts against the limits all the same.
    fn is_removed(&self) -> bool {
        headers::is_internal(self.name.as_bytes())
    }
}

impl Request {
    /// A gRPC request with these headers: what every gRPC client sends is filled in unless given.
    pub fn new(path: &str, given: &[(String, String)]) -> Self {
        let usual = [
            (headers::METHOD, "POST"),
            (headers::PATH, path),
            (headers::CONTENT_TYPE, "application/grpc"),
            (headers::TE, "trailers"),
        ];
        let mut request = Self::default();
        for (name, value) in usual {
            if !given.iter().any(|(given, _)| given == name) {
                request.headers.push(Header {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    filled_in: true,
                });
            }
        }
        request.headers.extend(given.iter().map(|(name, value)| Header {
            name: name.clone(),
            value: value.clone(),
            filled_in: false,
        }));
        // Pseudo-headers come first (RFC 9113, 8.3); the sort keeps the order among the others.
        request.headers.sort_by_key(|header| !header.name.starts_with(':'));
        request
    }

    /// The bytes, as the policy wants them.
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        self.headers
            .iter()
            .map(|header| (header.name.as_bytes(), header.value.as_bytes()))
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.name == name)
            .map(|header| header.value.as_str())
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] if there are no policies to ask; a refused request is a good outcome.
pub async fn run(etcd: &EtcdArgs, args: &ExplainArgs) -> Result<Outcome, Failure> {
    let in_force = in_force::load(etcd, &args.files).await?;
    Ok(explain(
        &in_force,
        &Request::new(&args.path, &args.headers),
        args.random,
    ))
}

/// Explains one request.
pub fn explain(in_force: &InForce, request: &Request, random: Option<u64>) -> Outcome {
    let policy = &in_force.policy;
    let pairs = request.pairs();
    let view = RequestView::new(&pairs);
    let validated = policy.decide_stages(Stages::VALIDATION, &view, 0);
    let valid = !matches!(validated.verdict, Verdict::Refuse(_));
    let verdict = policy.decide(&view, random.unwrap_or(0)).verdict;
    let (validation, routing) = match (&verdict, valid) {
        (_, false) => ("refused", "not run"),
        (Verdict::Refuse(_), true) => ("passed", "refused"),
        (Verdict::Route(_), true) => ("passed", "decided"),
        (Verdict::Pass, true) => ("passed", "not run"),
    };
    let explained = match &verdict {
        Verdict::Refuse(refusal) => explain_refusal(refusal),
        Verdict::Route(route) => RouteInContext {
            policy,
            request,
            route,
            random,
        }
        .explain(),
        Verdict::Pass => Explained {
            text: "forwarded\n".to_owned(),
            data: Value::Null,
            shares: Vec::new(),
        },
    };
    let text = format!(
        "policies    {}\n{}\nvalidation  {validation}\nrouting     {routing}\n\n{}",
        in_force.source,
        list_request(request),
        explained.text
    );
    let data = json!({
        "policies": in_force.source,
        "request": request.headers.iter().map(header_json).collect::<Value>(),
        "stages": [
            {"stage": "validation", "result": validation},
            {"stage": "routing", "result": routing.replace(' ', "_")},
        ],
        "decision": explained.data,
        "shares": explained.shares.iter().map(Share::to_json).collect::<Value>(),
    });
    Outcome::new(text, data).with_warnings(in_force.warnings.clone())
}

struct Explained {
    text: String,
    data: Value,
    shares: Vec<Share>,
}

fn header_json(header: &Header) -> Value {
    json!({
        "name": header.name, "value": header.value, "filled_in": header.filled_in,
        "removed_when_forwarded": header.is_removed(),
    })
}

fn list_request(request: &Request) -> String {
    let mut text = String::new();
    for (index, header) in request.headers.iter().enumerate() {
        let margin = if index == 0 { "request" } else { "" };
        // Escaped: a value may be an attack on whoever reads it on a terminal.
        let value: String = header
            .value
            .chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().collect()
                } else {
                    vec![c]
                }
            })
            .collect();
        let note = match (header.filled_in, header.is_removed()) {
            (true, _) => "   (filled in)",
            (false, true) => "   (removed when forwarded)",
            (false, false) => "",
        };
        let _ = writeln!(text, "{margin:<12}{}: {value}{note}", header.name);
    }
    text
}

fn explain_refusal(refusal: &Refusal<'_>) -> Explained {
    let Refusal {
        status,
        reason,
        field,
        message,
        ..
    } = refusal;
    Explained {
        text: format!(
            "refused: gRPC status {} ({}), reason {}\n  header   {field}\n  message  {message}\n",
            status.label(),
            status.code(),
            reason.label()
        ),
        data: json!({
            "action": "refuse", "grpc_status": status.label(), "grpc_code": status.code(), "reason": reason.label(),
            "field": field, "message": message,
        }),
        shares: Vec::new(),
    }
}

/// A route and what it was decided on.
struct RouteInContext<'a> {
    policy: &'a Policy,
    request: &'a Request,
    route: &'a Route<'a>,
    random: Option<u64>,
}

impl RouteInContext<'_> {
    fn explain(&self) -> Explained {
        let shares = match self.route.bucket {
            Some(_) => shares::of(self.policy, &self.request.pairs()),
            None => Vec::new(),
        };
        let Route {
            model,
            version,
            route_key,
            reason,
            bucket,
            ..
        } = self.route;
        let drawn = *reason == RouteReason::Weighted && self.random.is_none();
        let mut text = if drawn {
            let each: Vec<String> = shares
                .iter()
                .map(|share| format!("{model}/{} {}%", share.version, share.percent()))
                .collect();
            format!("forwarded at random: {}\n", each.join(", "))
        } else {
            format!("forwarded to {route_key}\n")
        };
        let _ = writeln!(text, "  model    {model}{}", self.why_model());
        if !drawn {
            let _ = writeln!(text, "  version  {version}");
        }
        let _ = writeln!(text, "  reason   {}: {}", reason.label(), self.why_version(&shares));
        let data = if drawn {
            json!({"action": "forward", "model": model, "version": null, "route_key": null, "reason": reason, "bucket": null})
        } else {
            json!({
                "action": "forward", "model": model, "version": version, "route_key": route_key, "reason": reason,
                "bucket": bucket,
            })
        };
        Explained { text, data, shares }
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
        let division = division.join(", ");
        match self.route.reason {
            RouteReason::Pinned => "x-model-version names it".to_owned(),
            RouteReason::OnlyVersion => "the model has no other version".to_owned(),
            RouteReason::Sticky => {
                let salt = self
                    .policy
                    .model(self.route.model.as_bytes())
                    .map_or("", |model| model.salt());
                format!(
                    "x-user-id with salt {salt:?} falls into bucket {bucket}; {division}{}",
                    self.overridden()
                )
            }
            RouteReason::Weighted => match self.random {
                Some(random) => format!(
                    "random number {random} falls into bucket {bucket}; {division}{}",
                    self.overridden()
                ),
                None => format!(
                    "neither x-model-version nor x-user-id is given, so every request is drawn anew; {division}{}",
                    self.overridden()
                ),
            },
            other => other.label().to_owned(),
        }
    }

    /// Whether the weights are those of the policy.
    fn overridden(&self) -> &'static str {
        match self.route.override_ {
            CanaryOverride::None => "",
            CanaryOverride::Honoured => "; the canary's weight is that of x-canary-weight",
            CanaryOverride::Ignored => "; x-canary-weight is not honoured by this policy",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
