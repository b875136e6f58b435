use super::*;

fn refused(cohorts: Value) -> Vec<String> {
    violations(&with_spec("cohorts", cohorts))
}

#[test]
fn cohorts_cover_every_bucket_once_and_keep_their_order() {
    let cohorts = json!({"v1": "9999-2000,1000-1499", "v2": "0-999,1999-1500", "gone": ""});
    let document = document(&with_spec("cohorts", cohorts.clone()));
    let Spec::Routing(policy) = document.spec() else {
        panic!("not a routing policy")
    };
    let kept = policy.cohorts.as_ref().unwrap();
    let expected = [BucketRange { from: 0, to: 999 }, BucketRange { from: 1999, to: 1500 }];
    assert_eq!(kept.get("v2").unwrap().as_slice(), expected);
    assert_eq!(kept.get("gone").unwrap().as_slice(), []);
    assert_eq!(serde_json::to_value(kept).unwrap(), cohorts);
}

#[test]
fn a_bucket_that_is_missing_or_given_twice_is_named() {
    let missing =
        |bucket: u16| format!("spec.cohorts: bucket {bucket} is given to no version; every bucket belongs to one");
    assert_eq!(refused(json!({"v1": "0-9998"})), [missing(9999)]);
    assert_eq!(refused(json!({"v1": "9999-1"})), [missing(0)]);
    assert_eq!(
        refused(json!({"v1": "0-99,200-9999", "v2": "150-101,199-151"})),
        [missing(100)]
    );
    assert_eq!(refused(json!({"v1": ""})), [missing(0)]);
    let twice = "every bucket belongs to one version, once";
    let expected = format!("spec.cohorts: bucket 1000 is given to v2 and to v1; {twice}");
    assert_eq!(refused(json!({"v1": "9999-1000", "v2": "0-1000"})), [expected]);
    let expected = format!("spec.cohorts: bucket 0 is given to v1 and to v1; {twice}");
    assert_eq!(refused(json!({"v1": "0-9999,0-0"})), [expected]);
}

#[test]
fn what_is_no_range_is_quoted() {
    for (text, part) in [
        ("0-10000", "`0-10000`"),
        ("0", "`0`"),
        ("-", "`-`"),
        ("0-9999,", "``"),
        ("+0-9999", "`+0-9999`"),
        ("0-1-2", "`0-1-2`"),
        (" 0-9999", "` 0-9999`"),
        ("0-99999999999999999999", "`0-99999999999999999999`"),
        ("a-b", "`a-b`"),
    ] {
        let expected = format!(
            "spec.cohorts.v1: {part} is not a range of buckets: use two numbers from 0 to 9999 like 0-999, and commas between ranges"
        );
        assert_eq!(refused(json!({ "v1": text })), [expected]);
    }
    assert_eq!(
        refused(json!({"V 1": "0-9999"})),
        ["spec.cohorts[`V 1`]: the name of the field is not a version"]
    );
    assert_eq!(
        refused(json!({"v1": 7})),
        ["spec.cohorts.v1: must be a string, found a number"]
    );
    assert_eq!(
        refused(json!({})),
        ["spec.cohorts: has 0 versions; 1 to 128 are allowed"]
    );
    assert_eq!(
        refused(json!("0-9999")),
        ["spec.cohorts: must be an object, found a string"]
    );
}

proptest! {
    #[test]
    fn ranges_survive_the_journey(ends in prop::collection::vec((0..10_000_u16, 0..10_000_u16), 0..20)) {
        let ranges: BucketRanges = ends.iter().map(|&(from, to)| BucketRange { from, to }).collect();
        prop_assert_eq!(ranges.to_string().parse(), Ok(ranges));
    }

    /// By counting every bucket, as the reader does not.
    #[test]
    fn a_cover_is_accepted_if_and_only_if_every_bucket_is_in_it_once(
        cuts in prop::collection::btree_set(1..10_000_u16, 0..6),
        down in prop::collection::vec(any::<bool>(), 8),
        shift in prop::option::of((0..8_usize, -1..=1_i32)),
    ) {
        let starts: Vec<u16> = std::iter::once(0).chain(cuts.iter().copied()).collect();
        let ends = starts.iter().skip(1).map(|start| start - 1).chain([9999]);
        let mut ranges: Vec<(u16, u16)> = starts.iter().copied().zip(ends).collect();
        if let Some((at, by)) = shift {
            let at = at % ranges.len();
            ranges[at].1 = (i32::from(ranges[at].1) + by).clamp(0, 9999) as u16;
        }
        let mut count = vec![0_u8; 10_000];
        for (from, to) in &ranges {
            (*from.min(to)..=*from.max(to)).for_each(|bucket| count[usize::from(bucket)] += 1);
        }
        let text = |(from, to): &(u16, u16), down: bool| if down { format!("{to}-{from}") } else { format!("{from}-{to}") };
        let mut cohorts = json!({});
        for (version, (range, down)) in ranges.iter().zip(down).enumerate() {
            cohorts[format!("v{version}")] = json!(text(range, down));
        }
        let accepted = parse(&with_spec("cohorts", cohorts)).is_ok();
        prop_assert_eq!(accepted, count.iter().all(|count| *count == 1));
    }
}
