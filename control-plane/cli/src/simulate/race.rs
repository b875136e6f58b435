//! All arms over all seeds, on as many threads as there are cores, with progress on standard error.

use super::Lap;
use kilocard_simulator::arm::Arm;
use kilocard_simulator::scenario::Scenario;
use kilocard_simulator::summary::{Figures, Result as ArmResult};
use kilocard_weights::Params;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Time between two lines of progress, on a terminal and elsewhere.
const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Runs every arm on every scenario. `None` if a run panicked, which would be a bug.
pub(super) fn run(scenarios: &[(u64, Scenario)], arms: &[Arm], params: &Arc<Params>) -> Option<Vec<ArmResult>> {
    let laps: Vec<(usize, usize)> = (0..scenarios.len())
        .flat_map(|seed| (0..arms.len()).map(move |arm| (arm, seed)))
        .collect();
    let progress = Progress::new(scenarios, arms.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Lap>> = Mutex::new(Vec::new());
    let work = || {
        while let Some((arm, seed)) = laps.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let (Some(kind), Some((number, scenario))) = (arms.get(arm), scenarios.get(seed)) else {
                continue;
            };
            let record = kind.run(scenario, params, *number, &mut |_| progress.second());
            if let Ok(mut done) = done.lock() {
                done.push((arm, seed, Figures::of(record)));
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(laps.len());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    progress.end();
    let mut done = done.into_inner().ok().filter(|done| done.len() == laps.len())?;
    done.sort_by_key(|(arm, seed, _)| (*arm, *seed));
    let mut results: Vec<ArmResult> = arms
        .iter()
        .map(|arm| ArmResult {
            arm: *arm,
            runs: Vec::new(),
        })
        .collect();
    for (arm, _, figures) in done {
        results.get_mut(arm)?.runs.push(figures);
    }
    Some(results)
}

/// Simulated seconds of all runs together, told now and then.
struct Progress {
    total: u64,
    done: AtomicU64,
    is_terminal: bool,
    told: Mutex<Instant>,
}

impl Progress {
    fn new(scenarios: &[(u64, Scenario)], arms: usize) -> Self {
        let seconds = |scenario: &Scenario| scenario.end().since_start().as_secs();
        let total: u64 = scenarios.iter().map(|(_, scenario)| seconds(scenario)).sum();
        Self {
            total: total * arms as u64,
            done: AtomicU64::new(0),
            is_terminal: std::io::stderr().is_terminal(),
            told: Mutex::new(Instant::now()),
        }
    }

    fn second(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let every = if self.is_terminal { ON_TERMINAL } else { ELSEWHERE };
        // Whoever finds it locked need not wait: somebody else is telling.
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() < every {
            return;
        }
        *told = Instant::now();
        let percent = done * 100 / self.total.max(1);
        let (before, after) = if self.is_terminal { ("\r", "") } else { ("", "\n") };
        // Runs go on until their last answer, so the end can take longer than it seems.
        let _ = write!(
            std::io::stderr(),
            "{before}simulating: {done} of {} s ({}%){after}",
            self.total,
            percent.min(99)
        );
    }

    fn end(&self) {
        if self.is_terminal {
            // Clears the line.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
