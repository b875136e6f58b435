//! How long requests of a model may take: a TimeoutPolicy as the filter asks it, and `grpc-timeout`.

use std::time::Duration;

use kilocard_latency::baseline::{Baseline, Shape};
use kilocard_latency::key::{MethodClass, Phase, SizeClass};
use kilocard_latency::timeout::Settings;

use crate::config::{MethodPattern, TimeoutPolicy};
use crate::headers;
use crate::request::{RequestView, without_query};

/// Methods of our own APIs whose answers are streams.
const STREAMS: [&[u8]; 2] = [
    b"/inference.GRPCInferenceService/ModelStreamInfer",
    b"/kilocard.inference.v1.InferenceService/Generate",
];
/// Methods that infer; others of these services tell of models and servers.
const INFERS: [&[u8]; 2] = [b"/ModelInfer", b"/Embed"];
/// Bytes of a token of a prompt, for the size of a request that says how many it has.
const TOKEN_BYTES: u64 = 4;
/// Most that eight digits can say, in each unit (gRPC over HTTP/2, "Requests").
const MOST: u128 = 99_999_999;

/// What is fixed of the timeouts of one phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The constants of the law.
    pub settings: Settings,
    /// The guess to begin with.
    pub prior: Baseline,
}

impl Bounds {
    fn new((initial_ms, floor_ms, ceiling_ms): (u32, u32, u32), probe_percent: u32) -> Self {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Self {
            settings: Settings {
                floor: millis(floor_ms),
                ceiling: millis(ceiling_ms),
                probes: f64::from(probe_percent) / 100.0,
                ..Settings::default()
            },
            prior: Baseline::guess(millis(initial_ms), &Shape::default()),
        }
    }
}

/// A TimeoutPolicy, ready to be asked.
#[derive(Clone, Debug)]
pub struct ModelDeadlines {
    unary: Bounds,
    first_message: Bounds,
    gap: Bounds,
    streams: Vec<MethodPattern>,
    is_shadow: bool,
}

impl ModelDeadlines {
    /// Of a policy.
    pub fn compile(policy: &TimeoutPolicy) -> Self {
        let probe = policy.probe_percent;
        let (unary, first, gap) = (&policy.unary, &policy.first_message, &policy.gap);
        Self {
            unary: Bounds::new((unary.initial_p999_ms, unary.floor_ms, unary.ceiling_ms), probe),
            first_message: Bounds::new((first.initial_p999_ms, first.floor_ms, first.ceiling_ms), probe),
            gap: Bounds::new((gap.initial_p999_ms, gap.floor_ms, gap.ceiling_ms), probe),
            streams: policy.streams.clone(),
            is_shadow: policy.shadow,
        }
    }

    /// What is fixed of a phase.
    pub fn bounds(&self, phase: Phase) -> &Bounds {
        match phase {
            Phase::Total => &self.unary,
            Phase::FirstMessage => &self.first_message,
            Phase::Gap => &self.gap,
        }
    }

    /// Whether nothing is cut, only counted.
    pub fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// What kind of call a request is.
    pub fn call(&self, request: &RequestView<'_>) -> Call {
        let mut call = Call::default();
        let (mut tokens, mut bytes) = (None, None);
        for (name, value) in request.headers() {
            match *name {
                b":path" => call.set_method(without_query(value), &self.streams),
                b"grpc-timeout" => call.client = parse_timeout(value),
                b"x-prompt-tokens" => tokens = crate::limit::estimate::number(value),
                b"content-length" => bytes = crate::limit::estimate::number(value),
                _ => {}
            }
        }
        let size = tokens.map(|tokens| tokens.saturating_mul(TOKEN_BYTES)).or(bytes);
        call.size = SizeClass::of_bytes(size.unwrap_or(0));
        call
    }
}

/// What a timeout depends on, of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The kind of method.
    pub method: MethodClass,
    /// How large the request says it is.
    pub size: SizeClass,
    /// What the client has given.
    pub client: Option<Duration>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            method: MethodClass::Control,
            size: SizeClass::Small,
            client: None,
        }
    }
}

impl Call {
    /// Whether the answer is a stream.
    pub fn is_stream(&self) -> bool {
        self.method == MethodClass::Generate
    }

    fn set_method(&mut self, path: &[u8], streams: &[MethodPattern]) {
        let is_stream = STREAMS.contains(&path) || streams.iter().any(|pattern| pattern.matches(path));
        self.method = if is_stream {
            MethodClass::Generate
        } else if INFERS.iter().any(|method| path.ends_with(method)) {
            MethodClass::Infer
        } else {
            MethodClass::Control
        };
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests"). Of anything else, nothing.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = crate::limit::estimate::number(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A `grpc-timeout` in the finest of milliseconds, seconds, minutes that can hold it; rounded up, and at least a millisecond.
pub fn format_timeout(timeout: Duration) -> String {
    let millis = timeout.as_nanos().div_ceil(1_000_000).max(1);
    if millis <= MOST {
        return format!("{millis}m");
    }
    let seconds = millis.div_ceil(1000);
    if seconds <= MOST {
        return format!("{seconds}S");
    }
    format!("{}M", seconds.div_ceil(60).min(MOST))
}

/// The header that [`format_timeout`] is for.
pub const TIMEOUT: &str = headers::GRPC_TIMEOUT;

#[cfg(test)]
mod tests;
