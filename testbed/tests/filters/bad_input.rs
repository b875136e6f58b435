//! Every header malformed, too long, too many, and bytes that are no text: refused where validation runs, and harmless
//! everywhere.

use super::filter::Filter;
use super::frames;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use kilocard_testbed::harness::static_mesh::StaticMesh;
use kilocard_testbed::raw::{self, Reply};

const INVALID_ARGUMENT: Option<i32> = Some(3);

/// Values that no stage may take, by header, with the reason that the refusal gives.
const MALFORMED: &[(&str, &str, &[&[u8]])] = &[
    (
        "x-model",
        "MALFORMED_MODEL",
        &[
            b"",
            &[b'a'; 65],
            b"mini lm",
            b"-minilm",
            b"minilm' OR '1'='1",
            b"../../etc",
        ],
    ),
    (
        "x-model-version",
        "MALFORMED_MODEL_VERSION",
        &[b"", b"v1..2", b"-v1", b"v1;rm", &[b'1'; 65]],
    ),
    (
        "x-canary-weight",
        "MALFORMED_CANARY_WEIGHT",
        &[
            b"",
            b"101",
            b"-1",
            b"1e2",
            b"NaN",
            b"0x10",
            b"18446744073709551616",
            b"5.5",
        ],
    ),
    (
        "x-user-id",
        "MALFORMED_USER_ID",
        &[b"", b"${jndi:ldap://e/a}", &[b'a'; 129], b"a b", b"<a>"],
    ),
    ("x-tenant-id", "MALFORMED_TENANT_ID", &[b"", b"a;b", &[b'a'; 129]]),
    ("x-session-id", "MALFORMED_SESSION_ID", &[b"", b"a'b", &[b'a'; 129]]),
    (
        "x-gpu-affinity",
        "MALFORMED_GPU_AFFINITY",
        &[
            b"",
            b"gpu",
            b"gpu99999",
            b"gpu0:huge",
            b"gpu-1",
            b"any:",
            b"gpu0:high:low",
        ],
    ),
    ("x-gpu-class", "MALFORMED_GPU_CLASS", &[b"", b"h 100", &[b'a'; 65]]),
];

/// The same of headers that only validation looks at.
const MALFORMED_FOR_VALIDATION: &[(&str, &str, &[&[u8]])] = &[
    (
        "grpc-timeout",
        "MALFORMED_TIMEOUT",
        &[
            b"",
            b"10",
            b"123456789S",
            b"-1S",
            b"S",
            b"1.5S",
            b"1s",
            b"18446744073709551616n",
        ],
    ),
    (
        "x-trace-id",
        "MALFORMED_TRACE_ID",
        &[b"", b"short", b"white space here", &[b'a'; 65]],
    ),
    (
        "traceparent",
        "MALFORMED_TRACEPARENT",
        &[
            b"",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ],
    ),
    ("x-priority", "MALFORMED_PRIORITY", &[b"", b"P3", b"p0", b"0"]),
    ("x-sla", "MALFORMED_SLA", &[b"", b"go ld", b"gold!"]),
    ("x-note-bin", "MALFORMED_BINARY_VALUE", &[b"!!!", b"A", b"AA=A"]),
    ("grpc-secret", "RESERVED_HEADER", &[b"1"]),
    ("x-note", "NON_ASCII_VALUE", &[b"caf\xc3\xa9", b"\xff\xfe\xfd", b"\x80"]),
    ("x-note", "CONTROL_BYTES", &[b"a\tb"]),
];

/// Whether a refusal is as it should be: trailers-only, the reason, the header in the message.
fn check_refused(reply: &Reply, header: &str, reason: &str) -> Result<()> {
    ensure!(
        reply.grpc_status == INVALID_ARGUMENT && reply.ended_by_headers && reply.http_status == 200,
        "{reply:?}"
    );
    ensure!(reply.header("x-kilocard-reason") == Some(reason), "{reply:?}");
    ensure!(reply.grpc_message.contains(header), "{reply:?}");
    ensure!(reply.header("grpc-status-details-bin").is_some(), "{reply:?}");
    Ok(())
}

