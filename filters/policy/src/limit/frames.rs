//! How many messages of gRPC pass: told by their prefixes, however they are cut into frames and callbacks (gRPC over HTTP/2,
//! "Length-Prefixed-Message").

/// Bytes before a message: compressed u8, length u32.
const PREFIX: usize = 5;
/// So much is looked at at once.
const CHUNK: usize = 4096;

/// Where in a message a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that have come.
    have: usize,
    /// Bytes of the message that have not.
    left: u64,
}

impl Frames {
    /// So many bytes pass; `read` gives some of them, by where they begin and how many are wanted. How many messages begin in
    /// them. What cannot be read counts as one message.
    pub fn pass(&mut self, size: usize, mut read: impl FnMut(usize, usize) -> Vec<u8>) -> u64 {
        let (mut at, mut messages) = (0, 0);
        while at < size {
            let rest = size - at;
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
                self.left -= passed as u64;
                at += passed;
                continue;
            }
            let wanted = rest.min(CHUNK);
            let chunk = read(at, wanted);
            if chunk.is_empty() || chunk.len() > wanted {
                return messages + 1;
            }
            at += chunk.len();
            messages += self.take(&chunk);
        }
        messages
    }

    /// Goes through bytes that begin where no message is under way.
    fn take(&mut self, bytes: &[u8]) -> u64 {
        let (mut rest, mut messages) = (bytes, 0);
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if let Some(place) = self.prefix.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have < PREFIX {
                continue;
            }
            let [_, length @ ..] = self.prefix;
            (self.have, self.left) = (0, u32::from_be_bytes(length).into());
            messages += 1;
            let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
            self.left -= passed as u64;
            rest = rest.get(passed..).unwrap_or_default();
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(lengths: &[usize]) -> Vec<u8> {
        let frame = |length: &usize| [vec![0], (*length as u32).to_be_bytes().to_vec(), vec![9; *length]].concat();
        lengths.iter().flat_map(frame).collect()
    }

    fn count(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> u64 {
        let (mut frames, mut rest, mut messages) = (Frames::default(), bytes, 0);
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            messages += frames.pass(part.len(), |at, wanted| part[at..at + wanted].to_vec());
            rest = after;
        }
        messages + frames.pass(rest.len(), |at, wanted| rest[at..at + wanted].to_vec())
    }

    #[test]
    fn eight_hundred_messages_in_one_frame_are_eight_hundred() {
        assert_eq!(count(&framed(&[0; 800]), std::iter::empty()), 800);
        assert_eq!(count(&framed(&[100_000, 3, 0]), std::iter::empty()), 3);
    }

    #[test]
    fn what_cannot_be_read_counts_as_one() {
        assert_eq!(Frames::default().pass(10_000, |_, _| Vec::new()), 1);
    }

    proptest! {
        #[test]
        fn the_cuts_make_no_difference(
            lengths in prop::collection::vec(0_usize..6000, 0..20),
            cuts in prop::collection::vec(0_usize..3000, 0..20),
        ) {
            prop_assert_eq!(count(&framed(&lengths), cuts.into_iter()), lengths.len() as u64);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, cuts in prop::collection::vec(0_usize..40, 0..20)) {
            let _ = count(&bytes, cuts.into_iter());
        }
    }
}
