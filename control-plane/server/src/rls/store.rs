//! The limiter's store in the memory of this process, and drafts of changes to it.

use kilocard_policy::limit::Store;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

/// The sets of keys, by name. As many as the tables have, so headers that nobody has seen before cannot make it grow.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<String, Vec<u8>>);

impl Memory {
    /// A draft without changes.
    pub(super) fn draft(&self) -> Draft<'_> {
        Draft {
            base: self,
            written: RefCell::default(),
        }
    }

    /// Takes a draft's changes in.
    pub(super) fn take(&mut self, changes: Changes) {
        let values = changes.0.into_iter().map(|(name, (value, _))| (name, value));
        self.0.extend(values);
    }

    /// Forgets the values whose names are not wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_wanted(name));
    }

    /// How many values there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What would be changed. It reads its own changes; nobody else sees them.
#[derive(Debug)]
pub(super) struct Draft<'m> {
    base: &'m Memory,
    /// With how often each was written.
    written: RefCell<HashMap<String, (Vec<u8>, u32)>>,
}

/// What a draft has changed.
#[derive(Debug, Default)]
pub(super) struct Changes(HashMap<String, (Vec<u8>, u32)>);

impl Draft<'_> {
    /// For [`Memory::take`].
    pub(super) fn into_changes(self) -> Changes {
        Changes(self.written.into_inner())
    }
}

impl Store for Draft<'_> {
    type Error = Infallible;

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), Infallible> {
        if let Some(value) = self.written.borrow().get(name) {
            return Ok(value.clone());
        }
        Ok((self.base.0.get(name).cloned().unwrap_or_default(), 0))
    }

    fn swap(&self, name: &str, value: &[u8], read: u32) -> Result<bool, Infallible> {
        let mut written = self.written.borrow_mut();
        let writes = written.get(name).map_or(0, |(_, writes)| *writes);
        if writes == read {
            written.insert(name.to_owned(), (value.to_vec(), writes + 1));
        }
        Ok(writes == read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_reads_what_it_wrote_and_only_what_is_taken_stays() {
        let mut memory = Memory::default();
        let draft = memory.draft();
        assert_eq!(draft.swap("a", b"1", 0), Ok(true));
        assert_eq!(draft.read("a"), Ok((b"1".to_vec(), 1)));
        // A plan from before the write.
        assert_eq!(draft.swap("a", b"2", 0), Ok(false));
        assert_eq!(memory.draft().read("a"), Ok((Vec::new(), 0)));
        let draft = memory.draft();
        assert_eq!(draft.swap("a", b"3", 0), Ok(true));
        let changes = draft.into_changes();
        memory.take(changes);
        assert_eq!(memory.draft().read("a"), Ok((b"3".to_vec(), 0)));
        memory.retain(|name| name != "a");
        assert_eq!(memory.len(), 0);
    }
}
