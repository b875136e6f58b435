//! `cargo xtask …`: the only door for people and CI.
//!
//! It owns set-up (what is fetched, from where, checked how), the order of builds and checks, and nothing else: what a
//! process does at run time belongs to the testbed, which the commands `demo`, `up`, `down` and `bench` start.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to the terminal"
)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

mod artifacts;
mod bench;
mod check;
mod fuzz;
mod program;
mod progress;
mod setup;
mod workspace;

use artifacts::Native;
use progress::Progress;
use setup::Setup;
use setup::plan::{Refusal, Want};
use workspace::Workspace;

/// Exit status when something has to be installed by the user first; nothing was done.
const REFUSED: u8 = 2;

const RUN: Want = Want {
    runtime: true,
    protoc: true,
    wasm: true,
    checks: false,
    clients: false,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Kilocard's set-up, builds, demonstration, tests and benches.", after_help = ENVIRONMENT)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

const ENVIRONMENT: &str = "Environment:
  KILOCARD_ENVOY           use this Envoy (1.33 or newer) in place of the pinned one
  KILOCARD_ETCD_BIN        use this etcd (3.4 or newer) in place of the one found or fetched
  KILOCARD_WASM_TOOLCHAIN  rust or debian: which toolchain builds the wasm modules
  CARGO_TARGET_DIR         where cargo builds, as always
Everything fetched lies under .tools in the checkout, which may be deleted at any time.";

#[derive(Subcommand)]
enum Task {
    /// Find or fetch what the other commands need: Envoy, etcd, protoc, the wasm target, the MiniLM model
    Setup {
        /// Also hash everything fetched earlier again
        #[arg(long)]
        verify: bool,
    },
    /// Build the wasm filters and print their sizes
    Wasm,
    /// From an empty folder to a demonstration of the whole mesh, each step checked
    Demo {
        /// Passed on to `kilocard-testbed demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set-up, formatting, clippy, then every test, on real Envoy and etcd: what CI runs
    Test,
    /// Start the mesh and stay until Ctrl-C; addresses are printed and written to target/testbed/endpoints.json
    Up {
        /// Passed on to `kilocard-testbed up`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End a mesh that `up` started
    Down {
        /// Passed on to `kilocard-testbed down`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, clippy with warnings denied, and licences (with cargo-deny)
    Lint,
    /// Measure, with optimised programs
    Bench {
        /// One of `--list`; all when left out
        name: Option<String>,
        /// Say which benches there are, and end
        #[arg(long, conflicts_with = "name")]
        list: bool,
        /// Passed on to `kilocard-testbed bench NAME`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run libFuzzer on the parsers and the decision, and keep the corpus small
    Fuzz(fuzz::Wanted),
}

fn main() -> ExitCode {
    let error = match run(Arguments::parse().command) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        eprintln!("{refusal}");
        return ExitCode::from(REFUSED);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup { verify } => {
            let setup = Setup::plan(&workspace, Want { clients: true, ..RUN })?;
            let mut progress = Progress::new(setup.len() + usize::from(verify));
            setup.carry_out(&workspace, &mut progress)?;
            if verify {
                setup::verify(&workspace, &mut progress)?;
            }
            println!("ready in {}", progress.elapsed());
            Ok(())
        }
        Task::Wasm => {
            let mut progress = prepare(
                &workspace,
                Want {
                    wasm: true,
                    ..Want::default()
                },
                1,
            )?;
            artifacts::modules(&workspace, &mut progress)?;
            artifacts::print_sizes(&workspace)
        }
        Task::Demo { arguments } => testbed(&workspace, "demo", &arguments),
        Task::Up { arguments } => testbed(&workspace, "up", &arguments),
        Task::Down { arguments } => down(&workspace, &arguments),
        Task::Test => {
            let lines = check::STYLE_STEPS + check::TEST_STEPS;
            let want = Want {
                checks: true,
                clients: true,
                ..RUN
            };
            let mut progress = prepare(&workspace, want, lines)?;
            check::style(&workspace, &mut progress)?;
            check::tests(&workspace, &mut progress)
        }
        Task::Lint => {
            let want = Want {
                runtime: false,
                checks: true,
                ..RUN
            };
            let mut progress = prepare(&workspace, want, check::STYLE_STEPS + check::LICENCE_STEPS)?;
            check::style(&workspace, &mut progress)?;
            check::licences(&workspace, &mut progress)
        }
        Task::Bench { list: true, .. } => {
            for bench in bench::ALL {
                println!("{:<8} {}", bench.name, bench.about);
            }
            Ok(())
        }
        Task::Bench {
            name,
            list: false,
            arguments,
        } => benches(&workspace, name.as_deref(), &arguments),
        Task::Fuzz(wanted) => fuzz::run(&workspace, &wanted),
    }
}

/// Set-up as the first steps of a command that has `more` of its own.
fn prepare(workspace: &Workspace, want: Want, more: usize) -> Result<Progress> {
    let setup = Setup::plan(workspace, want)?;
    let mut progress = Progress::new(setup.len() + more);
    setup.carry_out(workspace, &mut progress)?;
    Ok(progress)
}

/// Builds everything and becomes the testbed.
fn testbed(workspace: &Workspace, command: &str, arguments: &[String]) -> Result<()> {
    let mut progress = prepare(workspace, RUN, 2 + artifacts::PACK_STEPS)?;
    artifacts::modules(workspace, &mut progress)?;
    artifacts::native(workspace, &mut progress, Native::Programs)?;
    artifacts::packed_models(workspace, &mut progress, "debug")?;
    println!("set up and built in {}\n", progress.elapsed());
    become_testbed(workspace, "debug", command, arguments)
}

fn down(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !program::is_program(&workspace.program("debug", "kilocard-testbed")) {
        println!("nothing has been built here, so nothing of it runs");
        return Ok(());
    }
    become_testbed(workspace, "debug", "down", arguments)
}

fn benches(workspace: &Workspace, name: Option<&str>, arguments: &[String]) -> Result<()> {
    let selected = bench::select(name)?;
    let criterion = selected.iter().filter_map(|bench| bench.criterion).count();
    let mut progress = prepare(workspace, RUN, 2 + artifacts::PACK_STEPS + criterion)?;
    artifacts::modules(workspace, &mut progress)?;
    artifacts::native(workspace, &mut progress, Native::Released)?;
    artifacts::packed_models(workspace, &mut progress, "release")?;
    for package in selected.iter().filter_map(|bench| bench.criterion) {
        progress.shown_step(&format!("criterion benches of {package}"), || {
            program::shown(workspace.cargo().args(["bench", "--benches", "-p", package]))?;
            Ok("cargo bench".to_owned())
        })?;
    }
    let Some((last, before)) = selected.split_last() else {
        return Ok(());
    };
    for bench in before {
        program::shown(testbed_command(workspace, "release", "bench").arg(bench.name))?;
    }
    // Arguments come after a name, so there is only one bench then.
    let arguments = [&[last.name.to_owned()], arguments].concat();
    become_testbed(workspace, "release", "bench", &arguments)
}

/// Replaces this process: Ctrl-C, the exit status and the terminal are then the testbed's own, with nobody between.
fn become_testbed(workspace: &Workspace, profile: &str, command: &str, arguments: &[String]) -> Result<()> {
    let mut command = testbed_command(workspace, profile, command);
    command.args(arguments);
    let error = command.exec();
    bail!("cannot start {}: {error}", program::line(&command))
}

fn testbed_command(workspace: &Workspace, profile: &str, task: &str) -> Command {
    let mut command = Command::new(workspace.program(profile, "kilocard-testbed"));
    command.current_dir(&workspace.root).arg(task);
    command
}
