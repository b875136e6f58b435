//! `kilocard delete`: a policy out of etcd, if it still is as it was read.

use crate::args::DeleteArgs;
use crate::failure::Failure;
use crate::get::not_found;
use crate::outcome::Outcome;
use crate::store::{Commit, Store, conflicts};
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`], [`Failure::Conflict`] if somebody changed it at the same time, [`Failure::Store`].
pub async fn run(etcd: &EtcdArgs, args: &DeleteArgs) -> Result<Outcome, Failure> {
    let mut store = Store::connect(etcd).await?;
    let read = store.policies().await?;
    let id = PolicyId::new(args.kind.as_str(), &args.name);
    let Some(policy) = read.policies.get(&id) else {
        return Err(not_found(args.kind, &args.name, &read));
    };
    match store.delete(policy).await? {
        Commit::Done(revision) => Ok(Outcome::new(
            format!("{id} deleted (revision {revision})\n"),
            json!({"kind": id.kind, "name": id.name, "action": "deleted", "revision": revision}),
        )),
        Commit::Stale(now) => Err(Failure::Conflict(conflicts([&id], &read, &now))),
    }
}
