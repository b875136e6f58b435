//! Captures read back and decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::hashed::Hashed;
use crate::cohort::Key;
use crate::config::{Document, HeaderCondition, HeaderRule, RoutingPolicy, Spec};
use crate::decision::Decision;
use crate::headers;
use crate::limit::gcra::WHOLE;
use crate::policy::{Policy, Stages};
use crate::request::{Replayed, RequestView};

/// Most bytes of all values of a request, those included that were not kept: a few bytes of a line can ask for a mebibyte.
const MAX_BYTES: usize = 1 << 20;

/// Microseconds from 1970 to the year 10000, which RFC 3339 cannot write.
const MOST_MICROS: u64 = 253_402_300_800_000_000;

/// A captured request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    digests: Vec<(Vec<u8>, Key)>,
    stages: Stages,
    random: u64,
    may_override: bool,
    is_truncated: bool,
    decision: BTreeMap<String, String>,
    time: Option<Duration>,
    sample: u32,
}

impl Captured {
    /// Reads a line: a capture, or a line of the access log in JSON that has one in its field `capture`. `None` for a line
    /// of the access log without one: the request was not in the sample.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("is not JSON: {error}"))?;
        let Value::Object(object) = value else {
            return Err("is not a JSON object".to_owned());
        };
        if object.contains_key("headers") {
            return read(&object).map(Some);
        }
        match object.get("capture") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() || text == "-" => Ok(None),
            Some(Value::Object(capture)) => read(capture).map(Some),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Object(capture)) => read(&capture).map(Some),
                _ => Err("has a field capture that is not JSON".to_owned()),
            },
            Some(_) => Err("has a field capture that is not a capture".to_owned()),
        }
    }

    /// Decides it again, under any policy.
    pub fn decide<'p>(&self, policy: &'p Policy) -> Decision<'p> {
        self.view(|view| policy.decide_stages(self.stages, view, self.random))
    }

    /// Looks at it as a decision does.
    pub(crate) fn view<R>(&self, look: impl FnOnce(&RequestView<'_>) -> R) -> R {
        let headers: Vec<_> = self.pairs().collect();
        let digests: Vec<_> = self.digests.iter().map(|(name, key)| (name.as_slice(), *key)).collect();
        look(&RequestView::new(&headers).replay(Replayed {
            digests: &digests,
            may_override: self.may_override,
        }))
    }

    /// When the request came, since 1970 (UTC); not known of captures by filters that did not keep it.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }

    /// Which part of all requests were captured at the time, in parts per million.
    pub fn sample(&self) -> u32 {
        self.sample
    }

    /// The stages that decided it.
    pub fn stages(&self) -> Stages {
        self.stages
    }

    /// Its headers; values that were not kept have others of the same length in their place.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The decision record of when it was captured, by name.
    pub fn decision(&self) -> &BTreeMap<String, String> {
        &self.decision
    }

    /// Whether headers had to be left out, so that a replay may not be exact.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The headers whose values were not kept; of `:path`, its query.
    pub fn hashed(&self) -> impl Iterator<Item = &[u8]> {
        self.digests.iter().map(|(name, _)| name.as_slice())
    }

    /// The digest of a header's first value, whether the value itself was kept or not.
    pub fn key(&self, name: &[u8]) -> Option<Key> {
        let known = self.digests.iter().find(|(candidate, _)| candidate == name);
        let of_value = || {
            self.pairs()
                .find(|(candidate, _)| *candidate == name)
                .map(|(_, value)| Key::of(value))
        };
        known.map(|(_, key)| *key).or_else(of_value)
    }

    /// The rules of these documents that a replay leaves out, because they are about the content of a value that was not
    /// kept or about who called: `Kind/document: rule name (header)`.
    pub fn not_evaluable<'d>(&self, documents: impl IntoIterator<Item = &'d Document>) -> Vec<String> {
        let mut rules = BTreeSet::new();
        for document in documents {
            let mut add = |rule: &str, header: &str| {
                rules.insert(format!("{}: rule {rule} ({header})", document.id()));
            };
            match document.spec() {
                Spec::Validation(policy) => {
                    let left_out = policy.rules.iter().filter(|rule| self.leaves_out(rule));
                    left_out.for_each(|rule| add(&rule.name, &rule.header));
                }
                Spec::Routing(policy) => self.add_matches(policy, &mut add),
                Spec::Mesh(_)
                | Spec::Pool(_)
                | Spec::Weights(_)
                | Spec::RateLimit(_)
                | Spec::Admission(_)
                | Spec::Scale(_)
                | Spec::Timeouts(_) => {}
            }
        }
        rules.into_iter().collect()
    }

    fn leaves_out(&self, rule: &HeaderRule) -> bool {
        let name = rule.header.as_bytes();
        let on_content =
            rule.pattern.is_some() || !rule.one_of.is_empty() || rule.range.is_some() || !rule.forbid.is_empty();
        let on_caller = !rule.callers.is_empty();
        (on_content && self.is_hashed(name)) || (on_caller && self.pairs().any(|(candidate, _)| candidate == name))
    }

    fn add_matches(&self, policy: &RoutingPolicy, add: &mut dyn FnMut(&str, &str)) {
        for rule in &policy.rules {
            for header in &rule.match_.headers {
                if header.condition != HeaderCondition::Present && self.is_hashed(header.name.as_bytes()) {
                    add(&rule.name, &header.name);
                }
            }
        }
    }

    /// Whether this header's value was not kept.
    pub(crate) fn is_hashed(&self, name: &[u8]) -> bool {
        self.digests.iter().any(|(candidate, _)| candidate == name)
    }
}

