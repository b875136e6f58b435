//! The headers that decisions read, found in one pass.

use crate::headers;

/// Declares the struct and the dispatch together, so that a header cannot be in one and not in the other.
macro_rules! known {
    ($($field:ident = $name:literal as $header:expr),* $(,)?) => {
        /// The values of the headers that decisions read. Each may come once; of one that comes more often the first is
        /// kept.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Known<'a> {
            $(pub(crate) $field: Option<&'a [u8]>,)*
        }

        impl<'a> Known<'a> {
            /// Keeps the value of a header that decisions read.
            pub(crate) fn note(&mut self, name: &[u8], value: &'a [u8]) -> Noted {
                let (slot, name) = match name {
                    $($name => (&mut self.$field, $header),)*
                    _ => return Noted::Unknown,
                };
                if slot.is_some() {
                    return Noted::Again(name);
                }
                *slot = Some(value);
                Noted::First
            }
        }
    };
}

known! {
    method = b":method" as headers::METHOD,
    scheme = b":scheme" as ":scheme",
    authority = b":authority" as headers::AUTHORITY,
    path = b":path" as headers::PATH,
    protocol = b":protocol" as ":protocol",
    content_type = b"content-type" as headers::CONTENT_TYPE,
    te = b"te" as headers::TE,
    timeout = b"grpc-timeout" as headers::GRPC_TIMEOUT,
    encoding = b"grpc-encoding" as headers::GRPC_ENCODING,
    accept_encoding = b"grpc-accept-encoding" as headers::GRPC_ACCEPT_ENCODING,
    message_type = b"grpc-message-type" as "grpc-message-type",
    previous_attempts = b"grpc-previous-rpc-attempts" as "grpc-previous-rpc-attempts",
    trace_bin = b"grpc-trace-bin" as "grpc-trace-bin",
    tags_bin = b"grpc-tags-bin" as "grpc-tags-bin",
    model = b"x-model" as headers::X_MODEL,
    model_version = b"x-model-version" as headers::X_MODEL_VERSION,
    canary_weight = b"x-canary-weight" as headers::X_CANARY_WEIGHT,
    user_id = b"x-user-id" as headers::X_USER_ID,
    tenant_id = b"x-tenant-id" as headers::X_TENANT_ID,
    session_id = b"x-session-id" as headers::X_SESSION_ID,
    gpu_affinity = b"x-gpu-affinity" as headers::X_GPU_AFFINITY,
    gpu_class = b"x-gpu-class" as headers::X_GPU_CLASS,
    trace_id = b"x-trace-id" as headers::X_TRACE_ID,
    traceparent = b"traceparent" as headers::TRACEPARENT,
    request_id = b"x-request-id" as headers::X_REQUEST_ID,
    priority = b"x-priority" as headers::X_PRIORITY,
    sla = b"x-sla" as headers::X_SLA,
}

/// What came of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// No decision reads it.
    Unknown,
    /// It came for the first time.
    First,
    /// It has come before. Two values for one meaning: which one counts would depend on who reads them, so neither does.
    Again(&'static str),
}
