//! Logs that are read together, in about the order of their times.

use super::MAX_LINE_BYTES;
use super::line::{self, Line};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(2);

/// A log, read line by line and never held.
pub(super) struct Log {
    /// Its name, for people.
    pub(super) name: Rc<str>,
    input: Box<dyn BufRead>,
    buffer: Vec<u8>,
    number: u64,
    /// The time of the last captured request that has one.
    latest: Option<Duration>,
    is_over: bool,
    progress: Option<Progress>,
}

impl Log {
    /// Opens a file; `-` is stdin.
    ///
    /// # Errors
    /// Of opening it.
    pub(super) fn open(path: &str, tell_progress: bool) -> io::Result<Self> {
        let mut log = match path {
            "-" => Self::of("stdin", Box::new(io::stdin().lock())),
            path => Self::of(path, Box::new(BufReader::new(File::open(path)?))),
        };
        log.progress = tell_progress.then(|| Progress::of(path));
        Ok(log)
    }

    /// Of anything that can be read.
    pub(super) fn of(name: &str, input: Box<dyn BufRead>) -> Self {
        Self {
            name: name.into(),
            input,
            buffer: Vec::new(),
            number: 0,
            latest: None,
            is_over: false,
            progress: None,
        }
    }

    /// Its next line and the number of it, from 1; `None` at its end.
    ///
    /// # Errors
    /// Of reading it.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line)>> {
        let Some(bytes) = next_line(&mut self.input, &mut self.buffer)? else {
            self.is_over = true;
            return Ok(None);
        };
        self.number += 1;
        let line = line::read(&self.buffer);
        if let Line::Capture(captured) = &line {
            self.latest = captured.time().or(self.latest);
        }
        if let Some(progress) = &mut self.progress {
            progress.advance(bytes, self.number);
        }
        Ok(Some((self.number, line)))
    }
}

/// The log to go on with: the one that is furthest behind. `None` when all have been read.
pub(super) fn furthest_behind(logs: &mut [Log]) -> Option<&mut Log> {
    let unread = logs.iter_mut().filter(|log| !log.is_over);
    unread.min_by_key(|log| log.latest)
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
mod tests {
    use super::*;

    fn log(name: &str, lines: &[String]) -> Log {
        Log::of(name, Box::new(io::Cursor::new(lines.join("\n").into_bytes())))
    }

    #[test]
    fn no_log_is_read_further_ahead_of_the_others_than_by_one_request() {
        let at = |seconds: u64| {
            let time_us = seconds * 1_000_000;
            format!(r#"{{"v":1,"random":"0","stages":"routing","time_us":{time_us},"headers":[]}}"#)
        };
        let mut logs = [
            log("a", &[at(1), at(4), "noise".to_owned(), at(5)]),
            log("b", &["noise".to_owned(), at(2), at(3), at(6)]),
        ];
        let mut read = Vec::new();
        while let Some(log) = furthest_behind(&mut logs) {
            if let Some((_, Line::Capture(captured))) = log.next().unwrap() {
                read.push(captured.time().unwrap().as_secs());
            }
        }
        assert_eq!(read, [1, 2, 4, 3, 6, 5]);
        assert!(furthest_behind(&mut logs).is_none());
    }

    #[test]
    fn a_line_without_end_is_not_held() {
        let mut log = vec![b'x'; 3 * MAX_LINE_BYTES];
        log.extend_from_slice(b"\nshort\n");
        let (mut input, mut buffer) = (log.as_slice(), Vec::new());
        assert_eq!(
            next_line(&mut input, &mut buffer).unwrap(),
            Some(3 * MAX_LINE_BYTES as u64 + 1)
        );
        assert_eq!(buffer.len(), MAX_LINE_BYTES + 1);
        assert_eq!(next_line(&mut input, &mut buffer).unwrap(), Some(6));
        assert_eq!(buffer, b"short");
        assert_eq!(next_line(&mut input, &mut buffer).unwrap(), None);
    }
}
