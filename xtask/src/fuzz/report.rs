//! What libFuzzer says, and the table made of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::progress::seconds;

/// How one target fared.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    name: String,
    figures: Figures,
    pub(super) elapsed: Duration,
    /// The inputs that ended a process, where it left them.
    pub(super) ended: Vec<Ended>,
    /// The same, where they were copied to.
    pub(super) found: Vec<PathBuf>,
    /// Of the checked-in corpus.
    pub(super) inputs: usize,
    /// Of the checked-in corpus.
    pub(super) bytes: u64,
}

/// An input that ended a process.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) input: PathBuf,
    pub(super) why: String,
}

/// What one process reports.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    executions: u64,
    /// Edges of the control flow that were taken.
    edges: u64,
    /// Edges by how often they were taken, and comparisons by how near they came.
    features: u64,
}

impl Outcome {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Processes share what they find, so that their coverage overlaps: the best counts.
    pub(super) fn add(&mut self, figures: &Figures) {
        self.figures.executions += figures.executions;
        self.figures.edges = self.figures.edges.max(figures.edges);
        self.figures.features = self.figures.features.max(figures.features);
    }

    pub(super) fn summary(&self) -> String {
        match self.ended.as_slice() {
            [] => format!("{} executions, nothing found", self.figures.executions),
            ended => format!(
                "{} executions, {} input(s) ENDED IT",
                self.figures.executions,
                ended.len()
            ),
        }
    }

    fn executions_a_second(&self) -> u64 {
        (self.figures.executions as f64 / self.elapsed.as_secs_f64().max(1.0)) as u64
    }
}

/// The figures in the output of one process: its last status line and its final statistics.
pub(super) fn read(output: &str) -> Figures {
    let mut figures = Figures::default();
    for line in output.lines() {
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            figures.executions = number.trim().parse().unwrap_or_default();
        }
        // `#2048  NEW    cov: 21 ft: 22 corp: 3/8b lim: 4 exec/s: 0 rss: 30Mb …`
        if line.starts_with('#') {
            figures.edges = after(line, "cov:").unwrap_or(figures.edges);
            figures.features = after(line, "ft:").unwrap_or(figures.features);
        }
    }
    figures
}

fn after(line: &str, label: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip_while(|word| *word != label);
    words.nth(1)?.parse().ok()
}

/// Why a process ended early: the panic and its message, or libFuzzer's own word (a timeout, too much memory).
pub(super) fn reason(output: &str) -> String {
    let mut lines = output.lines();
    if let Some(panic) = lines.find(|line| line.contains("panicked at")) {
        let message: Vec<_> = lines
            .take(3)
            .take_while(|line| !line.starts_with("stack backtrace"))
            .collect();
        return format!("{panic} {}", message.join(" "));
    }
    let own = output.lines().find(|line| line.contains("ERROR: libFuzzer:"));
    own.unwrap_or("it does not say why").to_owned()
}

/// One line a target, and what ended it.
pub(super) fn print(outcomes: &[Outcome]) {
    println!(
        "\n{:<12} {:>12} {:>12} {:>9} {:>8} {:>9} {:>16} {:>8}",
        "target", "time", "executions", "exec/s", "edges", "features", "corpus", "crashes"
    );
    for outcome in outcomes {
        println!(
            "{:<12} {:>12} {:>12} {:>9} {:>8} {:>9} {:>16} {:>8}",
            outcome.name,
            seconds(outcome.elapsed),
            outcome.figures.executions,
            outcome.executions_a_second(),
            outcome.figures.edges,
            outcome.figures.features,
            format!("{}/{} B", outcome.inputs, outcome.bytes),
            outcome.ended.len()
        );
    }
    for outcome in outcomes {
        for (ended, kept) in outcome.ended.iter().zip(&outcome.found) {
            println!("\n{}: {}\n  {}", outcome.name, kept.display(), ended.why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "INFO: Seed: 1\n\
        #2\tINITED cov: 2 ft: 2 corp: 1/1b exec/s: 0 rss: 30Mb\n\
        #4096\tpulse  cov: 21 ft: 60 corp: 9/88b lim: 43 exec/s: 2048 rss: 31Mb\n\
        #5000\tREDUCE cov: 22 ft: 61 corp: 9/80b lim: 43 exec/s: 2500 rss: 31Mb L: 3/9\n\
        thread '<unnamed>' (7) panicked at src/decision.rs:9:5:\n\
        assertion failed\nstack backtrace:\n   0: main\n\
        ==7== ERROR: libFuzzer: deadly signal\n\
        stat::number_of_executed_units: 5120\n\
        stat::average_exec_per_sec:     2560\n";

    #[test]
    fn the_last_figures_count() {
        let expected = Figures {
            executions: 5120,
            edges: 22,
            features: 61,
        };
        assert_eq!(read(OUTPUT), expected);
        assert_eq!(read(""), Figures::default());
    }

    #[test]
    fn a_panic_is_told_with_its_message() {
        let panic = "thread '<unnamed>' (7) panicked at src/decision.rs:9:5: assertion failed";
        assert_eq!(reason(OUTPUT), panic);
        let timeout = "==7== ERROR: libFuzzer: timeout after 20 seconds";
        assert_eq!(reason(&format!("x\n{timeout}\n")), timeout);
    }
}
