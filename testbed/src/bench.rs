//! What is measured on the real mesh: `bench admission`, `bench push`, `bench changes`, `bench filter`, `bench pools` and `bench xds`.

pub mod admission;
pub mod changes;
pub mod filter;
mod machine;
pub mod pools;
pub mod push;
mod statistics;
mod usage;
pub mod xds;

use crate::demo::say;
use crate::install::target_dir;
use anyhow::{Context, Result};
use clap::Subcommand;
use serde::Serialize;

/// A bench.
#[derive(Subcommand, Debug)]
pub enum Bench {
    /// What limits are worth under overload: none, queries only, GPU memory only, both together
    Admission(admission::Admission),
    /// From the write of a policy in etcd to its effect on a client
    Push(push::Push),
    /// Whether a request is dropped while the configuration changes at random, on real Envoy
    Changes(changes::Changes),
    /// CPU that validation and routing add to a request in Envoy: our modules, a Lua filter, an ext_proc server; and memory
    Filter(filter::Filter),
    /// The control plane with a thousand simulated proxies and ten thousand endpoints of which a tenth changes each second
    Xds(xds::Xds),
    /// Whether a burst of batch work starves interactive requests: one pool for both, and pools of their own
    Pools(pools::Pools),
    /// The ext_proc server that `filter` starts
    #[command(hide = true)]
    ExtProcServer(filter::ext_proc::Serve),
}

impl Bench {
    /// Runs it.
    ///
    /// # Errors
    /// If the processes do not start or a request fails.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Admission(admission) => admission.run().await,
            Self::Push(push) => push.run().await,
            Self::Changes(changes) => changes.run().await,
            Self::Filter(filter) => filter.run().await,
            Self::Xds(xds) => xds.run().await,
            Self::Pools(pools) => pools.run().await,
            Self::ExtProcServer(serve) => serve.run().await,
        }
    }
}

/// Writes a result to `target/bench/<name>.json`, together with the machine it was measured on.
fn record(name: &str, result: &impl Serialize) -> Result<()> {
    let machine = machine::Machine::here()?;
    say(&format!("\nmachine   {machine}"));
    let command: Vec<String> = std::env::args().skip(1).collect();
    say(&format!("command   kilocard-testbed {}", command.join(" ")));
    let dir = target_dir()?.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let file = dir.join(format!("{name}.json"));
    let whole = serde_json::json!({"bench": name, "command": command, "machine": machine, "result": result});
    std::fs::write(&file, serde_json::to_vec_pretty(&whole)?)?;
    say(&format!("written   {}", file.display()));
    Ok(())
}
