//! The `kilocard` command: parses its arguments, runs one command, prints what came of it.

use kilocard_cli::{args::Cli, run};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    let output = cli.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let printed = runtime.block_on(run(cli)).print(output);
    // A reader that went away (`kilocard status | head -1`) is no failure of ours, and nothing is left to tell it.
    let _ = std::io::stdout().write_all(printed.stdout.as_bytes());
    let _ = std::io::stderr().write_all(printed.stderr.as_bytes());
    ExitCode::from(printed.exit_code)
}
