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

    /// All headers, in order.
    pub fn headers(&self) -> &'a [(&'a [u8], &'a [u8])] {
        self.headers
    }
}

/// The media type that gRPC over HTTP/2 prescribes: `application/grpc`, then nothing, `+…` or `;…`.
pub(crate) fn is_grpc_content_type(value: &[u8]) -> bool {
    matches!(value.strip_prefix(b"application/grpc"), Some([] | [b'+' | b';', ..]))
}
