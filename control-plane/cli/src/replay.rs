//! Captured requests, decided by two policies through the very code that runs in Envoy.

use crate::failure::Failure;
use kilocard_policy::capture::Captured;
use kilocard_policy::cohort::Key;
use kilocard_policy::config::Document;
use kilocard_policy::{Policy, headers};
use std::io;

mod limits;
mod line;
mod log;
mod report;
mod tally;

use limits::Limits;
use line::Line;
use log::Log;
pub use report::Report;
use tally::Origin;

/// Longest line that is looked at, in bytes. A capture has at most 16 KiB, and the rest of an access log's line is not long.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Two policies and what they make of the same requests.
#[derive(Debug)]
pub struct Replay<'p> {
    old: &'p Policy,
    new: &'p Policy,
    /// Those that the new policy is compiled from.
    documents: &'p [Document],
}

impl<'p> Replay<'p> {
    /// Of these policies; the new one with the documents that it is compiled from.
    pub fn new(old: &'p Policy, new: &'p Policy, documents: &'p [Document]) -> Self {
        Self { old, new, documents }
    }

    /// Decides every captured request in these files; `-` is stdin. Files are read line by line, side by side, and never held.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a file cannot be read.
    pub fn run(&self, files: &[String], tell_progress: bool) -> Result<Report, Failure> {
        let cannot = |file: &str, error: io::Error| Failure::Usage(format!("{file} cannot be read: {error}"));
        let open = |file: &String| Log::open(file, tell_progress).map_err(|error| cannot(file, error));
        let mut logs = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        self.read(&mut logs).map_err(|(file, error)| cannot(&file, error))
    }

    fn read(&self, logs: &mut [Log]) -> Result<Report, (String, io::Error)> {
        let mut report = Report::default();
        logs.iter().for_each(|log| report.begin(&log.name));
        let mut limits = Limits::of(self.old, self.new);
        while let Some(log) = log::furthest_behind(logs) {
            let line = log.next().map_err(|error| (log.name.to_string(), error))?;
            let Some((number, line)) = line else { continue };
            let origin = Origin {
                file: log.name.clone(),
                line: number,
                who: None,
            };
            match line {
                Line::Other => report.other += 1,
                Line::Malformed(why) => report.malformed(&origin, why),
                Line::Capture(captured) => {
                    let who = who(&captured);
                    self.decide(&Origin { who, ..origin }, &captured, &mut report, limits.as_mut());
                }
            }
        }
        report.limits = limits.map(Limits::finish);
        Ok(report)
    }

    fn decide(&self, origin: &Origin, captured: &Captured, report: &mut Report, limits: Option<&mut Limits<'p>>) {
        for rule in captured.not_evaluable(self.documents) {
            report.not_evaluable(origin, rule);
        }
        let (old, new) = (captured.decide(self.old), captured.decide(self.new));
        report.decided(origin, &old, &new, captured.is_truncated());
        if let Some(limits) = limits {
            limits.add(captured, &old, &new);
        }
    }
}

/// Who sent the request: the digest of the user, else of the tenant or the session.
fn who(captured: &Captured) -> Option<u64> {
    let ids = [headers::X_USER_ID, headers::X_TENANT_ID, headers::X_SESSION_ID];
    ids.into_iter()
        .find_map(|id| captured.key(id.as_bytes()))
        .map(Key::digest)
}

#[cfg(test)]
mod tests;
