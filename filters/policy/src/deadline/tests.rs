use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Policy;
use crate::config::{Document, parse};

fn document(spec: &Value) -> Document {
    let document =
        json!({"api_version": "kilocard/v1", "kind": "TimeoutPolicy", "metadata": {"name": "t"}, "spec": spec});
    parse(&document).unwrap()
}

fn deadlines(spec: &Value) -> ModelDeadlines {
    let policy = Policy::compile("r", &[document(spec)]).unwrap();
    policy.deadlines(Some(b"m")).unwrap().clone()
}

fn call(deadlines: &ModelDeadlines, headers: &[(&str, &str)]) -> Call {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    deadlines.call(&RequestView::new(&headers))
}

#[test]
fn a_call_is_told_by_its_method_its_size_and_its_deadline() {
    let deadlines = deadlines(&json!({"model": "m", "streams": ["/acme.Chat/*"]}));
    let of = |path| call(&deadlines, &[(":path", path)]).method;
    assert_eq!(of("/inference.GRPCInferenceService/ModelInfer"), MethodClass::Infer);
    assert_eq!(
        of("/inference.GRPCInferenceService/ModelStreamInfer"),
        MethodClass::Generate
    );
    assert_eq!(
        of("/kilocard.inference.v1.InferenceService/Generate?x=1"),
        MethodClass::Generate
    );
    assert_eq!(of("/acme.Chat/Say"), MethodClass::Generate);
    assert_eq!(of("/inference.GRPCInferenceService/ServerReady"), MethodClass::Control);
    assert_eq!(of("not a path"), MethodClass::Control);
    let sized = call(
        &deadlines,
        &[
            ("x-prompt-tokens", "2000"),
            ("content-length", "5"),
            ("grpc-timeout", "250m"),
        ],
    );
    assert_eq!(
        (sized.size, sized.client),
        (SizeClass::Medium, Some(Duration::from_millis(250)))
    );
    assert_eq!(
        call(&deadlines, &[("content-length", "99999999999999999999")]).size,
        SizeClass::Large
    );
}

#[test]
fn a_policy_bounds_each_phase_by_itself() {
    let deadlines = deadlines(&json!({
        "model": "m", "probe_percent": 0, "shadow": true,
        "unary": {"initial_p999_ms": 300, "floor_ms": 200, "ceiling_ms": 900}, "gap": {"ceiling_ms": 4000},
    }));
    let total = deadlines.bounds(Phase::Total);
    assert_eq!(total.prior.p999, Duration::from_millis(300));
    assert_eq!(total.settings.bound(Duration::from_secs(9)), Duration::from_millis(900));
    assert!(!total.settings.is_probe(0.0, 0.0), "no probes were asked for");
    assert_eq!(deadlines.bounds(Phase::Gap).settings.ceiling, Duration::from_secs(4));
    assert!(deadlines.is_shadow());
}

#[test]
fn bounds_that_contradict_each_other_are_refused_where_they_stand() {
    let refused = |spec: Value| {
        let document =
            json!({"api_version": "kilocard/v1", "kind": "TimeoutPolicy", "metadata": {"name": "t"}, "spec": spec});
        parse(&document)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let found = refused(json!({"model": "m", "unary": {"floor_ms": 900, "ceiling_ms": 100}}));
    assert!(
        found.contains("spec.unary") && found.contains("floor_ms, 900, is more than ceiling_ms, 100"),
        "{found}"
    );
    let found = refused(json!({"model": "m", "gap": {"initial_p999_ms": 100}}));
    assert!(
        found.contains("spec.gap") && found.contains("not within floor_ms and ceiling_ms, 250 to 30000"),
        "{found}"
    );
    let found = refused(json!({"model": "m", "probe_percent": 21, "streams": ["x"]}));
    assert!(
        found.contains("spec.probe_percent") && found.contains("spec.streams[0]"),
        "{found}"
    );
}

#[test]
fn one_policy_speaks_for_a_model() {
    let two = [document(&json!({"model": "m"})), {
        let mut second = json!({"api_version": "kilocard/v1", "kind": "TimeoutPolicy", "metadata": {"name": "u"}, "spec": {"model": "m"}});
        parse(&second.take()).unwrap()
    }];
    let found = Policy::compile("r", &two).unwrap_err();
    assert!(
        found[0]
            .to_string()
            .contains("already says how long requests of model m may take"),
        "{found:?}"
    );
}

#[test]
fn timeouts_are_read_in_every_unit_and_written_in_the_finest_that_holds_them() {
    let read = |text: &str| parse_timeout(text.as_bytes());
    assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
    assert_eq!(read("3M"), Some(Duration::from_secs(180)));
    assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
    assert_eq!(read("1u"), Some(Duration::from_micros(1)));
    assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
    for text in ["", "m", "1", "-1m", "1.5S", "123456789m", "1 m", "1x", "١m"] {
        assert_eq!(read(text), None, "{text}");
    }
    assert_eq!(format_timeout(Duration::ZERO), "1m");
    assert_eq!(format_timeout(Duration::from_micros(1500)), "2m");
    assert_eq!(format_timeout(Duration::from_secs(200_000)), "200000S");
    assert_eq!(format_timeout(Duration::MAX), "99999999M");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_no_shorter(millis in 1_u64..5_000_000_000_000) {
        let timeout = Duration::from_millis(millis);
        let read = parse_timeout(format_timeout(timeout).as_bytes()).unwrap();
        prop_assert!(read >= timeout && read <= timeout + timeout / 1000 + Duration::from_secs(60), "{timeout:?} {read:?}");
    }

    #[test]
    fn no_header_is_too_strange(value: Vec<u8>) {
        let _ = parse_timeout(&value);
    }
}
