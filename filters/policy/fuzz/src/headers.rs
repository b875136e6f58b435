//! The grammar of headers.

use kilocard_policy::{RequestView, Stages, Verdict};

use super::peer::Somebody;
use super::request::Request;
use super::{laws, pool};

/// The headers are those of a [`Request`]. Its options: `g` puts a stock client's headers in front, `d` judges by the
/// validation that counts where none is declared and not by a policy with everything in it, `v` leaves the routing out and
/// `r` the validation, and with `o` an operator asks.
///
/// Whatever the headers are, the decision follows the [`laws`]; what the default validation lets through is harmless by a
/// second, slower reading of the specifications.
pub fn run(data: &[u8]) {
    let request = Request::read(data);
    let headers = request.headers();
    let peer = if request.has(b'o') {
        Somebody::operator()
    } else {
        Somebody::default()
    };
    let view = RequestView::new(&headers).from_peer(&peer);
    let stages = match (request.has(b'v'), request.has(b'r')) {
        (true, false) => Stages::VALIDATION,
        (false, true) => Stages::ROUTING,
        _ => Stages::ALL,
    };
    let policy = if request.has(b'd') { pool::plain() } else { pool::rich() };
    let decision = laws::decide(policy, stages, &view, 1 << 63);
    let judged = request.has(b'd') && stages != Stages::ROUTING;
    if judged && !matches!(decision.verdict, Verdict::Refuse(_)) {
        check_harmless(&headers);
    }
    // What passes both stages passes routing alone, along the same route: the filters can be loaded one by one.
    if stages == Stages::ALL
        && let Verdict::Route(route) = decision.verdict
    {
        let alone = laws::decide(policy, Stages::ROUTING, &view, 1 << 63);
        assert_eq!(alone.verdict, Verdict::Route(route));
    }
}

/// gRPC over HTTP/2, "Requests", and RFC 9113, section 8.3, said once more in the plainest way.
fn check_harmless(headers: &[(&[u8], &[u8])]) {
    let all = |name: &str| {
        let values = headers.iter().filter(|(given, _)| *given == name.as_bytes());
        values
            .map(|(_, value)| String::from_utf8(value.to_vec()).expect("ASCII"))
            .collect::<Vec<_>>()
    };
    assert!(headers.len() <= 100);
    assert!(
        headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            <= 32 * 1024
    );
    for (name, value) in headers {
        let name = std::str::from_utf8(name).expect("an ASCII name");
        let bare = name.strip_prefix(':').unwrap_or(name);
        assert!(
            !bare.is_empty()
                && bare
                    .chars()
                    .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '.')),
            "{name:?}"
        );
        assert!(
            !name.starts_with(':') || [":method", ":scheme", ":path", ":authority"].contains(&name),
            "{name}"
        );
        assert!(
            value.len() <= 4096 && value.iter().all(|byte| matches!(byte, b' '..=b'~')),
            "{name}"
        );
        if name.ends_with("-bin") {
            assert!(
                value
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+/=, ".contains(byte)),
                "{name}"
            );
        }
    }
    assert_eq!(all(":method"), ["POST"]);
    let [path] = all(":path").try_into().expect("one path");
    let parts: Vec<_> = path.split('/').collect();
    assert!(
        parts.len() == 3 && parts[0].is_empty() && !parts[1].is_empty() && !parts[2].is_empty(),
        "{path}"
    );
    assert!(
        !path.contains(['%', '?', '#', '\\', ' ']) && !path.contains(".."),
        "{path}"
    );
    let [media] = all("content-type").try_into().expect("one content type");
    assert!(
        media.starts_with("application/grpc") && !media.starts_with("application/grpc-web"),
        "{media}"
    );
    assert!(all("te").iter().all(|te| te.eq_ignore_ascii_case("trailers")));
    for timeout in all("grpc-timeout") {
        let (digits, unit) = timeout.split_at(timeout.len() - 1);
        assert!(
            "HMSmun".contains(unit) && digits.len() <= 8 && digits.parse::<u32>().is_ok(),
            "{timeout}"
        );
    }
    for name in [
        "grpc-timeout",
        "x-model",
        "x-model-version",
        "x-canary-weight",
        "x-user-id",
        "te",
    ] {
        assert!(all(name).len() <= 1, "{name} twice");
    }
    for percent in all("x-canary-weight") {
        assert!(percent.parse::<u8>().is_ok_and(|percent| percent <= 100), "{percent}");
    }
    for user in all("x-user-id") {
        assert!(
            !user.is_empty() && user.len() <= 128 && !user.contains(['\'', '"', '<', '>', ';', ' ']),
            "{user}"
        );
    }
}
