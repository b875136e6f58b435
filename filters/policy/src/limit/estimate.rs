//! What a request will take, before it is known, and what it has taken, as it becomes known.

use super::memory::Terms;
use super::table::Cost;
use crate::config::{AdmissionPolicy, MemoryCost, TokenCost};
use std::time::Duration;

/// What of a request and its answer tells its cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `x-prompt-tokens`.
    pub prompt_tokens: Option<u64>,
    /// `x-max-tokens`.
    pub max_tokens: Option<u64>,
}

/// What earlier requests of the version turned out to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Tokens of the prompt that half of the requests did not exceed.
    pub prompt_tokens: Option<u64>,
    /// Tokens of output that as many requests as was asked for did not exceed.
    pub output_tokens: Option<u64>,
    /// Tokens of output of the mean request.
    pub mean_output_tokens: Option<u64>,
    /// Milliseconds of GPU time that 95 of 100 requests did not exceed.
    pub gpu_ms: Option<u64>,
}

/// What has been seen of a request and its answer so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of the request's messages.
    pub request_bytes: u64,
    /// Messages of the answer.
    pub messages: u64,
    /// Milliseconds since the request came.
    pub elapsed_ms: u64,
    /// What the worker says that it was, at the end.
    pub usage: Option<Usage>,
}

/// What the worker says, in the trailer `x-kilocard-usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of output.
    pub output_tokens: Option<u64>,
    /// Milliseconds of GPU time.
    pub gpu_ms: Option<u64>,
}

impl Usage {
    /// Reads `prompt_tokens=12 output_tokens=34 gpu_ms=5`, in any order; what it does not know it skips.
    pub fn parse(value: &[u8]) -> Self {
        let mut usage = Self::default();
        for part in value.split(|byte| *byte == b' ') {
            let mut halves = part.splitn(2, |byte| *byte == b'=');
            let (Some(name), Some(number)) = (halves.next(), halves.next().and_then(number)) else {
                continue;
            };
            match name {
                b"prompt_tokens" => usage.prompt_tokens = Some(number),
                b"output_tokens" => usage.output_tokens = Some(number),
                b"gpu_ms" => usage.gpu_ms = Some(number),
                _ => {}
            }
        }
        usage
    }
}

/// A decimal number; one that is too large is as large as can be.
pub fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = value.iter().map(|byte| u64::from(byte - b'0'));
    Some(digits.fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(digit)))
}

/// The cost of requests of a model, as its AdmissionPolicy or the defaults have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CostModel {
    tokens: TokenCost,
    memory: Option<MemoryCost>,
}

impl CostModel {
    /// As the policy says.
    pub fn new(policy: &AdmissionPolicy) -> Self {
        Self {
            tokens: policy.tokens,
            memory: policy.memory,
        }
    }

    /// What to reserve: the prompt, and of output what the client allows or, if that is less, what is usual.
    pub fn reserve(&self, asked: Asked, known: Known) -> Cost {
        Cost {
            requests: 1,
            tokens: self.tokens(asked, known, known.output_tokens),
            gpu_ms: known.gpu_ms.unwrap_or(1),
        }
    }

    /// Prompt and output, of which so much is usual.
    fn tokens(&self, asked: Asked, known: Known, usual: Option<u64>) -> u64 {
        let prompt = asked.prompt_tokens.or(known.prompt_tokens).unwrap_or(0);
        let output = match (asked.max_tokens, usual) {
            (Some(most), Some(usual)) => most.min(usual),
            (Some(most), None) => most,
            (None, usual) => usual.unwrap_or(self.tokens.default_output),
        };
        prompt.saturating_add(output)
    }

    /// GPU memory, bytes: what the request is expected to take, and what it may take beyond; nothing, if memory is no
    /// condition.
    pub fn memory(&self, asked: Asked, known: Known) -> Option<(u64, u64)> {
        let usual = self.bytes(self.tokens(asked, known, known.output_tokens))?;
        let mean = self.bytes(self.tokens(asked, known, known.mean_output_tokens.or(known.output_tokens)))?;
        // Of a heavy tail the mean may be more than what most do not exceed.
        Some((mean, usual.saturating_sub(mean)))
    }

    /// What has been taken so far; after the end, what was taken in all.
    pub fn used(&self, asked: Asked, seen: &Seen) -> Cost {
        let usage = seen.usage.unwrap_or_default();
        let by_bytes = seen.request_bytes / u64::from(self.tokens.request_bytes_per_token.max(1));
        let prompt = usage
            .prompt_tokens
            .unwrap_or(asked.prompt_tokens.unwrap_or(0).max(by_bytes));
        Cost {
            requests: 1,
            tokens: prompt.saturating_add(self.output(seen)),
            gpu_ms: usage.gpu_ms.unwrap_or(seen.elapsed_ms),
        }
    }

    /// Tokens of output so far.
    pub fn output(&self, seen: &Seen) -> u64 {
        let by_messages = seen.messages.saturating_mul(self.tokens.tokens_per_message.into());
        seen.usage.and_then(|usage| usage.output_tokens).unwrap_or(by_messages)
    }

