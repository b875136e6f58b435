use proptest::prelude::*;

use super::*;

/// Made with python-xxhash 3 (another implementation): `xxhash.xxh3_64_intdigest(salt + b"\0" + key) * 10000 >> 64`.
/// A change here moves users between versions in a running mesh.
#[test]
fn buckets_are_those_of_every_other_release() {
    let salt_of_128 = "x".repeat(128);
    let key_of_128 = "k".repeat(128);
    let golden = [
        ("minilm", "ada", 4917),
        ("minilm", "bob", 3521),
        ("minilm-2026", "ada", 1734),
        ("minilm", "spiffe://mesh/ns/default/sa/ada", 6471),
        ("minilm", "ada@example.org", 2523),
        ("minilm", "", 9850),
        ("s", &key_of_128, 9799),
        (&salt_of_128, "user-1", 7276),
    ];
    for (salt, key, expected) in golden {
        assert_eq!(bucket(salt.as_bytes(), key.as_bytes()), expected, "{salt} {key}");
    }
}

#[test]
fn keys_around_and_beyond_the_buffer_hash_the_same_way() {
    // From the same source as above; 510 fills the buffer with its salt and separator, 511 does not fit.
    for (length, expected) in [(510, 1748), (511, 6927), (1000, 6345)] {
        assert_eq!(bucket(b"s", &vec![b'k'; length]), expected, "{length}");
    }
}

#[test]
fn the_scale_covers_its_whole_range() {
    assert_eq!(scale(0), 0);
    assert_eq!(scale(u64::MAX), 9_999);
    assert_eq!(scale(1 << 63), 5_000);
}

/// Pearson's chi-squared over 100 groups of buckets, 99 degrees of freedom: 148.2 is the 99.9 % quantile.
#[test]
fn users_spread_evenly_under_every_salt() {
    for salt in ["minilm", "minilm-2026", "a"] {
        let users = 200_000;
        let mut groups = [0_u32; 100];
        for user in 0..users {
            groups[usize::from(bucket(salt.as_bytes(), format!("user-{user}").as_bytes()) / 100)] += 1;
        }
        let expected = f64::from(users) / 100.0;
        let chi_squared: f64 = groups
            .iter()
            .map(|seen| (f64::from(*seen) - expected).powi(2) / expected)
            .sum();
        assert!(chi_squared < 148.2, "{salt}: {chi_squared}");
    }
}

/// Were salts to correlate, the users of one canary would be the users of every canary.
#[test]
fn another_salt_draws_anew() {
    let users = 100_000;
    let in_both = (0..users)
        .map(|user| format!("user-{user}"))
        .filter(|user| bucket(b"first", user.as_bytes()) < 1_000 && bucket(b"second", user.as_bytes()) < 1_000)
        .count();
    // 1 % expected; the standard deviation is about 31.
    assert!((850..1_150).contains(&in_both), "{in_both}");
}

proptest! {
    #[test]
    fn a_bucket_is_within_range_and_the_two_ways_to_hash_agree(
        salt in prop::collection::vec(1_u8.., 0..300),
        key in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let contiguous: Vec<u8> = salt.iter().chain(&[0]).chain(&key).copied().collect();
        let bucket = bucket(&salt, &key);
        prop_assert!(bucket < BUCKETS);
        prop_assert_eq!(bucket, scale(xxh3_64(&contiguous)));
    }
}
