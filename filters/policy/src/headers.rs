//! The headers that Kilocard reads and writes, and the grammar of their values.

/// Which model; absent, the one whose RoutingPolicy is the default.
pub const X_MODEL: &str = "x-model";
/// Pins the request to exactly this version.
pub const X_MODEL_VERSION: &str = "x-model-version";
/// The canary's share for this one request, in percent; honoured only where the RoutingPolicy says so.
pub const X_CANARY_WEIGHT: &str = "x-canary-weight";
/// Who asks; keeps a user on one version.
pub const X_USER_ID: &str = "x-user-id";
/// The tenant that who asks belongs to.
pub const X_TENANT_ID: &str = "x-tenant-id";
/// The session that a request belongs to.
pub const X_SESSION_ID: &str = "x-session-id";
/// How long the client waits: 1 to 8 digits and one of `H M S m u n` (gRPC over HTTP/2, "Timeout").
pub const GRPC_TIMEOUT: &str = "grpc-timeout";
/// How messages of the request are compressed (gRPC over HTTP/2, "Message-Encoding").
pub const GRPC_ENCODING: &str = "grpc-encoding";
/// Which compressions the client understands (gRPC over HTTP/2, "Message-Accept-Encoding").
pub const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// On which card, or with how much memory, the request wants to run: `gpu0:high`, `gpu3`, `any:low`.
pub const X_GPU_AFFINITY: &str = "x-gpu-affinity";
/// On which class of GPU the request wants to run.
pub const X_GPU_CLASS: &str = "x-gpu-class";
/// Joins what is written about one request, for clients without W3C trace context.
pub const X_TRACE_ID: &str = "x-trace-id";
/// W3C trace context, level 2.
pub const TRACEPARENT: &str = "traceparent";
/// Envoy's own id of a request.
pub const X_REQUEST_ID: &str = "x-request-id";
/// How urgent the request is: `P0`, `P1` or `P2`.
pub const X_PRIORITY: &str = "x-priority";
/// Which service level the client has bought.
pub const X_SLA: &str = "x-sla";
/// How many tokens the prompt has, where the client has counted them.
pub const X_PROMPT_TOKENS: &str = "x-prompt-tokens";
/// How many tokens the answer may have at most.
pub const X_MAX_TOKENS: &str = "x-max-tokens";
/// The HTTP/2 pseudo-header of the method.
pub const METHOD: &str = ":method";
/// The HTTP/2 pseudo-header of the path.
pub const PATH: &str = ":path";
/// The HTTP/2 pseudo-header of the host.
pub const AUTHORITY: &str = ":authority";
/// The media type.
pub const CONTENT_TYPE: &str = "content-type";
/// Hop-by-hop: gRPC clients send `trailers`.
pub const TE: &str = "te";

/// Set by the filter: `<model>/<version>`; the route table matches on it and a cluster has the same name.
pub const ROUTE: &str = "x-kilocard-route";
/// Set by the filter on a refusal: the label of the [reason](crate::RefusalReason).
pub const REASON: &str = "x-kilocard-reason";
/// Set by the filter: the GPU tags that a request asks for, in their order, for Envoy's header-to-metadata filter: a
/// `google.protobuf.Value` in base64 (see `gpu`).
pub const GPU_WISH: &str = "x-kilocard-gpu";
/// Set by the filter: the pool whose connections take the request; absent, the default one. The route table matches on it.
pub const POOL: &str = "x-kilocard-pool";
/// Set by the filter: the cluster that gets a copy of the request.
pub const SHADOW: &str = "x-kilocard-shadow";
/// Set by the filter: what the worker notes beside its work, `<first 8 of the trace id>-<affinity or class>`.
pub const TAG: &str = "x-kilocard-tag";
/// Set by the filter on responses: the [record](crate::record::Record) of the decision.
pub const DECISION: &str = "x-kilocard-decision";
/// Set by the worker in trailers: what the request has used, see [`Usage`](crate::limit::estimate::Usage).
pub const USAGE: &str = "x-kilocard-usage";
/// Picks the endpoint itself, past all balancing (Gateway API Inference Extension, "Endpoint Picker Protocol").
const DESTINATION_ENDPOINT: &[u8] = b"x-gateway-destination-endpoint";
/// Kilocard's own headers begin with this.
const OWN_PREFIX: &[u8] = b"x-kilocard-";

