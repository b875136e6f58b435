//! What the mesh tells of a request besides its route: by what name to follow it, and whether it is a copy.

use tonic::metadata::MetadataMap;
use tracing::Span;

/// `<first 8 of the trace's id>-<GPU asked for>`, set by the gateway filter.
const TAG: &str = "x-kilocard-tag";
/// [`COPY`] on a copy; on the request that is copied, where the copy goes.
const SHADOW: &str = "x-kilocard-shadow";
/// Set by Envoy, which copies.
const COPY: &str = "1";
/// Longer than any tag that the filter makes; a log is no place for more.
const MAX_TAG_BYTES: usize = 128;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// Its tag; `None` for a request that brings none, or one that no filter made.
    tag: Option<&'a str>,
    /// Whether it is a copy for a version that is tried out: nobody waits for the answer.
    pub(super) is_shadow: bool,
}

impl<'a> Origin<'a> {
    pub(super) fn of(metadata: &'a MetadataMap) -> Self {
        // `to_str` takes visible ASCII only.
        let text = |key| metadata.get(key)?.to_str().ok();
        Self {
            tag: text(TAG).filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG_BYTES),
            is_shadow: text(SHADOW) == Some(COPY),
        }
    }

    /// Marks what is logged on the way of the request.
    pub(super) fn span(&self) -> Span {
        tracing::info_span!("request", tag = self.tag, shadow = self.is_shadow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    fn metadata(entries: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in entries {
            metadata.insert(*key, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn a_copy_is_known_by_its_mark_and_the_request_that_is_copied_is_none() {
        assert!(Origin::of(&metadata(&[(SHADOW, "1")])).is_shadow);
        assert!(!Origin::of(&metadata(&[(SHADOW, "minilm/v3")])).is_shadow);
        assert!(!Origin::of(&metadata(&[])).is_shadow);
    }

    #[test]
    fn a_tag_that_no_filter_made_is_left_out() {
        let long = "a".repeat(MAX_TAG_BYTES + 1);
        for tag in ["", long.as_str()] {
            assert_eq!(Origin::of(&metadata(&[(TAG, tag)])).tag, None);
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn what_is_logged_on_the_way_of_a_request_tells_its_tag() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false);
        let metadata = metadata(&[(TAG, "4bf92f35-gpu0:high"), (SHADOW, "1")]);
        tracing::subscriber::with_default(subscriber.finish(), || {
            Origin::of(&metadata).span().in_scope(|| tracing::info!("computed"));
        });
        let line = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(
            line.contains("request{tag=\"4bf92f35-gpu0:high\" shadow=true}") && line.contains("computed"),
            "{line}"
        );
    }
}
