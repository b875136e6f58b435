//! The `kilocard` command: parses its arguments, runs one command, prints what came of it.

use kilocard_cli::{args::Cli, run};
use std::io::{self, Write};
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
            let _ = writeln!(io::stderr(), "error: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let printed = runtime.block_on(run(cli)).print(output);
    let written = write_out(printed.stdout.as_bytes());
    let _ = io::stderr().write_all(printed.stderr.as_bytes());
    if let Err(error) = written {
        let _ = writeln!(io::stderr(), "error: cannot write the result: {error}");
        return ExitCode::from(1);
    }
    ExitCode::from(printed.exit_code)
}

/// A reader that went away (`kilocard status | head -1`) is no failure of ours; a full disk is.
fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
