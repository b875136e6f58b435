//! `kilocard apply`: documents from files into etcd, all or none.

use crate::args::ApplyArgs;
use crate::authorship::Authorship;
use crate::changes::{Changes, Intent};
use crate::documents::{self, Loaded};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::Store;
use kilocard_registry::connect::EtcdArgs;

/// Runs the command.
///
/// # Errors
/// [`Failure`]; a rejection by the control plane is an outcome without success.
pub async fn run(etcd: &EtcdArgs, args: &ApplyArgs) -> Result<Outcome, Failure> {
    let intent = wanted(&args.files)?;
    let mut store = Store::connect(etcd).await?;
    let changes = Changes::new(intent, store.policies().await?)?;
    if args.dry_run {
        return Ok(changes.dry_run());
    }
    let written = changes.commit(&mut store, &Authorship::of(&args.author)).await?;
    written.judged(&mut store, &args.wait).await
}

/// What applying these files means.
///
/// # Errors
/// [`Failure::Documents`].
pub fn wanted(files: &[String]) -> Result<Intent, Failure> {
    let loaded = documents::load(files).map_err(Failure::Documents)?;
    Ok(Intent {
        documents: loaded.into_iter().map(|Loaded { document, .. }| document).collect(),
        remember_cohorts: true,
        ..Intent::default()
    })
}
