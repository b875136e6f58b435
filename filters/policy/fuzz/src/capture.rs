//! Captured requests.

use std::time::Duration;

use kilocard_policy::capture::{self, Captured, Circumstances, MAX_CAPTURE_BYTES};
use kilocard_policy::{Decision, RequestView, Stages, Verdict};

use super::peer::Somebody;
use super::request::Request;
use super::{laws, pool};

/// The bytes are a line of a log, which may be any; and they are a [`Request`], which is captured and decided again, with
/// the options of the target `headers`: what comes out is the decision of the first time.
pub fn run(data: &[u8]) {
    if let Ok(Some(captured)) = Captured::parse(data) {
        laws::check(pool::rich(), &captured.decide(pool::rich()));
        captured.not_evaluable(pool::parsed());
    }
    let request = Request::read(data);
    let headers = request.headers();
    let peer = if request.has(b'o') {
        Somebody::operator()
    } else {
        Somebody::default()
    };
    let view = RequestView::new(&headers).from_peer(&peer);
    let policy = if request.has(b'd') { pool::plain() } else { pool::rich() };
    let random = 1 << 63;
    let decision = policy.decide(&view, random);
    let circumstances = Circumstances {
        stages: Stages::ALL,
        random,
        time: request.has(b't').then(|| Duration::from_micros(data.len() as u64)),
    };
    let line = capture::write(policy, &view, &decision, circumstances);
    assert!(line.len() <= MAX_CAPTURE_BYTES, "{} bytes", line.len());
    assert!(laws::is_printable(&line), "{line:?}");
    let captured = Captured::parse(line.as_bytes())
        .expect("what was written can be read")
        .expect("a capture");
    assert_eq!(captured.is_truncated(), captured.pairs().len() < headers.len());
    let again = captured.decide(policy);
    laws::check(policy, &again);
    if !captured.is_truncated() && captured.not_evaluable(pool::parsed()).is_empty() {
        assert_eq!(outline(&again), outline(&decision), "decided in another way: {line}");
    }
}

/// A decision without its messages, some of which tell where in a value a wrong character stands.
fn outline(decision: &Decision<'_>) -> String {
    match &decision.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Route(route) => format!("{route:?}"),
        Verdict::Refuse(refusal) => {
            let violations = refusal.violations.iter();
            let violations: Vec<_> = violations
                .map(|violation| (violation.reason, &violation.field))
                .collect();
            format!("{} {violations:?} {:?}", refusal.status, refusal.reached)
        }
    }
}
