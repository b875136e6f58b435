//! Which protocol a request speaks, and gRPC's own grammar.

use super::findings::Findings;
use super::{Validation, grammar};
use crate::config::{GrpcWebMode, HttpMode, Protocols};
use crate::decision::RefusalReason;
use crate::headers;
use crate::known::Known;
use crate::request::{RequestView, without_query};

/// What a request speaks, by its content type, and what the policy makes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, where it is accepted.
    GrpcWeb,
    /// Plain HTTP, where it is routed.
    Http,
    /// Plain HTTP, where it goes on undecided.
    Passed,
    /// gRPC-Web, where it is refused.
    RefusedWeb,
    /// Plain HTTP, where it is refused.
    RefusedHttp,
}

impl Protocol {
    pub(super) fn of(request: &RequestView<'_>, modes: &Protocols) -> Self {
        let is_content_type = |(name, _): &&(&[u8], &[u8])| *name == headers::CONTENT_TYPE.as_bytes();
        let content_type = request.headers().iter().find(is_content_type).map(|(_, value)| *value);
        let kind = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
        let web = kind.and_then(|kind| kind.strip_prefix(b"-web"));
        let web = web.map(|kind| kind.strip_prefix(b"-text").unwrap_or(kind));
        let ends = |kind: Option<&[u8]>| matches!(kind, Some([] | [b'+' | b';', ..]));
        // A list, as Envoy makes of two headers, begins like gRPC; its grammar refuses it.
        if ends(kind) || matches!(kind, Some([b',', ..])) {
            return Self::Grpc;
        }
        match (ends(web), modes.grpc_web, modes.http) {
            (true, GrpcWebMode::Accept, _) => Self::GrpcWeb,
            (true, GrpcWebMode::Refuse, _) => Self::RefusedWeb,
            (false, _, HttpMode::Refuse) => Self::RefusedHttp,
            (false, _, HttpMode::Pass) => Self::Passed,
            (false, _, HttpMode::Route) => Self::Http,
        }
    }

    pub(super) fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::GrpcWeb)
    }

    /// Whether it is served here at all.
    pub(super) fn check_served(self, findings: &mut Findings<'_>) {
        let message = match self {
            Self::RefusedHttp => "must be application/grpc: only gRPC is served here",
            Self::RefusedWeb => "must be application/grpc: gRPC-Web is not served here",
            _ => return,
        };
        findings.add(RefusalReason::NotGrpc, headers::CONTENT_TYPE, message);
    }

    /// gRPC over HTTP/2, "Requests": POST, `/package.Service/Method`, `application/grpc`, `te: trailers`, and the headers
    /// of its own. gRPC-Web is the same but for `te`, which browsers cannot send ("gRPC Web", "Protocol differences").
    pub(super) fn check(self, known: &Known<'_>, findings: &mut Findings<'_>) {
        if !self.is_grpc() {
            return;
        }
        findings.ensure(
            required(known.content_type),
            grammar::is_content_type,
            RefusalReason::MalformedContentType,
            headers::CONTENT_TYPE,
            "must be application/grpc, or go on with +proto, +json or parameters after `;`",
        );
        findings.ensure(
            required(known.method),
            |value| value == b"POST",
            RefusalReason::MalformedMethod,
            headers::METHOD,
            "must be POST for gRPC",
        );
        findings.ensure(
            required(known.path),
            grammar::is_path,
            RefusalReason::MalformedPath,
            headers::PATH,
            "must be /package.Service/Method",
        );
        if self == Self::Grpc {
            findings.ensure(
                known.te,
                |value| value.eq_ignore_ascii_case(b"trailers"),
                RefusalReason::MalformedTe,
                headers::TE,
                "must be `trailers` for gRPC",
            );
        }
        check_own_headers(known, findings);
    }
}

/// What has to be there: the empty value, which no such header may have, if it is not.
fn required(value: Option<&[u8]>) -> Option<&[u8]> {
    Some(value.unwrap_or_default())
}

fn check_own_headers(known: &Known<'_>, findings: &mut Findings<'_>) {
    findings.ensure(
        known.timeout,
        grammar::is_timeout,
        RefusalReason::MalformedTimeout,
        headers::GRPC_TIMEOUT,
        "must be 1 to 8 digits and a unit, one of H M S m u n, like 250m",
    );
    findings.ensure(
        known.encoding,
        grammar::is_encoding,
        RefusalReason::MalformedEncoding,
        headers::GRPC_ENCODING,
        "must be the name of one compression in lower case, like gzip",
    );
    findings.ensure(
        known.accept_encoding,
        grammar::is_encoding_list,
        RefusalReason::MalformedAcceptEncoding,
        headers::GRPC_ACCEPT_ENCODING,
        "must be names of compressions in lower case with commas between, like identity,gzip",
    );
}

impl Validation {
    /// The lists of methods. A path that only plain HTTP has is on no list of allowed methods, for these can only name
    /// gRPC's; what is denied is denied in every protocol.
    pub(super) fn check_method(&self, known: &Known<'_>, protocol: Protocol, findings: &mut Findings<'_>) {
        let Some(path) = known.path.map(without_query) else {
            return;
        };
        let nobody: Option<&[u8]> = None;
        let is_among = |methods: &super::RuleIndex| methods.find(nobody, path).next().is_some();
        let is_allowed = !protocol.is_grpc() || self.allowed.as_ref().is_none_or(is_among);
        if !is_allowed || is_among(&self.denied) {
            findings.add(
                RefusalReason::MethodNotAllowed,
                headers::PATH,
                "is a method that may not be called here",
            );
        }
    }
}
