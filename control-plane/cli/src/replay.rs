//! Captured requests, decided by two policies through the very code that runs in Envoy.

use crate::failure::Failure;
use kilocard_policy::capture::Captured;
use kilocard_policy::cohort::Key;
use kilocard_policy::config::Document;
use kilocard_policy::{Policy, headers};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::time::{Duration, Instant};

mod line;
mod report;
mod tally;

use line::Line;
pub use report::Report;

/// Longest line that is looked at, in bytes. A capture has at most 16 KiB, and the rest of an access log's line is not long.
const MAX_LINE_BYTES: usize = 1 << 20;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(2);

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

    /// Decides every captured request in these files; `-` is stdin. A file is read line by line and never held.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a file cannot be read.
    pub fn run(&self, files: &[String], tell_progress: bool) -> Result<Report, Failure> {
        let mut report = Report::default();
        for file in files {
            let cannot = |error: io::Error| Failure::Usage(format!("{file} cannot be read: {error}"));
            let mut progress = tell_progress.then(|| Progress::of(file));
            match file.as_str() {
                "-" => self.read("stdin", &mut io::stdin().lock(), &mut report, &mut progress),
                path => File::open(path)
                    .and_then(|opened| self.read(path, &mut BufReader::new(opened), &mut report, &mut progress)),
            }
            .map_err(cannot)?;
        }
        Ok(report)
    }

    fn decide(&self, line: u64, captured: &Captured, report: &mut Report) {
        let origin = report.origin(line, who(captured));
        for rule in captured.not_evaluable(self.documents) {
            report.not_evaluable(&origin, rule);
        }
        let (old, new) = (captured.decide(self.old), captured.decide(self.new));
        report.decided(&origin, &old, &new, captured.is_truncated());
    }

    fn read(
        &self,
        file: &str,
        input: &mut dyn BufRead,
        report: &mut Report,
        progress: &mut Option<Progress>,
    ) -> io::Result<()> {
        report.begin(file);
        let mut buffer = Vec::new();
        let mut number = 0;
        while let Some(bytes) = next_line(input, &mut buffer)? {
            number += 1;
            match line::read(&buffer) {
                Line::Other => report.other += 1,
                Line::Malformed(why) => report.malformed(number, why),
                Line::Capture(captured) => self.decide(number, &captured, report),
            }
            if let Some(progress) = progress {
                progress.advance(bytes, number);
            }
        }
        Ok(())
    }
}

/// Who sent the request: the digest of the user, else of the tenant or the session.
fn who(captured: &Captured) -> Option<u64> {
    let ids = [headers::X_USER_ID, headers::X_TENANT_ID, headers::X_SESSION_ID];
    ids.into_iter()
        .find_map(|id| captured.key(id.as_bytes()))
        .map(Key::digest)
}

/// Reads one line without its end into `buffer`, and says how many bytes it took; `None` at the end of the input. Of a line
/// that is too long, one byte more than allowed is kept.
fn next_line(input: &mut dyn BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
    buffer.clear();
    let mut taken = 0;
    loop {
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Ok((taken > 0).then_some(taken));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = (MAX_LINE_BYTES + 1).saturating_sub(buffer.len());
        buffer.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(available.len(), |end| end + 1);
        input.consume(used);
        taken += used as u64;
        if end.is_some() {
            return Ok(Some(taken));
        }
    }
}

/// Tells a person who waits for a long file how far it is.
#[derive(Debug)]
struct Progress {
    file: String,
    total: Option<u64>,
    done: u64,
    told: Instant,
}

impl Progress {
    fn of(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            total: std::fs::metadata(file)
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|file| file.len()),
            done: 0,
            told: Instant::now(),
        }
    }

    fn advance(&mut self, bytes: u64, line: u64) {
        self.done += bytes;
        // Looking at the clock for every line would cost more than the line.
        if !line.is_multiple_of(1024) || self.told.elapsed() < PROGRESS {
            return;
        }
        self.told = Instant::now();
        let mib = |bytes: u64| bytes >> 20;
        let of = self.total.map_or(String::new(), |total| format!(" of {}", mib(total)));
        let _ = writeln!(io::stderr(), "{}: {line} lines, {}{of} MiB", self.file, mib(self.done));
    }
}

#[cfg(test)]
mod tests;
