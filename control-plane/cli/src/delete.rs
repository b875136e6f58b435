//! `kilocard delete`: a policy out of etcd, if it still is as it was read and no other needs it.

use crate::args::DeleteArgs;
use crate::authorship::Authorship;
use crate::changes::{Changes, Intent};
use crate::failure::Failure;
use crate::get::not_found;
use crate::outcome::Outcome;
use crate::store::Store;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`], [`Failure::Without`] if another policy refers to it, [`Failure::Conflict`] if somebody changed it
/// at the same time, [`Failure::Store`].
pub async fn run(etcd: &EtcdArgs, args: &DeleteArgs) -> Result<Outcome, Failure> {
    let mut store = Store::connect(etcd).await?;
    let read = store.policies().await?;
    let id = PolicyId::new(args.kind.as_str(), &args.name);
    if !read.policies.contains_key(&id) {
        return Err(not_found(args.kind, &args.name, &read));
    }
    let intent = Intent {
        deletions: vec![id.clone()],
        ..Intent::default()
    };
    let written = Changes::new(intent, read)?
        .commit(&mut store, &Authorship::of(&args.author))
        .await?;
    let revision = written.revision.unwrap_or_default();
    Ok(Outcome::new(
        format!("{id} deleted (revision {revision})\n"),
        json!({"kind": id.kind, "name": id.name, "action": "deleted", "revision": revision}),
    ))
}
