use proptest::prelude::*;

use super::*;

fn sketch(values: &[u64]) -> LogLinear {
    let mut sketch = LogLinear::default();
    for value in values {
        sketch.record(Duration::from_micros(*value), 1);
    }
    sketch
}

fn encoded(sketch: &LogLinear) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

#[test]
fn buckets_follow_one_another_without_a_gap() {
    for at in 0..BUCKETS {
        assert!(begin(at) < begin(at + 1));
        assert_eq!(bucket(Duration::from_micros(begin(at))), at);
        assert_eq!(bucket(Duration::from_micros(begin(at + 1) - 1)), at);
    }
    assert_eq!(begin(BUCKETS), u64::from(u32::MAX) + 1);
}

#[test]
fn a_duration_of_days_counts_as_the_longest() {
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    let mut sketch = LogLinear::default();
    sketch.record(Duration::MAX, u32::MAX);
    sketch.record(Duration::MAX, 7);
    assert_eq!(sketch.count(), u64::from(u32::MAX));
}

#[test]
fn an_empty_sketch_has_no_quantile() {
    assert_eq!(LogLinear::default().quantile(0.5), None);
}

#[test]
fn bytes_that_are_no_sketch_are_told_apart() {
    let good = encoded(&sketch(&[5, 900, 70_000]));
    assert!(LogLinear::decode(&good).is_ok());
    assert_eq!(LogLinear::decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(LogLinear::decode(&good[..good.len() - 1]), Err(DecodeError::Truncated));
    assert_eq!(LogLinear::decode(&[9]), Err(DecodeError::Form(9)));
    assert_eq!(
        LogLinear::decode(&[1, 1, 5, 0]),
        Err(DecodeError::Entry(0)),
        "a count of none"
    );
    assert_eq!(
        LogLinear::decode(&[1, 2, 5, 1, 0xff, 0x7f, 1]),
        Err(DecodeError::Entry(1)),
        "beyond the last bucket"
    );
    let trailing = [good, vec![0]].concat();
    assert_eq!(LogLinear::decode(&trailing), Err(DecodeError::Trailing(1)));
}

#[test]
fn the_fullest_encoding_stays_within_what_is_promised() {
    let mut full = LogLinear::default();
    full.counts.fill(u32::MAX);
    assert_eq!(encoded(&full).len(), LogLinear::MAX_BYTES);
    assert_eq!(LogLinear::decode(&encoded(&full)), Ok(full));
}

proptest! {
    #[test]
    fn a_quantile_is_within_a_64th_of_that_of_the_samples(
        mut values in proptest::collection::vec(1_u64..3_600_000_000, 1..300),
        q in 0.0_f64..=1.0,
    ) {
        let found = sketch(&values).quantile(q).unwrap().as_micros() as f64;
        values.sort_unstable();
        let rank = ((values.len() as f64 * q).ceil() as usize).max(1);
        let exact = values[rank - 1] as f64;
        prop_assert!((found - exact).abs() <= exact / 64.0 + 0.5, "{} for {}", found, exact);
    }

    #[test]
    fn merging_is_counting_together(left: Vec<u32>, right: Vec<u32>, more: Vec<u32>) {
        let [left, right, more] = [left, right, more].map(|v| v.into_iter().map(u64::from).collect::<Vec<_>>());
        let together = sketch(&[left.clone(), right.clone(), more.clone()].concat());
        let (left, right, more) = (sketch(&left), sketch(&right), sketch(&more));
        let mut forward = left.clone();
        forward.merge(&right);
        forward.merge(&more);
        let mut backward = more;
        backward.merge(&right);
        backward.merge(&left);
        prop_assert_eq!(&forward, &backward);
        prop_assert_eq!(&forward, &together);
    }

    #[test]
    fn an_encoding_is_read_as_it_was_written(values in proptest::collection::vec(any::<u64>(), 0..300)) {
        let written = sketch(&values);
        prop_assert_eq!(LogLinear::decode(&encoded(&written)), Ok(written));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(sketch) = LogLinear::decode(&bytes) {
            prop_assert_eq!(encoded(&sketch), bytes);
        }
    }
}
