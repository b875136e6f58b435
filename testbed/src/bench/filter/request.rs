//! The request that the filters are measured with.

use crate::open_loop::Ask;

/// The headers of a request as a gRPC client of the mesh sends them: what a filter has to look at. With the pseudo-headers
/// and what Envoy adds there are fifteen.
pub(super) const HEADERS: [(&str, &str); 9] = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-rust/0.14"),
    ("grpc-timeout", "5S"),
    ("grpc-accept-encoding", "identity, gzip"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-model", "minilm"),
    ("x-user-id", "user-4711"),
    ("x-request-source", "bench"),
];

/// gRPC `UNKNOWN`: what Envoy makes of its own direct response to a gRPC request, hence the mark of one that no filter
/// refused.
pub(super) const PASSED: &str = "2";

/// The request.
pub(super) fn ask() -> Ask {
    Ask::new("/inference.GRPCInferenceService/ServerReady", &HEADERS)
}

/// The same of another user.
pub(super) fn of_user(number: u32) -> Ask {
    ask().with("x-user-id", number.into())
}
