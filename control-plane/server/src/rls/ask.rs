//! What a descriptor asks for.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use kilocard_policy::Policy;
use kilocard_policy::config::Priority;
use kilocard_policy::limit::estimate::{self, Asked, Known};
use kilocard_policy::limit::{Cost, Subject};

/// One request, as a descriptor has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'r> {
    /// Whose limits it takes from.
    pub(super) subject: Subject<'r>,
    /// How much.
    pub(super) cost: Cost,
    /// Whether that much is given back instead.
    pub(super) gives_back: bool,
}

impl<'r> Ask<'r> {
    /// Reads a descriptor; `hits` is the request's `hits_addend`. Of a key that comes twice the first counts, and keys that
    /// are not known are passed over, as is a number that is none.
    ///
    /// Tokens and GPU time that are not said are what a filter reserves for a request of which it knows nothing.
    pub(super) fn of(descriptor: &'r RateLimitDescriptor, hits: u32, policy: &Policy) -> Self {
        let mut subject = Subject::default();
        let (mut method, mut priority, mut tokens, mut gpu_ms) = (None, None, None, None);
        for entry in &descriptor.entries {
            let slot = match entry.key.as_str() {
                "tenant" => &mut subject.tenant,
                "user" => &mut subject.user,
                "model" => &mut subject.model,
                "version" => &mut subject.version,
                "method" => &mut method,
                "priority" => &mut priority,
                "tokens" => &mut tokens,
                "gpu_ms" => &mut gpu_ms,
                _ => continue,
            };
            slot.get_or_insert(entry.value.as_bytes());
        }
        let path = method.unwrap_or_default();
        subject.method = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        subject.priority = priority.and_then(Priority::from_header).unwrap_or_default();
        // 0 is what a request has that says nothing, and stands for 1; a descriptor can say 0.
        let hits = descriptor
            .hits_addend
            .as_ref()
            .map_or(u64::from(hits.max(1)), |hits| hits.value);
        let usual = policy
            .cost_model(subject.model)
            .reserve(Asked::default(), Known::default());
        let amount = |said: Option<&[u8]>, usual: u64| {
            said.and_then(estimate::number)
                .unwrap_or_else(|| usual.saturating_mul(hits))
        };
        Self {
            subject,
            cost: Cost {
                requests: hits,
                tokens: amount(tokens, usual.tokens),
                gpu_ms: amount(gpu_ms, usual.gpu_ms),
            },
            gives_back: descriptor.is_negative_hits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{descriptor, policy};
    use super::*;
    use envoy_types::pb::google::protobuf::UInt64Value;

    fn cost(requests: u64, tokens: u64, gpu_ms: u64) -> Cost {
        Cost {
            requests,
            tokens,
            gpu_ms,
        }
    }

    #[test]
    fn entries_tell_whose_request_it_is_and_the_first_of_a_key_counts() {
        let entries = [
            ("tenant", "acme"),
            ("remote_address", "10.0.0.1"),
            ("tenant", "other"),
            ("model", "minilm"),
            ("version", "v1"),
            ("method", "/a.B/C?d=e"),
            ("priority", "P2"),
        ];
        let descriptor = descriptor(&entries);
        let subject = Ask::of(&descriptor, 0, &policy(&[])).subject;
        assert_eq!((subject.tenant, subject.user), (Some(b"acme".as_slice()), None));
        assert_eq!(
            (subject.model, subject.version),
            (Some(b"minilm".as_slice()), Some(b"v1".as_slice()))
        );
        assert_eq!((subject.method, subject.priority), (b"/a.B/C".as_slice(), Priority::P2));
    }

    #[test]
    fn numbers_are_the_cost_and_what_is_not_said_is_what_is_usual() {
        let policy = policy(&[]);
        let of = |entries: &[(&str, &str)], hits| Ask::of(&descriptor(entries), hits, &policy).cost;
        assert_eq!(of(&[("tokens", "70"), ("gpu_ms", "9")], 0), cost(1, 70, 9));
        assert_eq!(of(&[("tokens", "many")], 3), cost(3, 768, 3));
        assert_eq!(of(&[("tokens", "0")], 2), cost(2, 0, 2));
    }

    #[test]
    fn a_descriptor_has_hits_of_its_own() {
        let policy = policy(&[]);
        let mut own = descriptor(&[("tokens", "5"), ("gpu_ms", "0")]);
        own.hits_addend = Some(UInt64Value { value: 0 });
        assert_eq!(Ask::of(&own, 7, &policy).cost, cost(0, 5, 0));
        own.is_negative_hits = true;
        assert!(Ask::of(&own, 7, &policy).gives_back);
    }
}
