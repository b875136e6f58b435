//! The rules of one model's routing: which of them, if any, is about a request.

use regex_lite::Regex;

use super::model::Shared;
use super::split::Split;
use crate::cohort::{Allocation, Key};
use crate::config::{HeaderCondition, HeaderMatch, MethodPattern, NumberRange, RoutingRule, Urgency};
use crate::request::RequestView;
use crate::rule_index::{RuleIndex, Scope};
use crate::validation::decimal;

/// All rules of a model, in declared order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// By digest of the tenant, and method. The digest, because a captured request has no more of it.
    index: RuleIndex<u64>,
    /// The headers that rules ask for, sorted, each once.
    headers: Vec<String>,
}

/// One rule, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    name: String,
    split: Option<Split>,
    gpu: Option<usize>,
    urgency: Option<Urgency>,
    /// Positions among the headers that rules ask for, and what each must be.
    conditions: Vec<(usize, Condition)>,
}

#[derive(Clone, Debug)]
enum Condition {
    /// Sorted.
    OneOf(Vec<String>),
    Range(NumberRange),
    Present,
    Pattern(Regex),
}

/// A header that rules ask for: its position among them, and its value if that is known.
type Asked<'a> = (usize, Option<&'a [u8]>);

impl Rules {
    pub(super) fn compile(
        rules: &[RoutingRule],
        shared: &Shared<'_>,
        position: impl Fn(&str) -> Option<usize>,
    ) -> Self {
        let asked = rules.iter().flat_map(|rule| &rule.match_.headers);
        let mut headers: Vec<_> = asked.map(|header| header.name.clone()).collect();
        headers.sort_unstable();
        headers.dedup();
        let scopes = rules.iter().map(|rule| Scope {
            subjects: rule
                .match_
                .tenants
                .iter()
                .map(|tenant| digest(tenant.as_bytes()))
                .collect(),
            methods: rule.match_.methods.iter().map(text).collect(),
        });
        let index = RuleIndex::build(scopes);
        let compile = |rule: &RoutingRule| Rule {
            name: rule.name.clone(),
            split: Allocation::of_rule(rule).map(|allocation| Split::compile(&allocation, &position)),
            gpu: rule.gpu.as_ref().and_then(|gpu| shared.class(&gpu.class)),
            urgency: rule.priority,
            conditions: rule
                .match_
                .headers
                .iter()
                .filter_map(|header| Some((headers.binary_search(&header.name).ok()?, condition(header))))
                .collect(),
        };
        Self {
            rules: rules.iter().map(compile).collect(),
            index,
            headers,
        }
    }

    /// The first rule that matches.
    pub(crate) fn first(&self, request: &RequestView<'_>, tenant: Option<Key>, path: &[u8]) -> Option<&Rule> {
        if self.rules.is_empty() {
            return None;
        }
        let tenant = tenant.map(Key::digest);
        let mut asked = None;
        self.index
            .find(tenant.as_ref(), path)
            .filter_map(|at| self.rules.get(at))
            .find(|rule| rule.conditions.is_empty() || rule.matches(asked.get_or_insert_with(|| self.collect(request))))
    }

    /// The headers that rules ask for, found in one pass, so that a rule costs no pass of its own.
    fn collect<'a>(&self, request: &RequestView<'a>) -> Vec<Asked<'a>> {
        let position = |name: &[u8]| self.headers.binary_search_by(|header| header.as_bytes().cmp(name)).ok();
        let headers = request.headers().iter();
        headers
            .filter_map(|(name, value)| {
                let position = position(name)?;
                let is_known = !request.is_hashed(name);
                Some((position, is_known.then_some(*value)))
            })
            .collect()
    }
}

impl Rule {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its own split, if it has one.
    pub(crate) fn split(&self) -> Option<&Split> {
        self.split.as_ref()
    }

    pub(crate) fn gpu(&self) -> Option<usize> {
        self.gpu
    }

    /// How urgent its requests are, if it says so.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        self.urgency
    }

    fn matches(&self, asked: &[Asked<'_>]) -> bool {
        self.conditions.iter().all(|(position, condition)| {
            let mut values = asked.iter().filter(|(at, _)| at == position).map(|(_, value)| value);
            values.any(|value| condition.holds(*value))
        })
    }
}

impl Condition {
    /// A value that is not known is there, and nothing more can be said of it.
    fn holds(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Present);
        };
        match self {
            Self::OneOf(values) => values.binary_search_by(|one| one.as_bytes().cmp(value)).is_ok(),
            Self::Range(range) => decimal(value).is_some_and(|number| range.contains(number)),
            Self::Present => true,
            Self::Pattern(pattern) => std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value)),
        }
    }
}

fn condition(header: &HeaderMatch) -> Condition {
    match &header.condition {
        HeaderCondition::OneOf(values) => {
            let mut values = values.clone();
            values.sort_unstable();
            Condition::OneOf(values)
        }
        HeaderCondition::Range(range) => Condition::Range(*range),
        HeaderCondition::Present => Condition::Present,
        // A pattern that came out of a document compiles: reading it has tried. Were it not so, it would match nothing.
        HeaderCondition::Pattern(pattern) => match pattern.compile() {
            Ok(pattern) => Condition::Pattern(pattern),
            Err(_) => Condition::OneOf(Vec::new()),
        },
    }
}

fn digest(tenant: &[u8]) -> u64 {
    Key::of(tenant).digest()
}

fn text(pattern: &MethodPattern) -> &str {
    match pattern {
        MethodPattern::Method(text) | MethodPattern::Service(text) => text,
    }
}
