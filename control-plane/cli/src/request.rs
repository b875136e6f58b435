//! The request that a question is about.

use kilocard_policy::headers;
use serde_json::{Value, json};
use std::fmt::Write;

/// The request that is explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    headers: Vec<Header>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    name: String,
    value: String,
    filled_in: bool,
}

impl Header {
    /// Whether the filter takes it off a request that it forwards. It counts against the limits all the same.
    fn is_removed(&self) -> bool {
        headers::is_internal(self.name.as_bytes())
    }
}

impl Request {
    /// A gRPC request with these headers: what every gRPC client sends is filled in unless given.
    pub fn new(path: &str, given: &[(String, String)]) -> Self {
        let usual = [
            (headers::METHOD, "POST"),
            (headers::PATH, path),
            (headers::CONTENT_TYPE, "application/grpc"),
            (headers::TE, "trailers"),
        ];
        let mut request = Self::default();
        for (name, value) in usual {
            if !given.iter().any(|(given, _)| given == name) {
                request.headers.push(Header {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    filled_in: true,
                });
            }
        }
        request.headers.extend(given.iter().map(|(name, value)| Header {
            name: name.clone(),
            value: value.clone(),
            filled_in: false,
        }));
        // Pseudo-headers come first (RFC 9113, 8.3); the sort keeps the order among the others.
        request.headers.sort_by_key(|header| !header.name.starts_with(':'));
        request
    }

    /// The bytes, as the policy wants them.
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        self.headers
            .iter()
            .map(|header| (header.name.as_bytes(), header.value.as_bytes()))
            .collect()
    }

    /// The first value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.name == name)
            .map(|header| header.value.as_str())
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        let header = |header: &Header| {
            json!({
                "name": header.name, "value": header.value, "filled_in": header.filled_in,
                "removed_when_forwarded": header.is_removed(),
            })
        };
        self.headers.iter().map(header).collect()
    }

    /// For people, a line each.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, header) in self.headers.iter().enumerate() {
            let margin = if index == 0 { "request" } else { "" };
            // Escaped: a value may be an attack on whoever reads it on a terminal.
            let value: String = header
                .value
                .chars()
                .flat_map(|c| {
                    if c.is_control() {
                        c.escape_default().collect()
                    } else {
                        vec![c]
                    }
                })
                .collect();
            let note = match (header.filled_in, header.is_removed()) {
                (true, _) => "   (filled in)",
                (false, true) => "   (removed when forwarded)",
                (false, false) => "",
            };
            let _ = writeln!(text, "{margin:<12}{}: {value}{note}", header.name);
        }
        text
    }
}
