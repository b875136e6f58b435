//! One target fuzzed for a while by one process or several, which share what they find.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Target;
use super::report::{self, Ended, Outcome};
use crate::program;

/// The longest that one input may take: everything real takes microseconds, and a loaded machine may stall a process for
/// seconds.
const SECONDS_AN_INPUT: u32 = 20;
/// As much memory as one process may hold, in MiB: a filter that needs more for one input is broken.
const MEMORY_MB: u32 = 1024;

struct Process {
    child: Child,
    line: String,
    log: PathBuf,
    /// Where it leaves the input that ended it.
    artifacts: PathBuf,
}

/// Runs `jobs` processes for `seconds` and reads what they report.
pub(super) fn run(target: &Target, seconds: u32, jobs: u16) -> Result<Outcome> {
    let gathered = target.work.join("corpus");
    fs::create_dir_all(&gathered).with_context(|| format!("create {}", gathered.display()))?;
    fs::create_dir_all(&target.corpus).with_context(|| format!("create {}", target.corpus.display()))?;
    let began = Instant::now();
    let mut processes = Vec::new();
    for job in 0..jobs {
        processes.push(start(target, &gathered, seconds, job)?);
    }
    let mut outcome = Outcome::new(&target.name);
    for process in processes {
        finish(process, &mut outcome)?;
    }
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

fn start(target: &Target, gathered: &Path, seconds: u32, job: u16) -> Result<Process> {
    let artifacts = target.work.join(format!("artifacts-{job}"));
    if artifacts.exists() {
        fs::remove_dir_all(&artifacts).with_context(|| format!("remove {}", artifacts.display()))?;
    }
    fs::create_dir_all(&artifacts).with_context(|| format!("create {}", artifacts.display()))?;
    let log = target.work.join(format!("log-{job}"));
    let sink = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let both = sink.try_clone().with_context(|| format!("open {}", log.display()))?;
    let mut command = Command::new(&target.program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_AN_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    if let Some(dictionary) = &target.dictionary {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // New inputs go into the first of the folders.
    command.arg(gathered).arg(&target.corpus);
    command.stdin(Stdio::null()).stdout(sink).stderr(both);
    let line = program::line(&command);
    let child = command.spawn().with_context(|| format!("cannot start {line}"))?;
    Ok(Process {
        child,
        line,
        log,
        artifacts,
    })
}

fn finish(mut process: Process, outcome: &mut Outcome) -> Result<()> {
    let status = process
        .child
        .wait()
        .with_context(|| format!("wait for {}", process.line))?;
    let text = fs::read(&process.log).with_context(|| format!("read {}", process.log.display()))?;
    let text = String::from_utf8_lossy(&text);
    outcome.add(&report::read(&text));
    let mut inputs = Vec::new();
    let entries = fs::read_dir(&process.artifacts).with_context(|| format!("list {}", process.artifacts.display()))?;
    for entry in entries {
        let input = entry
            .with_context(|| format!("list {}", process.artifacts.display()))?
            .path();
        // Slow inputs are left there as well; they have ended nothing.
        let slow = input
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("slow-unit-"));
        if !slow {
            inputs.push(input);
        }
    }
    ensure!(
        status.success() || !inputs.is_empty(),
        "{} ended with {status} and without an input to blame; its output: {}",
        process.line,
        process.log.display()
    );
    let why = report::reason(&text);
    outcome.ended.extend(inputs.into_iter().map(|input| Ended {
        input,
        why: why.clone(),
    }));
    Ok(())
}
