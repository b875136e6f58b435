use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    salt: String,
    key: String,
    bucket: u16,
}

/// Made with python-xxhash (the C implementation): with `h = xxhash.xxh3_64_intdigest`, it is
/// `h(h(key).to_bytes(8, "little"), seed=h(salt)) * 10000 >> 64`. A change here moves users between versions in a running
/// mesh.
#[test]
fn buckets_are_those_of_every_other_release() {
    let table: Vec<Golden> = serde_json::from_str(include_str!("../../golden/buckets.json")).unwrap();
    assert!(table.len() >= 50);
    for Golden {
        salt,
        key,
        bucket: expected,
    } in &table
    {
        let digested = Key::from_digest(Key::of(key.as_bytes()).digest());
        assert_eq!(bucket(Salt::new(salt), digested), *expected, "{salt} {key}");
    }
}

#[test]
fn the_scale_covers_its_whole_range() {
    assert_eq!(scale(0), 0);
    assert_eq!(scale(u64::MAX), 9_999);
    assert_eq!(scale(1 << 63), 5_000);
}

/// Pearson's chi-squared over the 10 000 buckets, 9 999 degrees of freedom, by the normal approximation of Wilson and
/// Hilferty: a fair hash is refused at p < 0.01. The keys are fixed, so the test is too.
#[test]
fn a_million_users_spread_evenly_over_all_buckets_under_every_salt() {
    for salt in ["minilm", "minilm-2026", "a"] {
        let salted = Salt::new(salt);
        let users = 1_000_000_u32;
        let mut seen = vec![0_u32; usize::from(BUCKETS)];
        for user in 0..users {
            seen[usize::from(bucket(salted, Key::of(format!("user-{user}").as_bytes())))] += 1;
        }
        let expected = f64::from(users) / f64::from(BUCKETS);
        let chi_squared: f64 = seen
            .iter()
            .map(|seen| (f64::from(*seen) - expected).powi(2) / expected)
            .sum();
        let freedom = f64::from(BUCKETS - 1);
        let spread = 2.0 / (9.0 * freedom);
        let z = ((chi_squared / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
        assert!(z < 2.326, "{salt}: chi-squared {chi_squared}, z {z}");
    }
}

/// Were salts to correlate, the users of one canary would be the users of every canary. Chi-squared of a 10 × 10 table of
/// tenths, 81 degrees of freedom: 113.5 is the 99 % quantile.
#[test]
fn another_salt_draws_anew() {
    for (first, second) in [("first", "second"), ("minilm", "minilm-2026"), ("a", "b")] {
        let (first, second) = (Salt::new(first), Salt::new(second));
        let users = 200_000_u32;
        let mut table = [[0_u32; 10]; 10];
        for user in 0..users {
            let key = Key::of(format!("user-{user}").as_bytes());
            table[usize::from(bucket(first, key) / 1_000)][usize::from(bucket(second, key) / 1_000)] += 1;
        }
        let rows: Vec<u32> = table.iter().map(|row| row.iter().sum()).collect();
        let columns: Vec<u32> = (0..10)
            .map(|column| table.iter().map(|row| row[column]).sum())
            .collect();
        let mut chi_squared = 0.0;
        for (row, counts) in rows.iter().zip(&table) {
            for (column, count) in columns.iter().zip(counts) {
                let expected = f64::from(*row) * f64::from(*column) / f64::from(users);
                chi_squared += (f64::from(*count) - expected).powi(2) / expected;
            }
        }
        assert!(chi_squared < 113.5, "{first:?} {second:?}: {chi_squared}");
    }
}

proptest! {
    #[test]
    fn a_bucket_is_within_range_whatever_the_key(salt: String, key in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(bucket(Salt::new(&salt), Key::of(&key)) < BUCKETS);
    }
}
