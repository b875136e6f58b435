//! One kind of request over all proxies: what each has counted in its window, and the baseline of all together.
//!
//! A proxy reports its whole window, not what has been added to it. So a report may be lost, or come twice, or to another
//! replica, and counts once all the same; and clocks of proxies are not compared.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::baseline::{Baseline, Learned, Shape};
use crate::sketch::DecodeError;
use crate::survival::Survival;
use crate::window::{SLOT, SLOTS};

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The bytes are no window.
    #[error("the window cannot be read: {0}")]
    Window(#[from] DecodeError),
    /// There are more proxies than are provided for.
    #[error("{0} proxies report already; there is room for no more")]
    Proxies(usize),
}

/// The reports of a kind. Kept as they come: some hundred bytes for each proxy.
#[derive(Clone, Debug)]
pub struct Fleet {
    reports: BTreeMap<u64, (Box<[u8]>, Duration)>,
    most_proxies: usize,
}

impl Fleet {
    /// With room for so many proxies.
    pub fn new(most_proxies: usize) -> Self {
        Self {
            reports: BTreeMap::new(),
            most_proxies,
        }
    }

    /// Takes a proxy's window, as [`Survival::encode`] wrote it, in place of its last one.
    ///
    /// # Errors
    /// If it cannot be read, or if there is no room; the last one then stays.
    pub fn report(&mut self, proxy: u64, window: &[u8], now: Duration) -> Result<(), ReportError> {
        Survival::decode(window)?;
        if !self.reports.contains_key(&proxy) && self.reports.len() >= self.most_proxies {
            self.expire(now);
            if self.reports.len() >= self.most_proxies {
                return Err(ReportError::Proxies(self.most_proxies));
            }
        }
        self.reports.insert(proxy, (window.into(), now));
        Ok(())
    }

    /// Forgets reports that are older than their window.
    pub fn expire(&mut self, now: Duration) {
        self.reports.retain(|_, (_, at)| is_fresh(*at, now));
    }

    /// How many proxies have reported within a window's time.
    pub fn proxies(&self, now: Duration) -> usize {
        self.reports.values().filter(|(_, at)| is_fresh(*at, now)).count()
    }

    /// What all have counted.
    pub fn merged(&self, now: Duration) -> Survival {
        let mut sum = Survival::default();
        for (window, _) in self.reports.values().filter(|(_, at)| is_fresh(*at, now)) {
            if let Ok(window) = Survival::decode(window) {
                sum.merge(&window);
            }
        }
        sum
    }

    /// The baseline of all, to be pushed to each.
    pub fn baseline(&self, prior: Option<&Baseline>, shape: &Shape, now: Duration) -> Option<Learned> {
        Baseline::learn(&self.merged(now), prior, shape)
    }
}

fn is_fresh(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < SLOT.saturating_mul(SLOTS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5000);

    fn window(ms: u64, count: u32) -> Vec<u8> {
        let mut window = Survival::default();
        (0..count).for_each(|_| window.record(Duration::from_millis(ms)));
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_report_that_comes_twice_counts_once_and_an_old_one_not_at_all() {
        let mut fleet = Fleet::new(10);
        fleet.report(1, &window(50, 300), NOW).unwrap();
        fleet.report(1, &window(50, 300), NOW).unwrap();
        fleet.report(2, &window(70, 500), NOW + SLOT).unwrap();
        assert_eq!(fleet.merged(NOW + SLOT).count(), 800);
        assert_eq!(fleet.merged(NOW + SLOT * 10).count(), 500);
        assert_eq!(fleet.proxies(NOW + SLOT * 10), 1);
    }

    #[test]
    fn proxies_with_few_requests_have_a_baseline_together() {
        let mut fleet = Fleet::new(100);
        let shape = Shape::default();
        for proxy in 0..99 {
            fleet.report(proxy, &window(50, 202), NOW).unwrap();
        }
        assert!(
            fleet.baseline(None, &shape, NOW).unwrap().baseline.p999 > Duration::from_millis(60),
            "by the P99"
        );
        fleet.report(99, &window(50, 202), NOW).unwrap();
        let found = fleet.baseline(None, &shape, NOW).unwrap().baseline;
        assert!((49..=51).contains(&found.p999.as_millis()), "{found:?}");
    }

    #[test]
    fn what_is_no_window_and_who_finds_no_room_is_refused() {
        let mut fleet = Fleet::new(1);
        assert!(matches!(fleet.report(1, b"nonsense", NOW), Err(ReportError::Window(_))));
        fleet.report(1, &window(50, 300), NOW).unwrap();
        assert!(matches!(fleet.report(1, b"nonsense", NOW), Err(ReportError::Window(_))));
        assert_eq!(fleet.merged(NOW).count(), 300, "the last one stays");
        assert_eq!(fleet.report(2, &window(50, 1), NOW), Err(ReportError::Proxies(1)));
        fleet.report(2, &window(50, 1), NOW + SLOT * 10).unwrap();
    }
}
