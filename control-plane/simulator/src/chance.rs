//! Random quantities from a seeded generator.

use fastrand::Rng;

/// A generator for one purpose: the same seed gives different streams for different purposes, so that what one part draws
/// does not move what another sees.
pub fn stream(seed: u64, purpose: u64) -> Rng {
    let mut mixer = Rng::with_seed(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Rng::with_seed(mixer.u64(..))
}

/// Exponential with this mean.
pub fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

/// Standard normal, by Box and Muller.
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Lognormal with this mean and the standard deviation `sigma` of its logarithm.
pub fn lognormal(rng: &mut Rng, mean: f64, sigma: f64) -> f64 {
    mean * (sigma * normal(rng) - sigma * sigma / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(mut draw: impl FnMut() -> f64) -> f64 {
        let count = 200_000;
        (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn draws_have_the_mean_that_was_asked_for() {
        let mut rng = stream(1, 2);
        assert!((mean_of(|| exponential(&mut rng, 3.0)) - 3.0).abs() < 0.05);
        assert!((mean_of(|| lognormal(&mut rng, 0.2, 0.8)) - 0.2).abs() < 0.01);
        assert!(mean_of(|| normal(&mut rng)).abs() < 0.02);
    }

    #[test]
    fn purposes_have_streams_of_their_own() {
        assert_ne!(stream(1, 2).u64(..), stream(1, 3).u64(..));
        assert_ne!(stream(1, 2).u64(..), stream(2, 2).u64(..));
        assert_eq!(stream(1, 2).u64(..), stream(1, 2).u64(..));
    }
}