    /// What is usual, for tokens that are given back: what so many of 100 requests do not exceed.
    pub const USUAL_PERCENT: u32 = 95;

    /// The same for memory.
    pub fn memory_percent(&self) -> u32 {
        self.memory
            .map_or(Self::USUAL_PERCENT, |memory| memory.output_percentile)
    }

    /// Bytes of GPU memory that so many tokens take; nothing, if memory is no condition.
    pub fn bytes(&self, tokens: u64) -> Option<u64> {
        let memory = self.memory?;
        let tokens = memory.bytes_per_token.saturating_mul(tokens);
        Some(memory.bytes_per_request.saturating_add(tokens))
    }

    /// Who gets memory; nothing, if it is no condition.
    pub fn terms(&self) -> Option<Terms> {
        let memory = self.memory?;
        Some(Terms {
            stale: Duration::from_millis(memory.stale_ms.into()),
            margins: [0, memory.p1_margin_percent, memory.p2_margin_percent],
            floor: memory.floor_percent,
        })
    }

    /// For how long a request waits for memory.
    pub fn wait(&self) -> Duration {
        let wait = self.memory.map_or(0, |memory| memory.wait_ms);
        Duration::from_millis(wait.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: MemoryCost = MemoryCost {
        bytes_per_request: 0,
        bytes_per_token: 1,
        watermark_percent: 5,
        output_percentile: 95,
        stale_ms: 1000,
        p1_margin_percent: 0,
        p2_margin_percent: 0,
        floor_percent: 0,
        wait_ms: 0,
    };

    fn costs() -> CostModel {
        CostModel {
            tokens: TokenCost::default(),
            memory: None,
        }
    }

    #[test]
    fn of_output_the_less_of_what_is_allowed_and_what_is_usual_is_reserved() {
        let known = Known {
            output_tokens: Some(100),
            prompt_tokens: Some(7),
            ..Known::default()
        };
        let reserve = |prompt_tokens, max_tokens, known| {
            costs()
                .reserve(
                    Asked {
                        prompt_tokens,
                        max_tokens,
                    },
                    known,
                )
                .tokens
        };
        assert_eq!(reserve(Some(10), Some(5000), known), 110);
        assert_eq!(reserve(Some(10), Some(20), known), 30);
        assert_eq!(reserve(None, None, known), 107);
        assert_eq!(reserve(None, None, Known::default()), 256);
        assert_eq!(
            reserve(Some(1), Some(1_000_000_000_000), Known::default()),
            1_000_000_000_001
        );
    }

    #[test]
    fn memory_is_what_is_expected_and_what_may_come_beyond() {
        let memory = MemoryCost {
            bytes_per_request: 1000,
            bytes_per_token: 10,
            ..MEMORY
        };
        let costs = CostModel {
            memory: Some(memory),
            ..costs()
        };
        let known = Known {
            output_tokens: Some(100),
            mean_output_tokens: Some(40),
            ..Known::default()
        };
        let of = |max_tokens, known| {
            let prompt_tokens = Some(5);
            costs.memory(
                Asked {
                    prompt_tokens,
                    max_tokens,
                },
                known,
            )
        };
        assert_eq!(of(None, known), Some((1450, 600)));
        assert_eq!(of(Some(60), known), Some((1450, 200)));
        assert_eq!(of(Some(10), known), Some((1150, 0)));
        // Nothing is known yet: all that is allowed.
        assert_eq!(of(Some(500), Known::default()), Some((6050, 0)));
        assert_eq!(of(None, Known::default()), Some((1000 + 10 * 261, 0)));
        let heavy = Known {
            mean_output_tokens: Some(300),
            ..known
        };
        assert_eq!(of(None, heavy), Some((4050, 0)));
    }

    #[test]
    fn what_the_worker_says_goes_before_what_was_counted() {
        let asked = Asked {
            prompt_tokens: Some(3),
            max_tokens: None,
        };
        let mut seen = Seen {
            request_bytes: 40,
            messages: 5,
            elapsed_ms: 9,
            usage: None,
        };
        // A client that says less than it sends is not believed.
        assert_eq!(
            costs().used(asked, &seen),
            Cost {
                requests: 1,
                tokens: 15,
                gpu_ms: 9
            }
        );
        seen.usage = Some(Usage::parse(
            b"gpu_ms=4 output_tokens=6 colour=blue prompt_tokens=2 gpu_ms=",
        ));
        assert_eq!(
            costs().used(asked, &seen),
            Cost {
                requests: 1,
                tokens: 8,
                gpu_ms: 4
            }
        );
    }

    #[test]
    fn numbers_are_digits_and_stop_at_the_largest() {
        assert_eq!(number(b"0012"), Some(12));
        assert_eq!(number(b"99999999999999999999999"), Some(u64::MAX));
        for text in [b"".as_slice(), b"-1", b"1.5", b"NaN", b" 1", b"\xff"] {
            assert_eq!(number(text), None);
        }
    }
}
