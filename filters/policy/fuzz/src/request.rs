//! The headers of a request as a text that people can read and libFuzzer can change:
//!
//! ```text
//! g1
//! x-model: minilm
//! x-note: ab\2\2\n
//! ```
//!
//! The first line holds options, a letter each. Every other line is a header; a line without `: ` is a header without a
//! value. In a value `\n` is a line feed and `\2` doubles what stands before it, so that a few bytes make a long value.

/// Values do not double beyond this: more than Envoy lets through.
const MOST_BYTES: usize = 96 * 1024;

/// What every stock gRPC client sends.
const GRPC: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "mesh.example"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-rust/0.14"),
];

/// Options and headers.
pub struct Request<'d> {
    options: &'d [u8],
    headers: Vec<(&'d [u8], Vec<u8>)>,
}

impl<'d> Request<'d> {
    /// Any bytes are a request.
    pub fn read(data: &'d [u8]) -> Self {
        let mut lines = data.split(|byte| *byte == b'\n');
        let options = lines.next().unwrap_or_default();
        let given: Vec<_> = lines.filter(|line| !line.is_empty()).map(read_header).collect();
        let mut headers = Vec::new();
        if options.contains(&b'g') {
            headers.extend(stock(|name| given.iter().any(|(given, _)| *given == name)));
        }
        headers.extend(given);
        Self { options, headers }
    }

    /// Whether the first line has that letter.
    pub fn has(&self, option: u8) -> bool {
        self.options.contains(&option)
    }

    /// As a decision sees them.
    pub fn headers(&self) -> Vec<(&[u8], &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect()
    }
}

/// The stock headers, but those that are given.
pub(crate) fn stock(is_given: impl Fn(&[u8]) -> bool) -> Vec<(&'static [u8], Vec<u8>)> {
    let left = GRPC.iter().filter(|(name, _)| !is_given(name.as_bytes()));
    left.map(|(name, value)| (name.as_bytes(), value.as_bytes().to_vec()))
        .collect()
}

fn read_header(line: &[u8]) -> (&[u8], Vec<u8>) {
    match line.windows(2).position(|two| two == b": ") {
        None => (line, Vec::new()),
        Some(at) => (&line[..at], unescape(&line[at + 2..])),
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.first()) {
            (b'\\', Some(b'n')) => {
                value.push(b'\n');
                &after[1..]
            }
            (b'\\', Some(b'2')) => {
                if value.len() <= MOST_BYTES / 2 {
                    value.extend_from_within(..);
                }
                &after[1..]
            }
            _ => {
                value.push(*first);
                after
            }
        };
    }
    value
}
