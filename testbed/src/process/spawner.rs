//! One thread from which all children are started.
//!
//! The parent-death signal is tied to the *thread* that forked, not to the process (prctl(2)): a child started from a
//! pool thread would die with that thread. This thread lives as long as the process does.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();

/// Starts `command` in a process group of its own, bound to the life of this process.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    let gone = || io::Error::other("the spawner thread is gone");
    let orders = ORDERS
        .get_or_init(start)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    orders.send(Order { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start() -> Mutex<mpsc::Sender<Order>> {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for Order { mut command, reply } in inbox {
            command.process_group(0);
            die_with(&mut command, getpid());
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(orders)
}

#[expect(
    unsafe_code,
    reason = "pre_exec is the only place between fork and exec; both calls are async-signal-safe"
)]
fn die_with(command: &mut Command, owner: Pid) {
    // SAFETY: the closure makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The owner may have died before the line above took effect.
            if getppid() == owner {
                Ok(())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
    }
}
