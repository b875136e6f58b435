//! A rule on one header.

use serde::Serialize;

use super::read_status;
use crate::config::limits::{MAX_LIST, MAX_LONG_LIST, RULE_LENGTH};
use crate::config::mesh_policy::{ANYONE, read_caller_names};
use crate::config::method::MethodPattern;
use crate::config::name;
use crate::config::number_range::NumberRange;
use crate::config::pattern::Pattern;
use crate::config::reader::{Node, Object};
use crate::config::violation::Violations;
use crate::config::word::words;
use crate::decision::GrpcStatus;

/// What one header must be, of the requests that the rule is about. All conditions that are given must hold; all but
/// `required` are about a header that is there, and about every value of one that comes several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("anyOf" = conditions())))]
#[non_exhaustive]
pub struct HeaderRule {
    /// Unique within the document; with the document's name it is the rule's label in metrics.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub name: String,
    /// Which requests it is about; by default all.
    #[serde(rename = "match")]
    #[cfg_attr(test, schemars(default))]
    pub match_: RuleMatch,
    /// The header, in lower case, or `:path` or `:authority`.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-z_.-]{1,128}$|^:(path|authority)$")))]
    pub header: String,
    /// Whether it must be there.
    #[cfg_attr(test, schemars(default))]
    pub required: bool,
    /// The whole value matches this regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Pattern", default))]
    pub pattern: Option<Pattern>,
    /// The value has so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "LengthRange", default))]
    pub length: Option<LengthRange>,
    /// The value is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(default, length(min = 1, max = 1024), inner(regex(pattern = r"^[ -~]{0,1024}$")))
    )]
    pub one_of: Vec<String>,
    /// The value is a decimal number within this range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "NumberRange", default))]
    pub range: Option<NumberRange>,
    /// The value holds nothing of these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 5)))]
    pub forbid: Vec<ContentClass>,
    /// Only callers of these groups may send it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 64),
            inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
        )
    )]
    pub callers: Vec<String>,
    /// What happens to a request that breaks it.
    #[cfg_attr(test, schemars(default))]
    pub action: RuleAction,
    /// The gRPC status of the refusal; by default that of the section `refusal`, and PERMISSION_DENIED for `callers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", default, extend("enum" = super::statuses())))]
    pub status: Option<GrpcStatus>,
}

/// Which requests a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct RuleMatch {
    /// Those to these models, as in `x-model` or the default one; none for all.
    #[cfg_attr(
        test,
        schemars(default, length(max = 1024), inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))
    )]
    pub models: Vec<String>,
    /// Those to these methods; none for all.
    #[cfg_attr(test, schemars(default, length(max = 1024)))]
    pub methods: Vec<MethodPattern>,
}

/// The length of a value in bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct LengthRange {
    /// The least.
    #[cfg_attr(test, schemars(range(min = 0, max = 32768)))]
    pub min: u32,
    /// The greatest.
    #[cfg_attr(test, schemars(range(min = 0, max = 32768)))]
    pub max: u32,
}

impl Default for LengthRange {
    fn default() -> Self {
        let (min, max) = RULE_LENGTH.into_inner();
        Self { min, max }
    }
}

words! {
    /// A class of content that has no place in a header.
    pub enum ContentClass {
        /// Text that breaks out of an SQL statement.
        SqlInjection = "sql_injection",
        /// CR, LF, NUL and their like, written as themselves or escaped.
        ControlCharacters = "control_characters",
        /// Ways out of a folder.
        PathTraversal = "path_traversal",
        /// What a template engine would evaluate.
        TemplateInjection = "template_injection",
        /// What a browser or a shell would run.
        ScriptInjection = "script_injection",
    }
}

words! {
    /// What happens to a request that breaks a rule.
    #[derive(Default)]
    pub enum RuleAction {
        /// It is refused.
        #[default]
        Refuse = "refuse",
        /// It is counted and logged, and passes.
        Report = "report",
    }
}

