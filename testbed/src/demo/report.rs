//! How the demonstration tells what was expected, what was seen, and what to do next.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// A step of the demonstration with its verdicts.
#[derive(Debug)]
struct Step {
    number: usize,
    title: String,
    began: Instant,
    took: Duration,
    passed: usize,
    failed: usize,
}

/// Everything shown so far.
#[derive(Debug)]
pub struct Report {
    colours: bool,
    began: Instant,
    steps: Vec<Step>,
}

impl Default for Report {
    fn default() -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            colours,
            began: Instant::now(),
            steps: Vec::new(),
        }
    }
}

impl Report {
    /// Begins a step.
    pub fn step(&mut self, number: usize, title: &str) {
        self.close();
        let line = format!("\n{number}. {title}");
        say(&self.paint(BOLD, &line));
        let began = Instant::now();
        self.steps.push(Step {
            number,
            title: title.to_owned(),
            began,
            took: Duration::ZERO,
            passed: 0,
            failed: 0,
        });
    }

    /// One verdict: what was looked at, what it should be, what it is.
    pub fn check(&mut self, what: &str, expected: impl AsRef<str>, seen: impl AsRef<str>, pass: bool) {
        let verdict = if pass {
            self.paint(GREEN, "PASS")
        } else {
            self.paint(RED, "FAIL")
        };
        say(&format!("   {verdict}  {what}"));
        say(&format!("           expected  {}", expected.as_ref()));
        say(&format!("           seen      {}", seen.as_ref()));
        if let Some(step) = self.steps.last_mut() {
            if pass {
                step.passed += 1;
            } else {
                step.failed += 1;
            }
        }
    }

    /// Something worth knowing that is not judged.
    pub fn note(&self, text: impl AsRef<str>) {
        say(&format!("           {}", text.as_ref()));
    }

    /// A step that could not be carried through.
    pub fn broke(&mut self, error: &anyhow::Error) {
        self.check("the step ran to its end", "no error", format!("{error:#}"), false);
    }

    /// Whether everything so far passed.
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.failed == 0 && step.passed > 0)
    }

    /// The closing table.
    pub fn summary(&mut self) {
        self.close();
        say("");
        say(&self.paint(BOLD, "Summary"));
        for step in &self.steps {
            let good = step.failed == 0 && step.passed > 0;
            let verdict = if good {
                self.paint(GREEN, "PASS")
            } else {
                self.paint(RED, "FAIL")
            };
            let counts = format!("{}/{} checks", step.passed, step.passed + step.failed);
            let seconds = step.took.as_secs_f64();
            say(&format!(
                "   {verdict}  {}. {:<62} {counts:>12} {seconds:>6.1} s",
                step.number, step.title
            ));
        }
        say(&format!(
            "   {} in {:.1} s",
            if self.passed() { "all passed" } else { "not all passed" },
            self.began.elapsed().as_secs_f64()
        ));
    }

    fn close(&mut self) {
        if let Some(step) = self.steps.last_mut().filter(|step| step.took.is_zero()) {
            step.took = step.began.elapsed();
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let mut painted = String::new();
        let _ = write!(painted, "{colour}{text}{RESET}");
        painted
    }
}

/// A line on stdout. A reader that went away (`| head`) is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
