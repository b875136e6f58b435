//! What a process has used, as the kernel accounts it.

use anyhow::{Context, Result};
use std::time::Duration;

/// CPU time of all threads of a process, as the scheduler accounts it (`/proc/<pid>/task/*/schedstat`, in ns). Threads that
/// have ended are not in it.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    let tasks = format!("/proc/{pid}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let spent = text.split_whitespace().next().context("schedstat is empty")?;
        nanos += spent.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// What is in RAM of a process now, in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    kibibytes(&status(pid)?, "VmRSS:")
}

/// The most that was ever in RAM of a process, in bytes.
pub(super) fn peak_resident(pid: u32) -> Result<u64> {
    kibibytes(&status(pid)?, "VmHWM:")
}

fn status(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/status");
    std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// The bytes of a line like `Rss:   12 kB`.
pub(super) fn kibibytes(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number: u64 = number.with_context(|| format!("no {name} in {text:?}"))?.parse()?;
    Ok(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_rollup_are_bytes_and_an_absent_one_is_told() {
        let rollup = "5-7 rw-p 0 0 [rollup]\nRss:              12 kB\nAnonymous:         3 kB\n";
        assert_eq!(kibibytes(rollup, "Rss:").unwrap(), 12 * 1024);
        assert!(kibibytes(rollup, "Pss:").unwrap_err().to_string().contains("Pss:"));
    }

    #[test]
    fn the_cpu_and_memory_of_this_process_are_counted() {
        let before = cpu(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while cpu(std::process::id()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu(std::process::id()).unwrap() > before);
        assert!(resident(std::process::id()).unwrap() <= peak_resident(std::process::id()).unwrap());
    }
}
