//! How the buckets of a request are divided between the versions, found by asking the policy itself.
//!
//! Nothing is computed a second time here: the policy is asked with a random number for every bucket there is.

use kilocard_policy::cohort::BUCKETS;
use kilocard_policy::{Policy, RequestView, Verdict, headers};
use serde_json::{Value, json};

/// A version and the buckets it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The version.
    pub version: String,
    /// First bucket.
    pub first: u16,
    /// Last bucket.
    pub last: u16,
}

impl Share {
    /// In percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.last - self.first + 1) * 100.0 / f64::from(BUCKETS)
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        json!({"version": self.version, "percent": self.percent(), "first_bucket": self.first, "last_bucket": self.last})
    }

    /// In words: `v2 has buckets 0 to 999 (10%)`.
    pub fn describe(&self) -> String {
        format!(
            "{} has buckets {} to {} ({}%)",
            self.version,
            self.first,
            self.last,
            self.percent()
        )
    }
}

/// The random number that falls into the bucket.
pub fn random_for(bucket: u16) -> u64 {
    // The least number whose product with BUCKETS, shifted right by 64, is the bucket; below 2^64 for every bucket.
    let least = (u128::from(bucket) << 64).div_ceil(u128::from(BUCKETS));
    u64::try_from(least).unwrap_or(u64::MAX)
}

/// How a request with these headers would be divided if nobody were known to ask; by bucket. Empty if it is refused or
/// not drawn.
pub fn of(policy: &Policy, request: &[(&[u8], &[u8])]) -> Vec<Share> {
    // A user's bucket and a random one are divided alike, so the user is left out to be able to choose the bucket.
    let anonymous: Vec<(&[u8], &[u8])> = request
        .iter()
        .copied()
        .filter(|(name, _)| *name != headers::X_USER_ID.as_bytes())
        .collect();
    let view = RequestView::new(&anonymous);
    let mut shares: Vec<Share> = Vec::new();
    for bucket in 0..BUCKETS {
        let Verdict::Route(route) = policy.decide(&view, random_for(bucket)).verdict else {
            return Vec::new();
        };
        if route.bucket != Some(bucket) {
            return Vec::new();
        }
        match shares.last_mut() {
            Some(share) if share.version == route.version => share.last = bucket,
            _ => shares.push(Share {
                version: route.version.to_owned(),
                first: bucket,
                last: bucket,
            }),
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_policy::cohort::scale;

    #[test]
    fn every_bucket_has_a_random_number_that_falls_into_it() {
        for bucket in 0..BUCKETS {
            assert_eq!(scale(random_for(bucket)), bucket);
        }
    }
}
