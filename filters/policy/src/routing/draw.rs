//! Several independent draws from the one random number of a request.

use crate::cohort;
use crate::config::Weight;

/// Whether a request is in the sample that is copied to another version.
pub(super) fn shadows(random: u64, percent: Weight) -> bool {
    is_in_sample(random, 1, percent)
}

/// Whether a request is in the sample that is captured.
pub(crate) fn captures(random: u64, percent: Weight) -> bool {
    is_in_sample(random, 2, percent)
}

fn is_in_sample(random: u64, draw: u64, percent: Weight) -> bool {
    cohort::scale(mix(random, draw)) < percent.basis_points()
}

/// The `draw`-th number after `random` of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014). The number itself decides the bucket, so it is not used again.
fn mix(random: u64, draw: u64) -> u64 {
    let mut mixed = random.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chi-squared of the sixteen cells of both samples and the quarter of the bucket, all equally likely, 15 degrees of
    /// freedom: 30.6 is the 99 % quantile. The numbers are fixed.
    #[test]
    fn the_samples_are_independent_of_each_other_and_of_the_bucket() {
        let draws = 400_000_u64;
        let mut seen = [0_u32; 16];
        for draw in 0..draws {
            let random = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
            let quarter = usize::from(cohort::scale(random) / 2_500);
            let in_half = |which| usize::from(cohort::scale(mix(random, which)) < 5_000);
            seen[quarter * 4 + in_half(1) * 2 + in_half(2)] += 1;
        }
        let expected = draws as f64 / 16.0;
        let chi_squared: f64 = seen
            .iter()
            .map(|seen| (f64::from(*seen) - expected).powi(2) / expected)
            .sum();
        assert!(chi_squared < 30.6, "{chi_squared}");
    }
}
