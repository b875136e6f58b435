//! `kind: AdmissionPolicy`: what a request of a model costs, and how much GPU memory its requests may take.

use serde::Serialize;

use super::limits::{ADMISSION_WAIT_MS, MARGIN_PERCENT, OUTPUT_PERCENTILE, STALE_MS, TOKENS_EACH, WATERMARK_PERCENT};
use super::name;
use super::reader::Node;
use super::violation::Violations;

/// What requests of one model cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct AdmissionPolicy {
    /// The model.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub model: String,
    /// How tokens are counted where nobody says them.
    #[cfg_attr(test, schemars(default))]
    pub tokens: TokenCost,
    /// How much memory a request takes, and who gets it. Absent: memory is no condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "MemoryCost", default))]
    pub memory: Option<MemoryCost>,
}

/// How tokens are counted where neither headers nor the worker say them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct TokenCost {
    /// Bytes of the request that make a token of the prompt, if `x-prompt-tokens` is not given.
    #[cfg_attr(test, schemars(range(min = *TOKENS_EACH.start(), max = *TOKENS_EACH.end())))]
    pub request_bytes_per_token: u32,
    /// Tokens that a message of the answer stands for, until the worker says how many there were.
    #[cfg_attr(test, schemars(range(min = *TOKENS_EACH.start(), max = *TOKENS_EACH.end())))]
    pub tokens_per_message: u32,
    /// Output that is reserved, if `x-max-tokens` is not given and nothing has been learnt yet.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000_000_000_u64)))]
    pub default_output: u64,
}

impl Default for TokenCost {
    fn default() -> Self {
        Self {
            request_bytes_per_token: 4,
            tokens_per_message: 1,
            default_output: 256,
        }
    }
}

/// How much GPU memory a request takes, and who gets it when there is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct MemoryCost {
    /// Of every request.
    #[cfg_attr(test, schemars(default, range(max = 1_000_000_000_000_u64)))]
    pub bytes_per_request: u64,
    /// Of every token of prompt and output: the KV cache's, for a language model.
    #[cfg_attr(test, schemars(default, range(max = 1_000_000_000_000_u64)))]
    pub bytes_per_token: u64,
    /// Percent of an endpoint's memory that is never given away.
    #[cfg_attr(test, schemars(default, range(max = *WATERMARK_PERCENT.end())))]
    pub watermark_percent: u32,
    /// So many of 100 requests of the version find that what would be reserved for one alone is enough for its output. Of what
    /// that is over the mean, many requests share less than each would need. Fewer reserve less, let more run at once, and
    /// may run out of memory.
    #[cfg_attr(test, schemars(default, range(min = *OUTPUT_PERCENTILE.start(), max = *OUTPUT_PERCENTILE.end())))]
    pub output_percentile: u32,
    /// A worker's report that is older than this many milliseconds counts as one without free memory.
    #[cfg_attr(test, schemars(default, range(min = *STALE_MS.start(), max = *STALE_MS.end())))]
    pub stale_ms: u32,
    /// Percent of the memory that batch requests (P1) leave to interactive ones.
    #[cfg_attr(test, schemars(default, range(max = *MARGIN_PERCENT.end())))]
    pub p1_margin_percent: u32,
    /// Percent of the memory that offline requests (P2) leave to all others.
    #[cfg_attr(test, schemars(default, range(max = *MARGIN_PERCENT.end())))]
    pub p2_margin_percent: u32,
    /// Percent of what is admitted that each priority gets whatever the others do.
    #[cfg_attr(test, schemars(default, range(max = 30)))]
    pub floor_percent: u32,
    /// For how many milliseconds a request waits in the proxy for memory before it is refused.
    #[cfg_attr(test, schemars(default, range(max = *ADMISSION_WAIT_MS.end())))]
    pub wait_ms: u32,
}

const BYTES: std::ops::RangeInclusive<u64> = 0..=1_000_000_000_000;
const OUTPUT: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<AdmissionPolicy> {
    let spec = spec.object(&["model", "tokens", "memory"], out)?;
    let model = spec.must("model", out, name::name);
    let tokens = spec.or_default("tokens", out, read_tokens);
    let memory = spec.maybe("memory", out, read_memory);
    Some(AdmissionPolicy {
        model: model?,
        tokens: tokens?,
        memory: memory?,
    })
}

fn read_tokens(node: &Node<'_>, out: &mut Violations) -> Option<TokenCost> {
    let fields = node.object(
        &["request_bytes_per_token", "tokens_per_message", "default_output"],
        out,
    )?;
    let default = TokenCost::default();
    let each = |node: &Node<'_>, out: &mut Violations| node.integer(TOKENS_EACH, out);
    let bytes = fields.maybe("request_bytes_per_token", out, each);
    let tokens = fields.maybe("tokens_per_message", out, each);
    let output = fields.maybe("default_output", out, |node, out| node.whole(OUTPUT, out));
    Some(TokenCost {
        request_bytes_per_token: bytes?.unwrap_or(default.request_bytes_per_token),
        tokens_per_message: tokens?.unwrap_or(default.tokens_per_message),
        default_output: output?.unwrap_or(default.default_output),
    })
}

fn read_memory(node: &Node<'_>, out: &mut Violations) -> Option<MemoryCost> {
    let fields = node.object(MEMORY, out)?;
    let mut bytes = |name| {
        fields
            .maybe(name, out, |node, out| node.whole(BYTES, out))
            .map(Option::unwrap_or_default)
    };
    let (request, token) = (bytes("bytes_per_request"), bytes("bytes_per_token"));
    let mut integer = |name, range: &std::ops::RangeInclusive<u32>, default| {
        let value = fields.maybe(name, out, |node, out| node.integer(range.clone(), out));
        value.map(|value| value.unwrap_or(default))
    };
    let watermark = integer("watermark_percent", &WATERMARK_PERCENT, 5);
    let percentile = integer("output_percentile", &OUTPUT_PERCENTILE, 95);
    let stale = integer("stale_ms", &STALE_MS, 3000);
    let p1 = integer("p1_margin_percent", &MARGIN_PERCENT, 10);
    let p2 = integer("p2_margin_percent", &MARGIN_PERCENT, 20);
    let floor = integer("floor_percent", &(0..=30), 5);
    let wait = integer("wait_ms", &ADMISSION_WAIT_MS, 40);
    if (request, token) == (Some(0), Some(0)) {
        let message = "costs nothing, so nothing would be held back: give bytes_per_request or bytes_per_token";
        out.add(fields.path(), message);
    }
    Some(MemoryCost {
        bytes_per_request: request?,
        bytes_per_token: token?,
        watermark_percent: watermark?,
        output_percentile: percentile?,
        stale_ms: stale?,
        p1_margin_percent: p1?,
        p2_margin_percent: p2?,
        floor_percent: floor?,
        wait_ms: wait?,
    })
}

const MEMORY: &[&str] = &[
    "bytes_per_request",
    "bytes_per_token",
    "watermark_percent",
    "output_percentile",
    "stale_ms",
    "p1_margin_percent",
    "p2_margin_percent",
    "floor_percent",
    "wait_ms",
];
