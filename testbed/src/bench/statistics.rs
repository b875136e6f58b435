//! Medians and how far they can be trusted.

use serde::Serialize;

/// How often rounds are drawn anew for an interval.
const RESAMPLES: usize = 2000;

/// The spread of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lower_quartile: f64,
    pub(super) upper_quartile: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of no values: all NaN.
    pub(super) fn of(values: &[f64]) -> Self {
        Self {
            median: quantile(values, 0.5),
            lower_quartile: quantile(values, 0.25),
            upper_quartile: quantile(values, 0.75),
            min: quantile(values, 0.0),
            max: quantile(values, 1.0),
        }
    }
}

/// The median.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this part of the values lies, between two of them where it falls between two.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = part * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// How many times as large one thing is as another, and the 95 % interval of that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) of_medians: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Ratio {
    /// Of the medians of two series over the same rounds. The interval is a bootstrap over rounds: rounds are drawn with
    /// replacement, both series of a round together, so what disturbed a whole round does not count twice.
    pub(super) fn of(over: &[f64], under: &[f64]) -> Self {
        let rounds = over.len().min(under.len());
        let mut random = fastrand::Rng::with_seed(0x6b69_6c6f);
        let drawn: Vec<f64> = (0..if rounds == 0 { 0 } else { RESAMPLES })
            .map(|_| {
                let sample: Vec<usize> = (0..rounds).map(|_| random.usize(..rounds)).collect();
                let of = |series: &[f64]| median(&sample.iter().map(|round| series[*round]).collect::<Vec<_>>());
                of(over) / of(under)
            })
            .collect();
        Self {
            of_medians: median(over) / median(under),
            low: quantile(&drawn, 0.025),
            high: quantile(&drawn, 0.975),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_spread_has_quartiles_and_ends() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 3.0, 4.0]);
        let expected = Spread {
            median: 3.0,
            lower_quartile: 2.0,
            upper_quartile: 4.0,
            min: 1.0,
            max: 5.0,
        };
        assert_eq!(spread, expected);
    }

    #[test]
    fn the_ratio_of_series_that_rise_and_fall_together_has_a_narrow_interval() {
        let under: Vec<f64> = (1..=11).map(f64::from).collect();
        let over: Vec<f64> = under.iter().map(|value| value * 3.0).collect();
        let ratio = Ratio::of(&over, &under);
        assert_eq!(ratio.of_medians, 3.0);
        assert!(
            (ratio.low - 3.0).abs() < 1e-9 && (ratio.high - 3.0).abs() < 1e-9,
            "{ratio:?}"
        );
    }

    #[test]
    fn noise_widens_the_interval_of_a_ratio_around_it() {
        let ratio = Ratio::of(&[9.0, 10.0, 11.0, 14.0, 6.0], &[5.0, 4.0, 6.0, 5.0, 5.0]);
        assert_eq!(ratio.of_medians, 2.0);
        assert!(ratio.low < 2.0 && ratio.high > 2.0, "{ratio:?}");
    }
}
