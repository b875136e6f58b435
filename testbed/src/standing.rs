//! A mesh that stays up (`up`) until it is told to end (Ctrl-C, SIGTERM, `down`).
//!
//! Whether one is up is told by a lock on `target/testbed/up.lock`, which the kernel drops with its owner: no stale state
//! can claim that a dead one lives. The owner writes its process id and start time into it; until it has, what an earlier
//! one wrote is told from it by the start time, so that a recycled process id is not mistaken for it.

use crate::demo::say;
use crate::harness::Testbed;
use crate::install::state_dir;
use crate::poll;
use crate::starter;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The weight of `v2` that `up` starts with, in percent.
const V2_PERCENT: u16 = 10;
/// How long `down` waits for `up` to end.
const END: Duration = Duration::from_secs(30);
/// How often `up` looks whether everything still runs.
const LOOK: Duration = Duration::from_secs(1);

/// Where the addresses of the mesh that is up are written.
///
/// # Errors
/// If this is no checkout.
pub fn endpoints_file() -> Result<PathBuf> {
    Ok(state_dir()?.join("endpoints.json"))
}

fn lock_file() -> Result<File> {
    let dir = state_dir()?;
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join("up.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(&path).with_context(|| format!("open {}", path.display()))
}

/// Starts the mesh, tells where it is, and keeps it until `end` resolves.
///
/// # Errors
/// If one is up already, if it does not start, or if a part of it ends by itself.
pub async fn up(end: impl Future<Output = ()>) -> Result<()> {
    let mut lock = lock_file()?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!(
                "a testbed is already up (pid {}); end it with `cargo xtask down`",
                owner(&mut lock)?
            )
        }
        Err(TryLockError::Error(error)) => return Err(error).context("lock target/testbed/up.lock"),
    }
    sign(&mut lock)?;
    let file = endpoints_file()?;
    let _ = fs::remove_file(&file);

    tokio::pin!(end);
    let mut testbed = tokio::select! {
        started = starter::mesh("up", V2_PERCENT).start() => started?,
        () = &mut end => return Ok(()),
    };
    let endpoints = describe(&mut testbed)?;
    write_atomically(&file, &serde_json::to_vec_pretty(&endpoints)?)?;
    show(&endpoints, &file);
    let watched = tokio::select! {
        () = &mut end => Ok(()),
        ended = watch(&mut testbed) => ended,
    };
    let _ = fs::remove_file(&file);
    watched?;
    say("\nending …");
    testbed.finish().await?;
    say("everything has ended");
    Ok(())
}

/// The gateway of the mesh that is up.
///
/// # Errors
/// If none is.
pub fn gateway() -> Result<SocketAddr> {
    let file = endpoints_file()?;
    let bytes = fs::read(&file).context("no testbed is up; start one with `cargo xtask up`, or give --gateway")?;
    let endpoints: Value = serde_json::from_slice(&bytes)?;
    endpoints["gateway"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("the gateway in {}", file.display()))
}

/// Ends the mesh that is up, and says so.
///
/// # Errors
/// If it does not end.
pub async fn down() -> Result<()> {
    let mut lock = lock_file()?;
    if free(&lock)? {
        // What one that was killed outright could not remove.
        let _ = fs::remove_file(endpoints_file()?);
        say("no testbed is up");
        return Ok(());
    }
    let pid = owner(&mut lock)?;
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("send SIGTERM to {pid}"))?;
    poll::until(&format!("the testbed (pid {pid}) to end"), END, async || {
        if free(&lock)? { Ok(()) } else { bail!("it still runs") }
    })
    .await?;
    let _ = fs::remove_file(endpoints_file()?);
    say(&format!("the testbed (pid {pid}) has ended"));
    Ok(())
}

