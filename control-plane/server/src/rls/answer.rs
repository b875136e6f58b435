//! A ruling in Envoy's words.

use super::ledger::{Ruling, Standing, Verdict};
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use kilocard_policy::config::Period;
use kilocard_policy::decision::Reached;
use kilocard_policy::limit::Limited;
use kilocard_policy::limit::refusal::{pushback_header, retry_after_header};
use std::time::Duration;

/// What Envoy is answered.
pub(super) fn response(ruling: Ruling<'_>) -> RateLimitResponse {
    let mut response = RateLimitResponse {
        overall_code: code(ruling.is_over()),
        ..RateLimitResponse::default()
    };
    let mut longest: Option<Limited<'_>> = None;
    for verdict in ruling.verdicts {
        let (is_over, standing) = match verdict {
            Verdict::Within(standing) => (false, standing),
            Verdict::Over(limited) => {
                let standing = standing(&limited);
                if longest.as_ref().is_none_or(|other| rank(&limited) > rank(other)) {
                    longest = Some(limited);
                }
                (true, Some(standing))
            }
        };
        response.statuses.push(status(is_over, standing));
    }
    if let Some(limited) = longest {
        response.response_headers_to_add = headers(&limited);
        response.raw_body = limited.into_refusal(Reached::default()).message.into_bytes();
    }
    response
}

/// No limit holds, for so many descriptors.
pub(super) fn unlimited(descriptors: usize) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code(false),
        statuses: vec![status(false, None); descriptors],
        ..RateLimitResponse::default()
    }
}

fn code(is_over: bool) -> i32 {
    let code = if is_over { Code::OverLimit } else { Code::Ok };
    code.into()
}

/// Of several limits that were met a client hears of the one that keeps it away longest.
fn rank(limited: &Limited<'_>) -> (bool, Option<Duration>) {
    (limited.retry_after.is_none(), limited.retry_after)
}

fn standing(limited: &Limited<'_>) -> Standing {
    Standing {
        label: limited.label(),
        limit: limited.limit,
        remaining: limited.remaining,
        full_in: limited.full_in,
    }
}

fn status(is_over: bool, standing: Option<Standing>) -> DescriptorStatus {
    let mut status = DescriptorStatus {
        code: code(is_over),
        ..DescriptorStatus::default()
    };
    if let Some(standing) = standing {
        status.limit_remaining = saturated(standing.remaining);
        status.duration_until_reset = Some(WireDuration {
            seconds: i64::try_from(standing.full_in.as_secs()).unwrap_or(i64::MAX),
            // Less than a thousand million.
            nanos: standing.full_in.subsec_nanos() as i32,
        });
        status.current_limit = Some(RateLimit {
            name: standing.label,
            requests_per_unit: saturated(standing.limit.rate),
            unit: unit(standing.limit.per).into(),
        });
    }
    status
}

fn unit(period: Period) -> Unit {
    match period {
        Period::Second => Unit::Second,
        Period::Minute => Unit::Minute,
        Period::Hour => Unit::Hour,
        Period::Day => Unit::Day,
    }
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The same that the filters send.
fn headers(limited: &Limited<'_>) -> Vec<HeaderValue> {
    let mut all = vec![
        header("ratelimit-policy", limited.policy_header()),
        header("ratelimit", limited.header()),
    ];
    if let Some(wait) = limited.retry_after {
        all.push(header("retry-after", retry_after_header(wait)));
        all.push(header("grpc-retry-pushback-ms", pushback_header(wait)));
    }
    all
}

fn header(name: &str, value: String) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value,
        ..HeaderValue::default()
    }
}
