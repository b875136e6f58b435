//! A child process that does not outlive its owner: its log file, its signals, its end.
//!
//! Three nets, for the three ways an owner ends: `Drop` (return, error, panic, Ctrl-C handled by the caller), a process
//! group of its own (a terminal's Ctrl-C reaches only the owner, which then ends its children in order), and
//! `PR_SET_PDEATHSIG` (the owner is killed outright).

mod spawner;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after SIGTERM before it gets SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(5);
const TAIL_LINES: usize = 15;

/// A running child with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    asked_to_end: bool,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let out = open().with_context(|| format!("open {}", log.display()))?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawner::spawn(command).with_context(|| format!("start {name} ({program})"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            asked_to_end: false,
        })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// # Errors
    /// If it has ended, with its status and last lines.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; {}", self.name, self.tail()),
        }
    }

    /// Sends a signal; one that already ended is no error.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // ESRCH only says that it is gone. The pid cannot be someone else's: the child is not reaped yet, or
            // `Child` would have remembered its status and nobody would be asked to signal it.
            let _ = signal::kill(Pid::from_raw(pid), signal);
        }
    }

    /// SIGKILL, and waits until the kernel has taken it down.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        self.ended(GRACE).await
    }

    /// SIGTERM, once: servers take a second one as the order to drop what is under way.
    pub fn ask_to_end(&mut self) {
        if !std::mem::replace(&mut self.asked_to_end, true) {
            self.signal(Signal::SIGTERM);
        }
    }

    /// SIGTERM unless it was asked already, and waits for a graceful end.
    ///
    /// # Errors
    /// If it does not end within `grace`; it then was killed.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.ask_to_end();
        match self.ended(grace).await {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill().await?;
                Err(error.context("had to be killed"))
            }
        }
    }

    /// [`Process::terminate`] for one that must end with success.
    ///
    /// # Errors
    /// If it had to be killed or ended with another status; with its last lines.
    pub async fn drain(&mut self, grace: Duration) -> Result<()> {
        match self.terminate(grace).await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!("{} ended with {status}; {}", self.name, self.tail()),
            Err(error) => Err(anyhow!("{error:#}; {}", self.tail())),
        }
    }

    /// Waits for its end without a signal.
    ///
    /// # Errors
    /// If it has not ended within `deadline`.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > deadline {
                return Err(anyhow!(
                    "{} (pid {}) did not end within {deadline:?}",
                    self.name,
                    self.pid()
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The last lines of its log, for an error message.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!(
            "last lines of {}:\n  {}",
            self.log.display(),
            lines[from..].join("\n  ")
        )
    }

    fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.running() {
            return;
        }
        // A stopped process takes SIGTERM only once it continues.
        self.ask_to_end();
        self.signal(Signal::SIGCONT);
        let start = Instant::now();
        while self.running() && start.elapsed() < GRACE {
            std::thread::sleep(PAUSE);
        }
        if self.running() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::start("shell", command, &dir.join("shell.log")).unwrap()
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone_even_when_it_was_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 600", dir.path());
        let pid = process.pid();
        process.signal(Signal::SIGSTOP);
        assert!(alive(pid));
        drop(process);
        assert!(!alive(pid));
    }

    #[tokio::test]
    async fn one_that_ended_by_itself_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("echo I give up >&2; exit 3", dir.path());
        process.ended(GRACE).await.unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("I give up"),
            "{error}"
        );
    }

    async fn await_word(process: &Process, word: &str) {
        crate::poll::until(word, crate::poll::DEADLINE, async || {
            let said = fs::read_to_string(process.log())?;
            said.contains(word).then_some(()).context("not yet")
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn one_that_drains_is_asked_once_and_its_status_is_told() {
        let script = "n=0; trap 'n=$((n+1)); echo asked $n' TERM; echo ready; while [ $n = 0 ]; do sleep 0.02; done; \
            sleep 0.2; exit $((n - 1))";
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(script, dir.path());
        await_word(&process, "ready").await;
        process.ask_to_end();
        await_word(&process, "asked 1").await;
        process.drain(GRACE).await.unwrap();

        let mut process = shell(&script.replace("n - 1", "7"), dir.path());
        let error = process.drain(GRACE).await.unwrap_err().to_string();
        assert!(error.contains("ended with"), "{error}");
    }

    #[tokio::test]
    async fn one_that_ignores_sigterm_is_killed_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", dir.path());
        await_word(&process, "ready").await;
        let error = process.terminate(Duration::from_millis(200)).await.unwrap_err();
        assert!(format!("{error:#}").contains("did not end"), "{error:#}");
        assert!(!alive(process.pid()));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Process::start("ghost", Command::new("/nonexistent/ghost"), &dir.path().join("l")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/ghost"), "{error:#}");
    }
}
