//! `kilocard status --watch`: the report again and again. On a terminal it is drawn over itself on the alternate screen; into
//! a pipe goes a line each time, which greps and pastes. Ctrl-C ends it and leaves the last report.

use super::text::Counts;
use super::{Fetched, fetch, text};
use crate::args::{Output, StatusArgs};
use crate::failure::Failure;
use crate::outcome::Outcome;
use kilocard_registry::report::MeshReport;
use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;
use terminal_size::{Height, Width, terminal_size};

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows reports until Ctrl-C or a reader that goes away; the outcome is the last one.
///
/// # Errors
/// Only that of the very first try: whoever watches wants to see a control plane come back.
pub(super) async fn run(control_plane: &str, args: &StatusArgs, output: Output) -> Result<Outcome, Failure> {
    let mut last = fetch(control_plane).await?;
    let screen = Screen::enter(output == Output::Text && io::stdout().is_terminal());
    let mut trouble = None;
    loop {
        let now = SystemTime::now();
        let shown = match (output, screen.is_terminal) {
            (Output::Text, true) => screen.draw(&frame(&last.report, args, trouble.as_deref(), now)),
            (Output::Text, false) => line_out(&line(&last.report, trouble.as_deref(), now)),
            (Output::Json | Output::Yaml, _) => line_out(&last.data.to_string()),
        };
        // A reader that went away (`| head`) has seen enough.
        if shown.is_err() {
            break;
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(args.interval) => {}
        }
        match fetch(control_plane).await {
            Ok(fetched) => (last, trouble) = (fetched, None),
            Err(error) => trouble = Some(error.to_string()),
        }
    }
    let is_terminal = screen.is_terminal;
    drop(screen);
    let Fetched { report, data } = last;
    // Into a pipe all has been written already.
    let text = match is_terminal {
        true => text::render(&report, args, SystemTime::now()),
        false => String::new(),
    };
    let mut outcome = Outcome::new(text, data);
    outcome.is_written = !is_terminal;
    Ok(outcome)
}

fn frame(report: &MeshReport, args: &StatusArgs, trouble: Option<&str>, now: SystemTime) -> String {
    let head = match trouble {
        None => format!("every {} s, Ctrl-C ends", args.interval.as_secs_f64()),
        Some(trouble) => format!("NO ANSWER, this is the last report: {trouble}"),
    };
    let time = humantime::format_rfc3339_seconds(now);
    format!("{time}  {head}\n\n{}", text::render(report, args, now))
}

/// The mesh in a line.
fn line(report: &MeshReport, trouble: Option<&str>, now: SystemTime) -> String {
    let counts = Counts::of(report);
    let control_plane = &report.control_plane;
    let source = if control_plane.etcd_connected {
        "connected"
    } else {
        "away"
    };
    let mut line = format!(
        "{} source={source} revision={} policies={} rejected={} endpoints={} drained={} held={} proxies={} behind={} refusing={}",
        humantime::format_rfc3339_seconds(now),
        control_plane.etcd_revision,
        report.policies.len(),
        counts.rejected_policies,
        counts.endpoints,
        counts.drained,
        counts.held,
        report.nodes.len(),
        counts.behind,
        counts.refusing,
    );
    if let Some(trouble) = trouble {
        line = format!("{} no answer: {trouble}", humantime::format_rfc3339_seconds(now));
    }
    line
}

fn line_out(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Gives the screen back however the watching ends.
struct Screen {
    is_terminal: bool,
}

impl Screen {
    fn enter(is_terminal: bool) -> Self {
        if is_terminal {
            let _ = write!(io::stdout(), "{ENTER}");
        }
        Self { is_terminal }
    }

    fn draw(&self, frame: &str) -> io::Result<()> {
        let (width, height) = terminal_size().map_or((80, 24), |(Width(w), Height(h))| (w.into(), h.into()));
        let mut stdout = io::stdout();
        write!(stdout, "\x1b[H{}\x1b[J", fit(frame, width, height))?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            let mut stdout = io::stdout();
            let _ = write!(stdout, "{LEAVE}").and_then(|()| stdout.flush());
        }
    }
}

/// A frame cut to a screen: what does not fit is told and not scrolled.
fn fit(frame: &str, width: usize, height: usize) -> String {
    let count = frame.lines().count();
    let shown = if count < height {
        count
    } else {
        height.saturating_sub(2)
    };
    let mut fitted = String::new();
    for line in frame.lines().take(shown) {
        fitted.extend(line.chars().take(width));
        fitted.push_str("\x1b[K\r\n");
    }
    if count > shown {
        let more = format!("… {} lines more", count - shown);
        fitted.extend(more.chars().take(width));
        fitted.push_str("\x1b[K");
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_to_the_screen_and_says_so() {
        let frame = "one is long\ntwo\nthree\nfour\nfive\n";
        assert_eq!(fit(frame, 3, 4), "one\x1b[K\r\ntwo\x1b[K\r\n… 3\x1b[K");
        assert_eq!(fit("a\nb\n", 80, 24), "a\x1b[K\r\nb\x1b[K\r\n");
    }
}