fn read(capture: &Map<String, Value>) -> Result<Captured, String> {
    if capture.get("v") != Some(&Value::from(1)) {
        return Err("is not a capture of this release, which have \"v\":1".to_owned());
    }
    let text = |field: &str| {
        let text = capture.get(field).and_then(Value::as_str);
        text.ok_or_else(|| format!("has no text {field}"))
    };
    let flag = |field: &str| capture.get(field).and_then(Value::as_bool).unwrap_or_default();
    let random = u64::from_str_radix(text("random")?, 16).map_err(|_| "has a wrong random".to_owned())?;
    let mut captured = Captured {
        headers: Vec::new(),
        digests: Vec::new(),
        stages: stages(text("stages")?)?,
        random,
        may_override: flag("overrides"),
        is_truncated: flag("truncated"),
        decision: BTreeMap::new(),
        time: time(capture)?,
        sample: sample(capture)?,
    };
    if let Some(Value::Object(decision)) = capture.get("decision") {
        let parts = decision.iter();
        let part = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        captured.decision = parts.filter_map(part).collect();
    }
    let mut left = MAX_BYTES;
    let headers = capture.get("headers").and_then(Value::as_array);
    for (at, header) in headers.ok_or("has no list of headers")?.iter().enumerate() {
        let (name, value) = match header.as_array().map(Vec::as_slice) {
            Some([name, value]) => (name, value),
            _ => return Err(format!("headers[{at}] is not a name and a value")),
        };
        let wrong = || format!("headers[{at}] is neither text nor base64");
        let name = bytes(name).ok_or_else(wrong)?;
        let value = match value.as_str().and_then(Hashed::parse) {
            Some(hashed) => {
                captured.digests.push((name.clone(), hashed.key));
                hashed.stand_in(&name)
            }
            None => bytes(value).ok_or_else(wrong)?,
        };
        left = left
            .checked_sub(value.len())
            .ok_or_else(|| format!("has headers of more than {MAX_BYTES} bytes: Envoy lets no such request through"))?;
        // The query of a path is not kept either, and rules on the content of `:path` read it.
        if name == headers::PATH.as_bytes() && value.contains(&b'?') {
            captured.digests.push((name.clone(), Key::of(&value)));
        }
        captured.headers.push((name, value));
    }
    Ok(captured)
}

fn time(capture: &Map<String, Value>) -> Result<Option<Duration>, String> {
    let Some(time) = capture.get("time_us") else {
        return Ok(None);
    };
    let time = time.as_u64().filter(|time| *time < MOST_MICROS);
    let time = time.ok_or("has a time_us that is not a number of microseconds before the year 10000")?;
    Ok(Some(Duration::from_micros(time)))
}

/// All requests, if it does not say.
fn sample(capture: &Map<String, Value>) -> Result<u32, String> {
    let Some(percent) = capture.get("percent") else {
        return Ok(WHOLE);
    };
    let is_percent = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
    let percent = percent.as_f64().filter(is_percent);
    let percent = percent.ok_or("has a percent that is not above 0 and at most 100")?;
    // At most a million, and at least one.
    Ok((percent / 100.0 * f64::from(WHOLE)).round().max(1.0) as u32)
}

fn stages(label: &str) -> Result<Stages, String> {
    match label {
        "validation+routing" => Ok(Stages::ALL),
        "validation" => Ok(Stages::VALIDATION),
        "routing" => Ok(Stages::ROUTING),
        "limits" => Ok(Stages::LIMITS),
        _ => Err(format!("has unknown stages {label:?}")),
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(object) => STANDARD.decode(object.get("b64")?.as_str()?).ok(),
        _ => None,
    }
}
