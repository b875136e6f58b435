//! A value that is not kept: its digest, its length, and whether it breaks its grammar.

use std::fmt;

use crate::cohort::Key;
use crate::headers;
use crate::validation::is_binary_value;

/// What is kept of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    pub(super) key: Key,
    length: usize,
    /// A byte that breaks the grammar of the header.
    fault: Option<u8>,
}

/// Longest value that can be stood in for. Envoy refuses longer ones.
const MAX_LENGTH: usize = 1 << 20;

impl Hashed {
    pub(super) fn of(name: &[u8], value: &[u8]) -> Self {
        let is_id = [headers::X_USER_ID, headers::X_TENANT_ID, headers::X_SESSION_ID]
            .iter()
            .any(|id| id.as_bytes() == name);
        let first = |is_wrong: fn(u8) -> bool| value.iter().copied().find(|byte| is_wrong(*byte));
        // In the order in which validation looks for them.
        let fault = first(|byte| byte.is_ascii_control())
            .or_else(|| first(|byte| !byte.is_ascii()))
            .or_else(|| first(|byte| !headers::is_user_id_byte(byte)).filter(|_| is_id))
            .or_else(|| (is_binary(name) && !is_binary_value(value)).then_some(b'!'));
        Self {
            key: Key::of(value),
            length: value.len(),
            fault,
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digest, rest) = text.strip_prefix('#')?.split_once(':')?;
        let (length, fault) = match rest.split_once('!') {
            Some((length, fault)) if fault.len() == 2 => (length, Some(u8::from_str_radix(fault, 16).ok()?)),
            Some(_) => return None,
            None => (rest, None),
        };
        let is_digest = digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let length = length.parse().ok().filter(|length| *length <= MAX_LENGTH)?;
        Some(Self {
            key: Key::from_digest(is_digest.then(|| u64::from_str_radix(digest, 16).ok())??),
            length,
            fault,
        })
    }

    /// A value of the same length that passes or breaks the grammar of the header in the same way.
    pub(super) fn stand_in(self, name: &[u8]) -> Vec<u8> {
        let mut value = vec![b'A'; self.length];
        // A list of two: base64 itself never has such a length. One byte is a list of two empty ones.
        if is_binary(name)
            && self.length % 4 == 1
            && let Some(comma) = value.get_mut(if self.length == 1 { 0 } else { 2 })
        {
            *comma = b',';
        }
        if let (Some(fault), Some(first)) = (self.fault, value.first_mut()) {
            *first = fault;
        }
        value
    }
}

fn is_binary(name: &[u8]) -> bool {
    name.ends_with(b"-bin")
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}:{}", self.key.digest(), self.length)?;
        match self.fault {
            Some(fault) => write!(f, "!{fault:02x}"),
            None => Ok(()),
        }
    }
}
