//! What a decision sees of a request.

/// The headers of a request: raw bytes, in order, pseudo-headers included. Names are in lower case, as HTTP/2 demands
/// (RFC 9113, section 8.2); values may be any bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    headers: &'a [(&'a [u8], &'a [u8])],
}

impl<'a> RequestView<'a> {
    /// A view of these `(name, value)` pairs.
    pub fn new(headers: &'a [(&'a [u8], &'a [u8])]) -> Self {
        Self { headers }
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// All values of a header, in order.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(candidate, _)| *candidate == name.as_bytes())
            .map(|(_, value)| *value)
    }

    /// All headers, in order.
    pub fn headers(&self) -> &'a [(&'a [u8], &'a [u8])] {
        self.headers
    }

    /// Whether the client speaks gRPC, and so wants a refusal as gRPC status rather than as HTTP status: the content
    /// type is `application/grpc`, alone or followed by `+…` or `;…`. gRPC-Web has a media type of its own.
    pub fn is_grpc(&self) -> bool {
        self.get(crate::headers::CONTENT_TYPE).is_some_and(is_grpc_content_type)
    }
}

/// The media type that gRPC over HTTP/2 prescribes: `application/grpc`, then nothing, `+…` or `;…`.
pub(crate) fn is_grpc_content_type(value: &[u8]) -> bool {
    matches!(value.strip_prefix(b"application/grpc"), Some([] | [b'+' | b';', ..]))
}
