//! What stands between the cards and the gateways' weights: nothing, or a control plane.

use crate::balancer::View;
use crate::moment::Moment;

/// What a card's worker reports, with the telemetry's noise in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which card.
    pub card: usize,
    /// When it was read.
    pub read: Moment,
    /// Requests in its slots.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Its slots.
    pub slots: usize,
    /// Work done since the last report, in seconds of a card of speed 1 a second.
    pub work_rate: f64,
    /// Part of the time since the last report in which it had something to do.
    pub busy: f64,
    /// Requests finished since the last report, a second.
    pub request_rate: f64,
    /// Part of its memory that is free.
    pub memory_free: f64,
    /// Its clock, as a part of its highest.
    pub clock: f64,
    /// Whether its driver says that it slows down against heat.
    pub throttled: bool,
    /// °C.
    pub temperature_c: f64,
    /// Whether it has failed.
    pub failed: bool,
}

/// Decides what gateways are told.
pub trait Control: std::fmt::Debug {
    /// Takes in a report as it arrives at `now`.
    fn report(&mut self, now: Moment, report: &Report);

    /// What gateways should be told from now on, if it is not what they were told last. Called once at the beginning and
    /// then every [`crate::scenario::TICK`]; `members` says by card whether its worker is in the registry.
    fn tick(&mut self, now: Moment, members: &[bool]) -> Option<View>;
}

/// Weights that never change.
#[derive(Debug)]
pub struct Fixed {
    weights: Vec<u32>,
    told: Option<View>,
}

impl Fixed {
    /// These weights, by card.
    pub fn new(weights: Vec<u32>) -> Self {
        Self { weights, told: None }
    }
}

/// The members' weights.
fn weights_of(weights: &[u32], members: &[bool]) -> Vec<Option<u32>> {
    let both = weights.iter().zip(members);
    both.map(|(weight, is_member)| is_member.then_some(*weight)).collect()
}

impl Control for Fixed {
    fn report(&mut self, _now: Moment, _report: &Report) {}

    fn tick(&mut self, _now: Moment, members: &[bool]) -> Option<View> {
        let view = View {
            weights: weights_of(&self.weights, members),
            loads: Vec::new(),
        };
        (self.told.as_ref() != Some(&view)).then(|| self.told.insert(view).clone())
    }
}

/// Weights that never change, and with every tick the loads as the cards last reported them.
#[derive(Debug)]
pub struct Loads {
    weights: Vec<u32>,
    loads: Vec<u32>,
}

impl Loads {
    /// These weights, by card.
    pub fn new(weights: Vec<u32>) -> Self {
        let loads = vec![0; weights.len()];
        Self { weights, loads }
    }
}

impl Control for Loads {
    fn report(&mut self, _now: Moment, report: &Report) {
        if let Some(load) = self.loads.get_mut(report.card) {
            *load = u32::try_from(report.running + report.waiting).unwrap_or(u32::MAX);
        }
    }

    fn tick(&mut self, _now: Moment, members: &[bool]) -> Option<View> {
        Some(View {
            weights: weights_of(&self.weights, members),
            loads: self.loads.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_weights_are_told_again_only_when_the_members_change() {
        let mut fixed = Fixed::new(vec![4, 1]);
        let now = Moment::default();
        assert_eq!(fixed.tick(now, &[true, true]).unwrap().weights, [Some(4), Some(1)]);
        assert_eq!(fixed.tick(now, &[true, true]), None);
        assert_eq!(fixed.tick(now, &[true, false]).unwrap().weights, [Some(4), None]);
    }
}
