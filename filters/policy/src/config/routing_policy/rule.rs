//! A rule that gives some requests a split, a GPU class or a priority of their own.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::versions::{check_sum, declares, undeclared};
use super::{GpuRequest, VersionWeight, read_gpu};
use crate::config::cohorts::Cohorts;
use crate::config::limits::{MAX_LIST, MAX_LONG_LIST, MAX_VERSIONS};
use crate::config::method::MethodPattern;
use crate::config::name;
use crate::config::number_range::NumberRange;
use crate::config::pattern::Pattern;
use crate::config::reader::{Key, Node, Object};
use crate::config::traffic_class::Urgency;
use crate::config::violation::Violations;
use crate::config::weight::Weight;

/// A split, a GPU class or a priority of their own for the requests that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("anyOf" = [{"required": ["versions"]}, {"required": ["gpu"]}, {"required": ["priority"]}])))]
#[non_exhaustive]
pub struct RoutingRule {
    /// Unique within the document; in the record of a decision.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub name: String,
    /// Which requests it is about.
    #[serde(rename = "match")]
    pub match_: RoutingMatch,
    /// Their split, in place of the policy's. Versions of the policy, with their fallbacks; weights sum to 100 percent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 64)))]
    pub versions: Vec<RuleVersion>,
    /// The buckets that each version had in this split. `kilocard apply` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Cohorts", default))]
    pub cohorts: Option<Cohorts>,
    /// Their GPU class, in place of the policy's, unless they ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "GpuRequest", default))]
    pub gpu: Option<GpuRequest>,
    /// How urgent they are, in place of what the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Urgency", default))]
    pub priority: Option<Urgency>,
}

/// Which requests a rule is about: those for which all holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct RoutingMatch {
    /// The method is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 1024)))]
    pub methods: Vec<MethodPattern>,
    /// `x-tenant-id` is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 1024),
            inner(regex(pattern = r"^[A-Za-z0-9._@:+/=-]{1,128}$"))
        )
    )]
    pub tenants: Vec<String>,
    /// The request has all of these headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 64)))]
    pub headers: Vec<HeaderMatch>,
}

/// What a header must be for a rule to match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderMatch {
    /// The header, in lower case, or `:path` or `:authority`.
    pub name: String,
    /// What it must be.
    pub condition: HeaderCondition,
}

/// What a header must be; one that comes several times, in any of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderCondition {
    /// One of these values.
    OneOf(Vec<String>),
    /// A decimal number within this range.
    Range(NumberRange),
    /// There, whatever its value.
    Present,
    /// As a whole like this regular expression.
    Pattern(Pattern),
}

impl Serialize for HeaderMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", &self.name)?;
        match &self.condition {
            HeaderCondition::OneOf(values) => map.serialize_entry("one_of", values)?,
            HeaderCondition::Range(range) => map.serialize_entry("range", range)?,
            HeaderCondition::Present => map.serialize_entry("present", &true)?,
            HeaderCondition::Pattern(pattern) => map.serialize_entry("pattern", pattern)?,
        }
        map.end()
    }
}

#[cfg(test)]
impl schemars::JsonSchema for HeaderMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HeaderMatch".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What a header must be for a rule to match: exactly one of one_of, range, present and pattern.",
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "oneOf": CONDITIONS.map(|condition| serde_json::json!({"required": [condition]})),
            "properties": {
                "name": {"type": "string", "pattern": r"^[0-9a-z_.-]{1,128}$|^:(path|authority)$"},
                "one_of": {"type": "array", "minItems": 1, "maxItems": 1024, "items": {"type": "string", "pattern": r"^[ -~]{0,1024}$"}},
                "range": generator.subschema_for::<NumberRange>(),
                "present": {"const": true},
                "pattern": generator.subschema_for::<Pattern>(),
            },
        })
    }
}

/// A version and its share of a rule's split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct RuleVersion {
    /// One that the policy declares.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$"), length(max = 63)))]
    pub version: String,
    /// Percent, at most two decimals.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0, max = 100)))]
    pub weight: Weight,
}

const CONDITIONS: [&str; 4] = ["one_of", "range", "present", "pattern"];

