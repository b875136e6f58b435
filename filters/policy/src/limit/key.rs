//! Whose limit a request takes from.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3;

use crate::config::{KeyPart, Priority};

/// What of a request tells its limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// `x-tenant-id`.
    pub tenant: Option<&'a [u8]>,
    /// `x-user-id`.
    pub user: Option<&'a [u8]>,
    /// The model, as far as it is known.
    pub model: Option<&'a [u8]>,
    /// The version that serves, as far as it is known.
    pub version: Option<&'a [u8]>,
    /// The path, without its query.
    pub method: &'a [u8],
    /// How urgent it is.
    pub priority: Priority,
}

impl<'a> Subject<'a> {
    fn part(&self, part: KeyPart) -> Option<&'a [u8]> {
        match part {
            KeyPart::Tenant => self.tenant,
            KeyPart::User => self.user,
            KeyPart::Model => self.model,
            KeyPart::Version => self.version,
            KeyPart::Method => Some(self.method),
            KeyPart::Priority => Some(self.priority.as_str().as_bytes()),
        }
    }
}

/// A key of one policy, by its hash: 64 bits, of which a seed that no client knows is part, so that nobody can choose to
/// share another's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The one key of a policy that tells none apart, and the one of all keys for which there is no room.
    pub const SHARED: Self = Self(1);

    /// Of the parts that the policy tells keys apart by.
    pub fn of(subject: &Subject<'_>, by: &[KeyPart], seed: u64) -> Self {
        if by.is_empty() {
            return Self::SHARED;
        }
        let mut hash = Xxh3::with_seed(seed);
        for part in by {
            match subject.part(*part) {
                // Lengths keep `a`, `bc` and `ab`, `c` apart; nothing is not the empty value.
                Some(value) => {
                    hash.update(&(value.len() as u64 + 1).to_le_bytes());
                    hash.update(value);
                }
                None => hash.update(&0_u64.to_le_bytes()),
            }
        }
        Self::from_hash(hash.digest())
    }

    /// 0 stands for no key in a table, and 1 is [`SHARED`](Self::SHARED).
    fn from_hash(hash: u64) -> Self {
        Self(hash.max(2))
    }

    /// As it is stored.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The same key for people, and for the control plane, which joins what the proxies report under it:
/// `tenant=acme,model=minilm`. What is not there is left out; bytes that would break the form are percent-encoded.
pub fn text(subject: &Subject<'_>, by: &[KeyPart]) -> String {
    let mut text = String::new();
    for part in by {
        let Some(value) = subject.part(*part) else { continue };
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{part}=");
        for byte in value {
            let is_plain = byte.is_ascii_graphic() && !matches!(byte, b',' | b'=' | b'%' | b'"' | b'\\');
            if is_plain {
                text.push(char::from(*byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// The fingerprint of a key that [`text`] wrote; nothing, if it is not one of a policy that tells keys apart by these.
pub fn parse(text: &str, by: &[KeyPart], seed: u64) -> Option<Fingerprint> {
    let mut values: Vec<(KeyPart, Vec<u8>)> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let part = *by.iter().find(|part| part.as_str() == name)?;
        values.push((part, decode(value)?));
    }
    let of = |part| {
        values
            .iter()
            .find(|(name, _)| *name == part)
            .map(|(_, value)| value.as_slice())
    };
    let priority = of(KeyPart::Priority).and_then(Priority::from_header);
    let subject = Subject {
        tenant: of(KeyPart::Tenant),
        user: of(KeyPart::User),
        model: of(KeyPart::Model),
        version: of(KeyPart::Version),
        method: of(KeyPart::Method).unwrap_or_default(),
        priority: priority.unwrap_or_default(),
    };
    Some(Fingerprint::of(&subject, by, seed))
}

fn decode(value: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject<'a>(tenant: Option<&'a [u8]>, user: Option<&'a [u8]>) -> Subject<'a> {
        Subject {
            tenant,
            user,
            model: Some(b"minilm"),
            method: b"/a.B/C",
            ..Subject::default()
        }
    }

    #[test]
    fn keys_differ_by_what_the_policy_names_and_by_nothing_else() {
        let by = [KeyPart::Tenant, KeyPart::User];
        let key = |tenant, user| Fingerprint::of(&subject(tenant, user), &by, 7);
        assert_ne!(key(Some(b"ab"), Some(b"c")), key(Some(b"a"), Some(b"bc")));
        assert_ne!(key(Some(b""), None), key(None, Some(b"")));
        assert_ne!(key(None, None), key(Some(b""), None));
        let of_user = |tenant| Fingerprint::of(&subject(tenant, Some(b"u")), &[KeyPart::User], 7);
        assert_eq!(of_user(Some(b"a")), of_user(Some(b"b")));
        assert_eq!(Fingerprint::of(&subject(None, None), &[], 7), Fingerprint::SHARED);
    }

    #[test]
    fn the_text_of_a_key_can_be_read_by_people() {
        let by = [KeyPart::Tenant, KeyPart::Model, KeyPart::User, KeyPart::Priority];
        let text = text(&subject(Some(b"a,c=\xff"), None), &by);
        assert_eq!(text, "tenant=a%2Cc%3D%FF,model=minilm,priority=P0");
    }

    proptest! {
        #[test]
        fn the_text_of_a_key_leads_back_to_it(
            tenant in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            user in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            seed: u64,
        ) {
            let by = [KeyPart::User, KeyPart::Method, KeyPart::Tenant, KeyPart::Version];
            let subject = subject(tenant.as_deref(), user.as_deref());
            let read = parse(&text(&subject, &by), &by, seed);
            prop_assert_eq!(read, Some(Fingerprint::of(&subject, &by, seed)));
        }

        #[test]
        fn no_text_is_too_strange(text: String, seed: u64) {
            let _ = parse(&text, KeyPart::ALL, seed);
        }
    }
}
