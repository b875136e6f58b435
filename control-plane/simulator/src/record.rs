//! What is measured in one run.

use crate::balancer::View;
use crate::moment::Moment;
use crate::scenario::{Scenario, Settled};
use std::time::Duration;

/// Herding is looked for in windows of this length.
const WINDOW: Duration = Duration::from_millis(100);
/// A window says something of an endpoint only if its weight lets so many requests be expected there: of few, twice as many
/// is mere chance.
pub const WINDOW_EXPECTS: f64 = 20.0;

/// What came of one run. Only requests that arrived while it was measured count in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that a card's failure took, or that no endpoint took.
    pub failed: u64,
    /// Picks of a card that refused; the gateway picked again.
    pub refused: u64,
    /// Latency in seconds of each answered request, by the second of its arrival.
    pub latencies: Vec<Vec<f32>>,
    /// Shares against capacities.
    pub shares: Vec<ShareError>,
    /// Most that an endpoint got in 100 ms over what its weight says; `None` when no window was busy enough to tell.
    pub busiest: Option<f64>,
    /// How often gateways were told something new.
    pub pushes: u64,
}

/// How far shares were from the true capacities, over one settled stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareError {
    /// When it began and ended, seconds after measuring began.
    pub from_s: f64,
    /// See `from_s`.
    pub to_s: f64,
    /// Requests in it.
    pub requests: u64,
    /// Relative error of an endpoint's share, in the mean weighted with capacity: `Σ |share − capacity share|`.
    pub mean: f64,
    /// Largest relative error of an endpoint's share.
    pub worst: f64,
}

/// Measures while a run goes on.
#[derive(Debug)]
pub(crate) struct Recorder {
    record: Record,
    begin: Moment,
    end: Moment,
    settled: Vec<(Settled, Vec<u64>)>,
    window: Window,
}

impl Recorder {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let cards = scenario.cards.len();
        let settled = scenario.settled().into_iter();
        let seconds = scenario.measured.as_secs_f64().ceil() as usize;
        Self {
            record: Record {
                latencies: vec![Vec::new(); seconds],
                ..Record::default()
            },
            begin: scenario.begin(),
            end: scenario.end(),
            settled: settled.map(|stretch| (stretch, vec![0; cards])).collect(),
            window: Window::new(cards, scenario.gateways),
        }
    }

    fn counts(&self, arrived: Moment) -> bool {
        self.begin <= arrived && arrived < self.end
    }

    pub(crate) fn arrived(&mut self, at: Moment) {
        self.record.arrived += u64::from(self.counts(at));
    }

    /// A request was sent to a card. `views` is what each gateway was told last.
    pub(crate) fn sent(&mut self, at: Moment, gateway: usize, card: usize) {
        if !self.counts(at) {
            return;
        }
        for (stretch, counts) in &mut self.settled {
            if stretch.from <= at
                && at < stretch.to
                && let Some(count) = counts.get_mut(card)
            {
                *count += 1;
            }
        }
        self.window.count(gateway, card);
    }

    /// Must be called before anything of a moment is counted, with what each gateway was told.
    pub(crate) fn roll<'a>(&mut self, now: Moment, views: impl Iterator<Item = &'a View>) {
        if now.steps(WINDOW) != self.window.step {
            let busiest = self.window.close(now.steps(WINDOW), views);
            self.record.busiest = self.record.busiest.into_iter().chain(busiest).reduce(f64::max);
        }
    }

    pub(crate) fn answered(&mut self, arrived: Moment, at: Moment) {
        if self.counts(arrived) {
            self.record.answered += 1;
            let second = (arrived - self.begin) as usize;
            if let Some(latencies) = self.record.latencies.get_mut(second) {
                latencies.push((at - arrived) as f32);
            }
        }
    }

    pub(crate) fn failed(&mut self, arrived: Moment) {
        self.record.failed += u64::from(self.counts(arrived));
    }

    pub(crate) fn refused(&mut self, arrived: Moment) {
        self.record.refused += u64::from(self.counts(arrived));
    }

    pub(crate) fn pushed(&mut self, at: Moment) {
        self.record.pushes += u64::from(self.counts(at));
    }

    pub(crate) fn finish(mut self) -> Record {
        let begin = self.begin;
        self.record.shares = self
            .settled
            .iter()
            .filter_map(|(stretch, counts)| share_error(stretch, counts, begin))
            .collect();
        self.record
    }
}