const FIELDS: &[&str] = &[
    "name", "match", "header", "required", "pattern", "length", "one_of", "range", "forbid", "callers", "action",
    "status",
];

#[cfg(test)]
fn conditions() -> serde_json::Value {
    let given = ["pattern", "length", "one_of", "range", "forbid", "callers"]
        .map(|field| serde_json::json!({"required": [field]}));
    let required = serde_json::json!({"required": ["required"], "properties": {"required": {"const": true}}});
    std::iter::once(required).chain(given).collect()
}

pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<HeaderRule> {
    let rule = node.object(FIELDS, out)?;
    let name = rule.must("name", out, name::name);
    let match_ = rule.or_default("match", out, read_match);
    let header = rule.must("header", out, name::header);
    let required = rule.or_default("required", out, Node::boolean);
    let pattern = rule.maybe("pattern", out, Pattern::read);
    let length = rule.maybe("length", out, read_length);
    let one_of = rule.or_default("one_of", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, name::header_value)
    });
    let range = rule.maybe("range", out, NumberRange::read);
    let forbid = rule.or_default("forbid", out, |node, out| {
        node.set(1..=ContentClass::ALL.len(), out, ContentClass::read)
    });
    let callers = rule.or_default("callers", out, read_callers);
    let action = rule.or_default("action", out, RuleAction::read);
    let status = rule.maybe("status", out, read_status);
    check_conditions(&rule, required, out);
    Some(HeaderRule {
        name: name?,
        match_: match_?,
        header: header?,
        required: required?,
        pattern: pattern?,
        length: length?,
        one_of: one_of?,
        range: range?,
        forbid: forbid?,
        callers: callers?,
        action: action?,
        status: status?,
    })
}

/// A rule that demands nothing is a slip: of `required: false`, or of a misplaced condition.
fn check_conditions(rule: &Object<'_>, required: Option<bool>, out: &mut Violations) {
    let conditions = ["pattern", "length", "one_of", "range", "forbid", "callers"];
    if required == Some(false) && !conditions.iter().any(|condition| rule.has(condition)) {
        let message = format!("demands nothing: give required: true, or {}", conditions.join(", "));
        out.add(rule.path(), message);
    }
}

fn read_match(node: &Node<'_>, out: &mut Violations) -> Option<RuleMatch> {
    let fields = node.object(&["models", "methods"], out)?;
    let models = fields.or_default("models", out, |node, out| node.set(0..=MAX_LONG_LIST, out, name::name));
    let methods = fields.or_default("methods", out, |node, out| {
        node.set(0..=MAX_LONG_LIST, out, MethodPattern::read)
    });
    Some(RuleMatch {
        models: models?,
        methods: methods?,
    })
}

fn read_length(node: &Node<'_>, out: &mut Violations) -> Option<LengthRange> {
    let length = node.object(&["min", "max"], out)?;
    let min = length.maybe("min", out, |node, out| node.integer(RULE_LENGTH, out));
    let max = length.maybe("max", out, |node, out| node.integer(RULE_LENGTH, out));
    let (min, max) = (min?, max?);
    if min.is_none() && max.is_none() {
        out.add(length.path(), "needs min, max or both");
        return None;
    }
    let default = LengthRange::default();
    let range = LengthRange {
        min: min.unwrap_or(default.min),
        max: max.unwrap_or(default.max),
    };
    if range.min > range.max {
        let message = format!("has min {} above max {}: no value is that long", range.min, range.max);
        out.add(length.path(), message);
        return None;
    }
    Some(range)
}

fn read_callers(node: &Node<'_>, out: &mut Violations) -> Option<Vec<String>> {
    let path = node.path();
    if matches!(node.value(), serde_json::Value::Array(names) if names.is_empty()) {
        out.add(path, format!("has 0 elements; 1 to {MAX_LIST} are allowed"));
        return None;
    }
    let names = read_caller_names(node, out)?;
    if names.iter().any(|name| name == ANYONE) {
        out.add(path, "has `anyone`, which restricts nothing: leave `callers` out");
        return None;
    }
    Some(names)
}
