use proptest::prelude::*;

use super::*;

fn full() -> Record<'static> {
    Record {
        rule: Some("gold".into()),
        bucket: Some(4917),
        version: Some("minilm/v1".into()),
        why: Some(RouteReason::Sticky),
        gpu: Some("hopper-nvlink".into()),
        pool: Some("bulk".into()),
        fallback: Some(("v2".into(), "v1".into())),
        refused: None,
        limit: None,
        revision: "ab12cd34".into(),
    }
}

#[test]
fn a_record_is_one_short_line() {
    assert_eq!(
        full().to_string(),
        "v=1 rule=gold bucket=4917 version=minilm/v1 why=STICKY gpu=hopper-nvlink pool=bulk fallback=v2>v1 rev=ab12cd34"
    );
    let refused = Record {
        refused: Some(RefusalReason::MalformedUserId),
        ..Record::default()
    };
    assert_eq!(refused.to_string(), "v=1 refused=MALFORMED_USER_ID");
}

#[test]
fn the_longest_names_leave_out_the_class_first() {
    let name = "n".repeat(63);
    let long = Record {
        rule: Some(name.clone().into()),
        version: Some(format!("{name}/{name}").into()),
        gpu: Some(name.clone().into()),
        pool: Some(name.clone().into()),
        fallback: Some((name.clone().into(), name.clone().into())),
        ..full()
    };
    let line = long.to_string();
    assert!(line.len() <= MAX_RECORD_BYTES, "{}", line.len());
    assert!(line.contains("rule=") && line.ends_with("rev=ab12cd34"), "{line}");
    assert!(!line.contains("gpu=") && !line.contains("fallback="), "{line}");
}

#[test]
fn what_is_no_record_is_refused_and_what_is_new_is_skipped() {
    for line in [
        "",
        "v=2 rev=1",
        "v=1 nonsense",
        "v=1 bucket=x",
        "v=1 why=BECAUSE",
        "v=1 fallback=v1",
    ] {
        assert!(Record::parse(line).is_err(), "{line}");
    }
    assert_eq!(Record::parse("v=1 later=x rev=7").unwrap().revision, "7");
}

#[test]
fn long_and_odd_revisions_are_hashed_and_short_ones_stay() {
    assert_eq!(short_revision("12345"), "12345");
    assert_eq!(short_revision(""), "");
    for revision in ["a b", "0123456789abcdef0", "é"] {
        let short = short_revision(revision);
        assert_eq!(short.len(), 8, "{short}");
        assert!(short.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

fn name() -> impl Strategy<Value = Cow<'static, str>> {
    "[a-z0-9][a-z0-9._-]{0,15}".prop_map(Cow::Owned)
}

prop_compose! {
    fn record()(
        rule in prop::option::of(name()),
        bucket in prop::option::of(0..10_000_u16),
        version in prop::option::of((name(), name()).prop_map(|(model, version)| Cow::Owned(format!("{model}/{version}")))),
        why in prop::option::of(prop::sample::select(RouteReason::ALL)),
        gpu in prop::option::of(name()),
        pool in prop::option::of(name()),
        fallback in prop::option::of((name(), name())),
        refused in prop::option::of(prop::sample::select(RefusalReason::ALL)),
        limit in prop::option::of("[a-z0-9]{1,63}[.](requests|tokens|gpu_seconds)"),
        revision in "[a-z0-9]{0,16}",
    ) -> Record<'static> {
        Record { rule, bucket, version, why, gpu, pool, fallback, refused, limit: limit.map(Cow::Owned), revision: Cow::Owned(revision) }
    }
}

proptest! {
    #[test]
    fn a_record_is_read_back_as_it_was_written(record in record()) {
        let line = record.to_string();
        prop_assert!(line.len() <= MAX_RECORD_BYTES && line.is_ascii());
        prop_assert_eq!(Record::parse(&line), Ok(record));
    }

    #[test]
    fn arbitrary_text_never_panics(text: String, parts in "v=1( [a-z]{1,8}=[ -~]{0,9}){0,6}") {
        let _ = (Record::parse(&text), Record::parse(&parts));
    }
}