fn share_error(stretch: &Settled, counts: &[u64], begin: Moment) -> Option<ShareError> {
    let requests: u64 = counts.iter().sum();
    let total: f64 = stretch.capacity.iter().sum();
    if requests == 0 || total <= 0.0 {
        return None;
    }
    let (mut mean, mut worst) = (0.0, 0.0f64);
    for (count, capacity) in counts.iter().zip(&stretch.capacity) {
        let (share, due) = (*count as f64 / requests as f64, capacity / total);
        mean += (share - due).abs();
        if due > 0.0 {
            worst = worst.max((share / due - 1.0).abs());
        }
    }
    Some(ShareError {
        from_s: stretch.from - begin,
        to_s: stretch.to - begin,
        requests,
        mean,
        worst,
    })
}

/// Requests by gateway and by card within 100 ms.
#[derive(Debug)]
struct Window {
    step: u64,
    by_gateway: Vec<u64>,
    by_card: Vec<u64>,
    /// What each gateway makes of a card's weight, as of the window's beginning: the part of its requests that go there.
    shares: Vec<Vec<f64>>,
}

impl Window {
    fn new(cards: usize, gateways: usize) -> Self {
        Self {
            step: 0,
            by_gateway: vec![0; gateways],
            by_card: vec![0; cards],
            shares: Vec::new(),
        }
    }

    fn count(&mut self, gateway: usize, card: usize) {
        if let (Some(of_gateway), Some(of_card)) = (self.by_gateway.get_mut(gateway), self.by_card.get_mut(card)) {
            *of_gateway += 1;
            *of_card += 1;
        }
    }

    fn close<'a>(&mut self, step: u64, views: impl Iterator<Item = &'a View>) -> Option<f64> {
        let mut expected = vec![0.0; self.by_card.len()];
        for (requests, shares) in self.by_gateway.iter().zip(&self.shares) {
            for (sum, share) in expected.iter_mut().zip(shares) {
                *sum += *requests as f64 * share;
            }
        }
        let counted = self.by_card.iter().zip(&expected);
        let busiest = counted
            .filter(|(_, expected)| **expected >= WINDOW_EXPECTS)
            .map(|(count, expected)| *count as f64 / expected)
            .reduce(f64::max);
        self.step = step;
        self.by_gateway.fill(0);
        self.by_card.fill(0);
        self.shares = views.map(shares_of).collect();
        busiest
    }
}

fn shares_of(view: &View) -> Vec<f64> {
    let total = view.total();
    let weights = view.weights.iter();
    weights
        .map(|weight| weight.map_or(0.0, |weight| f64::from(weight.max(1)) / total))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_error_is_the_mean_and_the_worst_of_the_endpoints_relative_errors() {
        let stretch = Settled {
            from: Moment::at_secs(15.0),
            to: Moment::at_secs(25.0),
            capacity: vec![3.0, 1.0, 0.0],
        };
        let error = share_error(&stretch, &[70, 30, 0], Moment::at_secs(5.0)).unwrap();
        assert!(
            (error.mean - 0.1).abs() < 1e-9 && (error.worst - 0.2).abs() < 1e-9,
            "{error:?}"
        );
        assert_eq!((error.from_s, error.to_s), (10.0, 20.0));
        assert_eq!(share_error(&stretch, &[0, 0, 0], Moment::default()), None);
    }

    #[test]
    fn a_window_finds_the_endpoint_that_got_more_than_its_weight_says() {
        let view = View {
            weights: vec![Some(100), Some(100), None],
            loads: Vec::new(),
        };
        let mut window = Window::new(3, 1);
        assert_eq!(window.close(1, [&view].into_iter()), None);
        (0..30).for_each(|_| window.count(0, 0));
        (0..20).for_each(|_| window.count(0, 1));
        assert_eq!(window.close(2, [&view].into_iter()), Some(30.0 / 25.0));
        // Too few to tell.
        (0..30).for_each(|_| window.count(0, 0));
        assert_eq!(window.close(3, [&view].into_iter()), None);
    }
}