fn free(lock: &File) -> Result<bool> {
    match lock.try_lock() {
        Ok(()) => {
            lock.unlock()?;
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("lock target/testbed/up.lock"),
    }
}

/// Says in the lock's file that it is this process that holds it.
fn sign(lock: &mut File) -> Result<()> {
    let pid = i32::try_from(std::process::id())?;
    let start = start_of(pid).context("read this process's start time from /proc")?;
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{pid} {start}")?;
    Ok(())
}

/// The process that holds the lock. What stands in the file counts only if that very process still lives.
fn owner(lock: &mut File) -> Result<i32> {
    let mut text = String::new();
    lock.rewind()?;
    lock.read_to_string(&mut text)?;
    let signed = text.split_once(' ').and_then(|(pid, start)| {
        let pid = pid.parse().ok()?;
        (start_of(pid)? == start.parse::<u64>().ok()?).then_some(pid)
    });
    signed.context("target/testbed/up.lock is held by a testbed that is just starting; try again")
}

/// When a process was started, in clock ticks since boot: field 22 of `/proc/<pid>/stat` (proc(5)).
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

async fn watch(testbed: &mut Testbed) -> Result<()> {
    loop {
        testbed.check()?;
        tokio::time::sleep(LOOK).await;
    }
}

fn describe(testbed: &mut Testbed) -> Result<Value> {
    let etcd = testbed.etcd().endpoint();
    let admin = format!("http://{}", testbed.control_plane().admin());
    let workers: Vec<Value> = testbed
        .workers()
        .map(|worker| {
            let spec = worker.spec();
            json!({
                "id": spec.id, "model": spec.model, "version": spec.version,
                "grpc": worker.grpc().map(|address| address.to_string()),
                "admin": worker.admin().map(|address| format!("http://{address}")),
                "card": spec.gpu.as_ref().map_or("cpu".to_owned(), |gpu| format!("{} (simulated)", gpu.device.model)),
            })
        })
        .collect();
    let cli = testbed.install().cli.clone();
    let program = std::env::current_exe()?;
    let kilocard = format!("{} --etcd {etcd} --control-plane {admin}", cli.display());
    let gateway = testbed.gateway();
    let envoy_admin = format!("http://{}", testbed.envoy().admin()?);
    Ok(json!({
        "pid": std::process::id(),
        "pids": testbed.pids(),
        "gateway": gateway.to_string(),
        "envoy_admin": envoy_admin,
        "control_plane": {"xds": testbed.control_plane().xds().to_string(), "admin": admin},
        "etcd": etcd,
        "workers": workers,
        "logs": testbed.dir(),
        "commands": {
            "status": format!("{kilocard} status"),
            "policies": format!("{kilocard} get -o yaml"),
            "whois": format!("{kilocard} whois ada"),
            "endpoints": format!("curl -s {envoy_admin}/clusters"),
            "infer": format!("{} infer 'a cat' 'a kitten' 'a bank'", program.display()),
            "down": "cargo xtask down",
        },
    }))
}

fn show(endpoints: &Value, file: &Path) {
    say(&format!("the testbed is up; addresses also in {}", file.display()));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for name in ["gateway", "envoy_admin", "etcd"] {
        say(&format!("  {name:<14} {}", text(&endpoints[name])));
    }
    say(&format!(
        "  {:<14} {}, xDS {}",
        "control_plane",
        text(&endpoints["control_plane"]["admin"]),
        text(&endpoints["control_plane"]["xds"])
    ));
    for worker in endpoints["workers"].as_array().into_iter().flatten() {
        let field = |name: &str| text(&worker[name]);
        say(&format!(
            "  {:<14} {} {}/{} on {}",
            field("id"),
            field("grpc"),
            field("model"),
            field("version"),
            field("card")
        ));
    }
    say("commands to paste:");
    for (name, command) in endpoints["commands"].as_object().into_iter().flatten() {
        say(&format!("  # {name}\n  {}", text(command)));
    }
    say("Ctrl-C ends it.");
}

fn write_atomically(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().context("a folder")?;
    let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
    temporary.write_all(bytes)?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_process_id_is_not_taken_for_the_owner() {
        let mut lock = tempfile::tempfile().unwrap();
        assert!(owner(&mut lock).is_err(), "nothing is written yet");
        sign(&mut lock).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(owner(&mut lock).unwrap(), me);

        lock.set_len(0).unwrap();
        lock.rewind().unwrap();
        write!(lock, "{me} {}", start_of(me).unwrap() - 1).unwrap();
        let told = owner(&mut lock).unwrap_err().to_string();
        assert!(told.contains("just starting"), "{told}");
    }
}
