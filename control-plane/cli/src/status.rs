//! `kilocard status`: the mesh as the control plane sees it.

use crate::args::{Output, StatusArgs};
use crate::control_plane::{self, ControlPlaneError};
use crate::failure::Failure;
use crate::outcome::Outcome;
use kilocard_registry::report::MeshReport;
use serde_json::Value;
use std::time::SystemTime;

pub(crate) mod endpoints;
mod limits;
mod proxies;
mod scaling;
mod text;
mod watch;

/// A report, typed and as it came.
struct Fetched {
    report: MeshReport,
    data: Value,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::ControlPlane`].
pub async fn run(control_plane: &str, args: &StatusArgs, output: Output) -> Result<Outcome, Failure> {
    if args.watch {
        return watch::run(control_plane, args, output).await;
    }
    let Fetched { report, data } = fetch(control_plane).await?;
    Ok(Outcome::new(text::render(&report, args, SystemTime::now()), data))
}

async fn fetch(control_plane: &str) -> Result<Fetched, ControlPlaneError> {
    let (report, data) = control_plane::fetch(control_plane, "/status", "a status report").await?;
    Ok(Fetched { report, data })
}