/// Whether a request that need not be refused did no harm either.
fn check_harmless(reply: &Reply) -> Result<()> {
    ensure!(
        reply.http_status == 200 && matches!(reply.grpc_status, Some(0 | 3 | 5)),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test]
async fn every_malformed_header_is_refused_by_those_who_read_it() -> Result<()> {
    for filter in Filter::ALL {
        let mut mesh = filter.start(&[]).await?;
        for (header, reason, values) in MALFORMED {
            for value in *values {
                let reply = mesh.call(&[(header, value)]).await?;
                check_refused(&reply, header, reason).with_context(|| format!("{filter:?}, {header}: {value:?}"))?;
            }
        }
        ensure!(mesh.forwarded() == (0, 0), "{filter:?}: {:?}", mesh.forwarded());
        for (header, reason, values) in MALFORMED_FOR_VALIDATION {
            for value in *values {
                let context = || format!("{filter:?}, {header}: {value:?}");
                let headers: &[(&str, &[u8])] = &[("content-type", b"application/grpc"), (header, value)];
                let reply = raw::request(mesh.envoy.address(), (Method::POST, PATH), headers, Bytes::new()).await?;
                if filter.validates() {
                    check_refused(&reply, header, reason).with_context(context)?;
                } else {
                    check_harmless(&reply).with_context(context)?;
                }
            }
        }
        filter.check_unharmed(&mut mesh).await?;
    }
    Ok(())
}

const PATH: &str = "/inference.GRPCInferenceService/ServerReady";

#[tokio::test]
async fn bytes_that_are_no_text_harm_no_header() -> Result<()> {
    for filter in Filter::ALL {
        let mut mesh = filter.start(&[]).await?;
        let headers = MALFORMED
            .iter()
            .chain(MALFORMED_FOR_VALIDATION)
            .map(|(header, _, _)| *header);
        for header in headers.chain(["x-request-id", "x-kilocard-route", "x-forwarded-for", "cookie"]) {
            for value in [
                &b"\xff\xfe\xfd\xfc"[..],
                b"v1\xc3\x28",
                b"\xf0\x9f\x92\xa9",
                b"\xed\xa0\x80",
            ] {
                let context = || format!("{filter:?}, {header}: {value:?}");
                let reply = mesh.call(&[(header, value)]).await.with_context(context)?;
                check_harmless(&reply).with_context(context)?;
            }
        }
        filter.check_unharmed(&mut mesh).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_long_or_too_often_is_refused() -> Result<()> {
    for filter in Filter::ALL {
        let mut mesh = filter.start(&[]).await?;
        let long = vec![b'a'; 60 * 1024];
        let names: Vec<String> = (0..200).map(|number| format!("x-note-{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"1".as_slice())).collect();
        let wide: Vec<(&str, &[u8])> = names
            .iter()
            .take(20)
            .map(|name| (name.as_str(), &long[..2000]))
            .collect();
        let twice: Vec<(&str, &[u8])> = vec![("x-note", b"1"), ("x-model", b"minilm"), ("x-model", b"minilm")];
        for (what, headers, reason) in [
            ("60 KiB", vec![("x-note", long.as_slice())], "HEADER_TOO_LONG"),
            ("200 headers", many, "TOO_MANY_HEADERS"),
            ("40 KB in 20 headers", wide, "HEADERS_TOO_LONG"),
            ("a header twice", twice, "DUPLICATE_HEADER"),
        ] {
            let reply = mesh.call(&headers).await.with_context(|| what.to_owned())?;
            if filter.validates() {
                ensure!(
                    reply.grpc_status == INVALID_ARGUMENT && reply.header("x-kilocard-reason") == Some(reason),
                    "{filter:?}, {what}: {reply:?}"
                );
            } else {
                check_harmless(&reply).with_context(|| what.to_owned())?;
            }
        }
        filter.check_unharmed(&mut mesh).await?;
    }
    Ok(())
}

#[tokio::test]
async fn methods_and_paths_that_are_not_grpcs_are_refused() -> Result<()> {
    let filter = Filter::Gateway;
    let mut mesh = filter.start(&[]).await?;
    let headers: &[(&str, &[u8])] = &[("content-type", b"application/grpc"), ("te", b"trailers")];
    let call = async |method: Method, path: &str| -> Result<Reply> {
        raw::request(mesh.envoy.address(), (method, path), headers, Bytes::new()).await
    };
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b/c",
        "//",
        "/a.B/C?x=1",
        "/a.B/%2e%2e",
        "/a.B/..;/C",
    ] {
        let reply = call(Method::POST, path).await?;
        check_refused(&reply, ":path", "MALFORMED_PATH").with_context(|| path.to_owned())?;
    }
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        let reply = call(method.clone(), PATH).await?;
        check_refused(&reply, ":method", "MALFORMED_METHOD").with_context(|| method.to_string())?;
    }
    ensure!(mesh.forwarded() == (0, 0), "{:?}", mesh.forwarded());
    filter.check_unharmed(&mut mesh).await
}

/// Envoy's codec is the first to see these; whatever it does, none may reach the upstream, and the next request is served.
#[tokio::test]
async fn frames_that_no_client_library_would_send_reach_nobody() -> Result<()> {
    for filter in [Filter::Gateway, Filter::Routing] {
        let mut mesh: StaticMesh = filter.start(&[]).await?;
        for (what, name, value) in [
            ("LF", &b"x-note"[..], &b"a\nx-model-version: v2"[..]),
            ("CR LF", b"x-note", b"a\r\nx-kilocard-route: minilm/v2"),
            ("NUL", b"x-note", b"a\0b"),
            ("DEL", b"x-note", b"a\x7fb"),
            ("upper case", b"X-Note", b"1"),
            ("a blank in a name", b"x note", b"1"),
            ("no name", b"", b"1"),
            ("a name that is no text", b"x-\xff\xfe", b"1"),
            ("an unknown pseudo-header", b":note", b"1"),
            ("a path twice", b":path", b"/a.B/C"),
            ("a connection header", b"connection", b"keep-alive"),
        ] {
            frames::send(mesh.envoy.address(), name, value)
                .await
                .with_context(|| what.to_owned())?;
            let forwarded = mesh.forwarded();
            ensure!(forwarded == (0, 0), "{filter:?}, {what}: {forwarded:?}");
        }
        if filter.validates() {
            // The codec lets these pass, but the library of the other tests does not.
            for value in [&b"gzip"[..], b"trailers, gzip", b"\xff\xfe"] {
                frames::send(mesh.envoy.address(), b"te", value).await?;
            }
            ensure!(mesh.forwarded() == (0, 0), "{filter:?}: te: {:?}", mesh.forwarded());
        }
        filter.check_unharmed(&mut mesh).await?;
    }
    Ok(())
}
