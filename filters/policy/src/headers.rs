//! The headers that Kilocard reads and writes, and the grammar of their values.

/// Which model; absent, the one whose RoutingPolicy is the default.
pub const X_MODEL: &str = "x-model";
/// Pins the request to exactly this version.
pub const X_MODEL_VERSION: &str = "x-model-version";
/// The canary's share for this one request, in percent; honoured only where the RoutingPolicy says so.
pub const X_CANARY_WEIGHT: &str = "x-canary-weight";
/// Who asks; keeps a user on one version.
pub const X_USER_ID: &str = "x-user-id";
/// How long the client waits: 1 to 8 digits and one of `H M S m u n` (gRPC over HTTP/2, "Timeout").
pub const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The HTTP/2 pseudo-header of the method.
pub const METHOD: &str = ":method";
/// The HTTP/2 pseudo-header of the path.
pub const PATH: &str = ":path";
/// The media type.
pub const CONTENT_TYPE: &str = "content-type";
/// Hop-by-hop: gRPC clients send `trailers`.
pub const TE: &str = "te";

/// Set by the filter: `<model>/<version>`; the route table matches on it and a cluster has the same name.
pub const ROUTE: &str = "x-kilocard-route";
/// Set by the filter on a refusal: the label of the [reason](crate::RefusalReason).
pub const REASON: &str = "x-kilocard-reason";
/// Headers that begin with this are Kilocard's own: what comes from outside under such a name is removed.
pub const INTERNAL_PREFIX: &str = "x-kilocard-";

/// Whether a header (name in lower case) is Kilocard's own.
pub fn is_internal(name: &[u8]) -> bool {
    name.starts_with(INTERNAL_PREFIX.as_bytes())
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`: what `x-model` and `x-model-version` may hold. Wider than
/// [`is_name`](crate::config::is_name), so that a client that asks for `V2` hears that there is no such version, and which
/// ones there are.
pub fn is_name_value(value: &[u8]) -> bool {
    value.len() <= 64
        && value.first().is_some_and(u8::is_ascii_alphanumeric)
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Longest `x-user-id`, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// Whether a byte may stand in `x-user-id`: letters, digits and `. _ @ : + / = -`. Wide enough for UUIDs, mail
/// addresses, SPIFFE IDs and base64; too narrow for quotes, brackets, blanks and semicolons.
pub fn is_user_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b':' | b'+' | b'/' | b'=' | b'-')
}
