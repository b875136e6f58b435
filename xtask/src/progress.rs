//! One line a step: `[2/7] Envoy 1.40.0 … done in 1.2 s (downloaded)`.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Counts the steps of one command and times them.
pub(crate) struct Progress {
    at: usize,
    total: usize,
    began: Instant,
}

impl Progress {
    /// Starts the clock of a command that has `total` steps.
    pub(crate) fn new(total: usize) -> Self {
        Self {
            at: 0,
            total,
            began: Instant::now(),
        }
    }

    /// A step that prints nothing of its own: the line is completed when it ends. `work` returns how it was done.
    pub(crate) fn step(&mut self, what: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.at += 1;
        print!("[{}/{}] {what} … ", self.at, self.total);
        std::io::stdout().flush().context("write to stdout")?;
        let began = Instant::now();
        match work() {
            Ok(how) => println!("done in {} ({how})", seconds(began.elapsed())),
            Err(error) => {
                println!("failed after {}", seconds(began.elapsed()));
                return Err(error.context(what.to_owned()));
            }
        }
        Ok(())
    }

    /// A step whose child shows its own progress: one line before, one after.
    pub(crate) fn shown_step(&mut self, what: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.at += 1;
        println!("[{}/{}] {what} …", self.at, self.total);
        let began = Instant::now();
        let how = work().with_context(|| what.to_owned())?;
        println!(
            "[{}/{}] {what} … done in {} ({how})",
            self.at,
            self.total,
            seconds(began.elapsed())
        );
        Ok(())
    }

    /// The line before a last step whose own output has to be the last that is printed.
    pub(crate) fn last(&mut self, what: &str) {
        self.at += 1;
        println!("[{}/{}] {what} …", self.at, self.total);
    }

    /// Time since the command began.
    pub(crate) fn elapsed(&self) -> String {
        seconds(self.began.elapsed())
    }
}

/// A duration as a person reads it: `0.3 s`, `12.0 s`, `3 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time.as_secs() < 100 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_given_in_minutes() {
        assert_eq!(seconds(Duration::from_millis(340)), "0.3 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 5 s");
    }

    #[test]
    fn a_failed_step_names_itself() {
        let error = Progress::new(1)
            .step("Envoy", || anyhow::bail!("no network"))
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "Envoy: no network");
    }
}