/// Headers that begin with this steer Envoy's router: its retries, timeouts and hedging.
const ENVOY_PREFIX: &[u8] = b"x-envoy-";

/// What of Envoy's headers only informs: set by Envoy before the filter, or by a proxy in front.
const INFORMING: [&[u8]; 8] = [
    b"attempt-count",
    b"downstream-service-cluster",
    b"downstream-service-node",
    b"expected-rq-timeout-ms",
    b"external-address",
    b"internal",
    b"peer-metadata",
    b"peer-metadata-id",
];

/// Whether a header (name in lower case) is for the mesh to set and not for a client: what comes from outside under such a
/// name is removed. Envoy strips its own from outside as well, but not when the client sits on 127.0.0.1 (a sidecar, a
/// local TLS terminator), where `x-envoy-max-retries: 200` would be obeyed.
pub fn is_internal(name: &[u8]) -> bool {
    let steers = |rest: &[u8]| !INFORMING.contains(&rest);
    name.starts_with(OWN_PREFIX) || name.strip_prefix(ENVOY_PREFIX).is_some_and(steers) || name == DESTINATION_ENDPOINT
}

/// Whether the routing stage itself reads a header to decide: it holds such a header to its grammar even where validation
/// only reports or does not run.
pub(crate) fn is_read_by_routing(name: &str) -> bool {
    matches!(
        name,
        X_MODEL
            | X_MODEL_VERSION
            | X_CANARY_WEIGHT
            | X_USER_ID
            | X_TENANT_ID
            | X_SESSION_ID
            | X_GPU_AFFINITY
            | X_GPU_CLASS
    )
}

/// Whether a header says who asks, or lets others ask as them: its value is never kept as it is.
pub fn is_always_hashed(name: &str) -> bool {
    matches!(
        name,
        X_USER_ID | X_TENANT_ID | X_SESSION_ID | "authorization" | "proxy-authorization" | "cookie"
    )
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`: what `x-model`, `x-gpu-class` and `x-sla` may hold. Wider than
/// [`is_name`](crate::config::is_name), so that a client that asks for `MiniLM` hears that there is no such model, and
/// which ones there are.
pub fn is_name_value(value: &[u8]) -> bool {
    value.len() <= 64
        && value.first().is_some_and(u8::is_ascii_alphanumeric)
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`, at most 64 bytes: what `x-model-version` may hold. Wider than
/// [`is_version`](crate::config::is_version) by upper case, so that `V2` hears which versions there are.
pub fn is_version_value(value: &[u8]) -> bool {
    let is_part = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_alphanumeric);
    value.len() <= 64 && value.split(|byte| matches!(byte, b'.' | b'_' | b'-')).all(is_part)
}

/// Longest `x-user-id`, `x-tenant-id` and `x-session-id`, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// Whether a byte may stand in `x-user-id`, `x-tenant-id` and `x-session-id`: letters, digits and `. _ @ : + / = -`. Wide enough for UUIDs, mail
/// addresses, SPIFFE IDs and base64; too narrow for quotes, brackets, blanks and semicolons.
pub fn is_user_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b':' | b'+' | b'/' | b'=' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_the_mesh_is_internal_and_what_informs_is_not() {
        for name in [
            ROUTE,
            REASON,
            "x-envoy-max-retries",
            "x-envoy-retry-grpc-on",
            "x-envoy-upstream-rq-timeout-ms",
            "x-envoy-",
            "x-gateway-destination-endpoint",
        ] {
            assert!(is_internal(name.as_bytes()), "{name}");
        }
        for name in [
            X_MODEL,
            X_USER_ID,
            "x-envoy-external-address",
            "x-envoy-internal",
            "x-envoy-downstream-service-cluster",
            "x-envoyage",
            "x-gateway-destination-endpoints",
            "x-request-id",
        ] {
            assert!(!is_internal(name.as_bytes()), "{name}");
        }
    }
}
