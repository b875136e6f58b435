//! The request that a question is about.

use crate::table::printable;
use kilocard_policy::{Peer, headers};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::IpAddr;

/// Who sends the request, as far as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The direct peer's address.
    pub address: Option<IpAddr>,
    /// The SPIFFE ID that its certificate proves.
    pub spiffe: Option<String>,
}

impl Peer for Sender {
    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn uri_sans(&self) -> Vec<String> {
        self.spiffe.iter().cloned().collect()
    }
}

impl Sender {
    /// For people; nothing for nobody in particular.
    pub fn describe(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        let known: Vec<String> = address.into_iter().chain(self.spiffe.clone()).collect();
        match known.is_empty() {
            true => String::new(),
            false => format!("caller      {}\n", printable(&known.join(", "))),
        }
    }
}

/// The request that is explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    headers: Vec<Header>,
    /// Who sends it.
    pub sender: Sender,
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
