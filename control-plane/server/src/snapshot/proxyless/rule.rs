//! A routing rule's condition as gRPC clients match it, or why they cannot.

use super::pattern;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use kilocard_policy::config::{HeaderCondition, HeaderMatch, MethodPattern, RoutingMatch};
use kilocard_policy::headers;

/// Headers that a client's library sets below the level at which it routes, or that it answers for with a value of its own
/// (gRFC A28, "header matching").
const OUT_OF_SIGHT: [&str; 4] = [headers::CONTENT_TYPE, headers::TE, "user-agent", "host"];

/// Why a condition cannot be put to gRPC clients.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Inexpressible {
    /// A pseudo-header.
    #[error("{0} is no header to gRPC clients; for paths there is `methods`")]
    Pseudo(String),
    /// One that routing does not see there.
    #[error("{0} cannot be seen where gRPC clients route")]
    OutOfSight(String),
    /// They know ranges of whole numbers only.
    #[error("a range of {0}: gRPC clients compare whole numbers only, and a decimal would not match")]
    Range(String),
    /// Their regular expressions are others.
    #[error("the pattern of {0} may mean something else in RE2, which gRPC clients use")]
    Pattern(String),
    /// There is no translation.
    #[error("the condition on {0} has no equal among those of gRPC clients")]
    Unknown(String),
}

/// The match of a rule for the requests that these conditions describe besides.
///
/// # Errors
/// The first condition that cannot be expressed.
pub(super) fn to_match(rule: &RoutingMatch, besides: Vec<HeaderMatcher>) -> Result<RouteMatch, Inexpressible> {
    let mut matchers = besides;
    if !rule.tenants.is_empty() {
        matchers.push(one_of(headers::X_TENANT_ID, &rule.tenants));
    }
    for header in &rule.headers {
        matchers.push(condition(header)?);
    }
    Ok(RouteMatch {
        path_specifier: Some(path(&rule.methods)),
        headers: matchers,
        ..RouteMatch::default()
    })
}

/// Whether the match can be put to clients.
///
/// # Errors
/// The first condition that cannot be expressed.
pub(super) fn check(rule: &RoutingMatch) -> Result<(), Inexpressible> {
    to_match(rule, Vec::new()).map(drop)
}

/// The header has exactly this value.
pub(super) fn is(name: &str, value: &str) -> HeaderMatcher {
    string(name, MatchPattern::Exact(value.to_owned()))
}

/// The header is there, or is not.
pub(super) fn present(name: &str, present: bool) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(present)),
        ..HeaderMatcher::default()
    }
}

/// Any path.
pub(super) fn anything() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

fn path(methods: &[MethodPattern]) -> PathSpecifier {
    match methods {
        [] => anything(),
        [MethodPattern::Method(path)] => PathSpecifier::Path(path.clone()),
        [MethodPattern::Service(prefix)] => PathSpecifier::Prefix(prefix.clone()),
        methods => {
            let alternatives = methods.iter().map(|method| match method {
                MethodPattern::Method(path) => pattern::quote(path),
                MethodPattern::Service(prefix) => pattern::quote(prefix) + ".*",
            });
            PathSpecifier::SafeRegex(regex(alternatives.collect::<Vec<_>>().join("|")))
        }
    }
}

fn condition(header: &HeaderMatch) -> Result<HeaderMatcher, Inexpressible> {
    let name = header.name.as_str();
    if name.starts_with(':') {
        return Err(Inexpressible::Pseudo(name.to_owned()));
    }
    // gRFC A28: binary headers match nothing, and what begins with `grpc-` is the library's own.
    if name.ends_with("-bin") || name.starts_with("grpc-") || OUT_OF_SIGHT.contains(&name) {
        return Err(Inexpressible::OutOfSight(name.to_owned()));
    }
    match &header.condition {
        HeaderCondition::OneOf(values) => Ok(one_of(name, values)),
        HeaderCondition::Present => Ok(present(name, true)),
        HeaderCondition::Range(_) => Err(Inexpressible::Range(name.to_owned())),
        HeaderCondition::Pattern(given) if pattern::is_portable(given.as_str()) => {
            Ok(string(name, MatchPattern::SafeRegex(regex(given.as_str().to_owned()))))
        }
        HeaderCondition::Pattern(_) => Err(Inexpressible::Pattern(name.to_owned())),
        // A condition that came after this release's.
        _ => Err(Inexpressible::Unknown(name.to_owned())),
    }
}

fn one_of(name: &str, values: &[String]) -> HeaderMatcher {
    match values {
        [value] => is(name, value),
        values => {
            let values = pattern::one_of(values.iter().map(String::as_str));
            string(name, MatchPattern::SafeRegex(regex(values)))
        }
    }
}

fn string(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

fn regex(regex: String) -> RegexMatcher {
    RegexMatcher {
        regex,
        ..RegexMatcher::default()
    }
}