/// `declared`: the versions of the policy, if they can be read.
pub(super) fn read(node: &Node<'_>, declared: Option<&[VersionWeight]>, out: &mut Violations) -> Option<RoutingRule> {
    let rule = node.object(&["name", "match", "versions", "cohorts", "gpu", "priority"], out)?;
    let name = rule.must("name", out, name::name);
    let match_ = rule.must("match", out, read_match);
    let versions = rule.or_default("versions", out, |node, out| read_versions(node, declared, out));
    let cohorts = rule.maybe("cohorts", out, Cohorts::read);
    let gpu = rule.maybe("gpu", out, read_gpu);
    let priority = rule.maybe("priority", out, Urgency::read);
    if !["versions", "gpu", "priority"].into_iter().any(|field| rule.has(field)) {
        out.add(rule.path(), "changes nothing: give versions, gpu or priority");
    }
    if rule.has("cohorts") && !rule.has("versions") {
        out.add(
            format!("{}.cohorts", rule.path()),
            "belongs to a split of the rule's own: give versions, or leave it out",
        );
    }
    Some(RoutingRule {
        name: name?,
        match_: match_?,
        versions: versions?,
        cohorts: cohorts?,
        gpu: gpu?,
        priority: priority?,
    })
}

fn read_versions(
    node: &Node<'_>,
    declared: Option<&[VersionWeight]>,
    out: &mut Violations,
) -> Option<Vec<RuleVersion>> {
    let path = node.path();
    let key = Key {
        field: ".version",
        of: |version: &RuleVersion| version.version.clone(),
    };
    let versions = node.distinct(1..=MAX_VERSIONS, &key, out, read_version)?;
    for (index, version) in versions.iter().enumerate() {
        if let Some(declared) = declared
            && !declares(declared, &version.version)
        {
            out.add(
                format!("{path}[{index}].version"),
                undeclared(declared, &version.version),
            );
        }
    }
    check_sum(path, versions.iter().map(|version| version.weight), out);
    Some(versions)
}

fn read_version(node: &Node<'_>, out: &mut Violations) -> Option<RuleVersion> {
    let fields = node.object(&["version", "weight"], out)?;
    let version = fields.must("version", out, name::version);
    let weight = fields.must("weight", out, Weight::read);
    Some(RuleVersion {
        version: version?,
        weight: weight?,
    })
}

fn read_match(node: &Node<'_>, out: &mut Violations) -> Option<RoutingMatch> {
    let fields = node.object(&["methods", "tenants", "headers"], out)?;
    let methods = fields.or_default("methods", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, MethodPattern::read)
    });
    let tenants = fields.or_default("tenants", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, name::tenant)
    });
    let headers = fields.or_default("headers", out, |node, out| node.list(1..=MAX_LIST, out, read_header));
    let found = RoutingMatch {
        methods: methods?,
        tenants: tenants?,
        headers: headers?,
    };
    if found == RoutingMatch::default() {
        let message = "matches nothing in particular: give methods, tenants or headers";
        out.add(fields.path(), message);
        return None;
    }
    Some(found)
}

fn read_header(node: &Node<'_>, out: &mut Violations) -> Option<HeaderMatch> {
    let fields = node.object(&["name", "one_of", "range", "present", "pattern"], out)?;
    let name = fields.must("name", out, name::header);
    let given: Vec<_> = CONDITIONS
        .into_iter()
        .filter(|condition| fields.has(condition))
        .collect();
    if given.len() != 1 {
        let message = format!(
            "needs exactly one of {}; it has {}",
            CONDITIONS.join(", "),
            if given.is_empty() {
                "none".to_owned()
            } else {
                given.join(" and ")
            }
        );
        out.add(fields.path(), message);
    }
    let condition = read_condition(&fields, out);
    Some(HeaderMatch {
        name: name?,
        condition: condition?,
    })
}

fn read_condition(fields: &Object<'_>, out: &mut Violations) -> Option<HeaderCondition> {
    let one_of = fields.maybe("one_of", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, name::header_value)
    });
    let range = fields.maybe("range", out, NumberRange::read);
    let present = fields.maybe("present", out, read_present);
    let pattern = fields.maybe("pattern", out, Pattern::read);
    match (one_of?, range?, present?, pattern?) {
        (Some(values), ..) => Some(HeaderCondition::OneOf(values)),
        (_, Some(range), ..) => Some(HeaderCondition::Range(range)),
        (_, _, Some(()), _) => Some(HeaderCondition::Present),
        (.., Some(pattern)) => Some(HeaderCondition::Pattern(pattern)),
        // Said by the caller.
        _ => None,
    }
}

fn read_present(node: &Node<'_>, out: &mut Violations) -> Option<()> {
    let path = node.path();
    if !node.boolean(out)? {
        out.add(path, "must be true; a rule cannot ask for a header to be absent");
        return None;
    }
    Some(())
}
