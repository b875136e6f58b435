//! A directory as a value of the store.

use super::{Directory, Entry, Key, MAX_KEYS, MAX_NAME_BYTES, MethodClass, Phase, SizeClass};
use crate::codec::Reader;
use crate::window::Epoch;

const FORM: u8 = 1;
/// Tenure, epoch, three classes and the lengths of two names.
const ENTRY: usize = 4 + 8 + 3 + 2;
/// The most bytes of a directory.
pub const MAX_BYTES: usize = 7 + MAX_KEYS * (ENTRY + MAX_NAME_BYTES);

impl Directory {
    /// For the store: form u8, places ever given u32, number u16, and each entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.tenures.to_le_bytes());
        bytes.extend((self.entries.len() as u16).to_le_bytes());
        for Entry { key, tenure, seen } in &self.entries {
            bytes.extend(tenure.to_le_bytes());
            bytes.extend(seen.get().to_le_bytes());
            bytes.extend([key.method as u8, key.size as u8, key.phase as u8]);
            for name in [&key.model, &key.version] {
                // No longer than 200 bytes, or it would not be here.
                bytes.push(name.len() as u8);
                bytes.extend(name.as_bytes());
            }
        }
        bytes
    }

    /// Of such bytes; of others, an empty directory. Tenures then begin anew, so slots of before may be read for those of
    /// a kind that comes to the same place within five minutes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of_form(bytes, FORM)?;
        let tenures = reader.u32()?;
        let length = usize::from(reader.u16()?);
        if length > MAX_KEYS {
            return None;
        }
        let entries = (0..length).map(|_| read_entry(&mut reader)).collect::<Option<_>>()?;
        reader.is_empty().then_some(Self { entries, tenures })
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let tenure = reader.u32()?;
    let seen = Epoch::new(reader.u64()?);
    let method = *[MethodClass::Infer, MethodClass::Generate, MethodClass::Control].get(usize::from(reader.u8()?))?;
    let size = *[SizeClass::Small, SizeClass::Medium, SizeClass::Large].get(usize::from(reader.u8()?))?;
    let phase = *[Phase::Total, Phase::FirstMessage, Phase::Gap].get(usize::from(reader.u8()?))?;
    let mut name = || {
        let length = usize::from(reader.u8()?);
        Some(std::str::from_utf8(reader.take(length)?).ok()?.to_owned())
    };
    let (model, version) = (name()?, name()?);
    if model.len() + version.len() > MAX_NAME_BYTES {
        return None;
    }
    let key = Key {
        model,
        version,
        method,
        size,
        phase,
    };
    Some(Entry { key, tenure, seen })
}
