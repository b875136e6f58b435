//! The policies that a question is asked of: those in force in the mesh, or those in files.

use crate::documents::{self, Loaded};
use crate::failure::Failure;
use crate::store::{Store, StoredPolicy};
use crate::verdict::Verdict;
use kilocard_policy::Policy;
use kilocard_policy::config::Document;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::policy_status::PolicyStatus;

/// Policies to ask.
#[derive(Debug)]
pub struct InForce {
    /// Compiled together.
    pub policy: Policy,
    /// The documents it was compiled from.
    pub documents: Vec<Document>,
    /// Where they come from, in words.
    pub source: String,
    /// Where they are not simply the newest ones.
    pub warnings: Vec<String>,
}

/// From the files, or from etcd if there are none.
///
/// # Errors
/// [`Failure`] if they cannot be read or contradict each other.
pub async fn load(etcd: &EtcdArgs, files: &[String]) -> Result<InForce, Failure> {
    if files.is_empty() {
        from_etcd(&mut Store::connect(etcd).await?).await
    } else {
        from_files(files)
    }
}

/// From files, without etcd.
///
/// # Errors
/// [`Failure::Documents`], [`Failure::Among`].
pub fn from_files(files: &[String]) -> Result<InForce, Failure> {
    let loaded = documents::load(files).map_err(Failure::Documents)?;
    let documents: Vec<Document> = loaded.into_iter().map(|Loaded { document, .. }| document).collect();
    let policy = Policy::compile("files", &documents).map_err(Failure::Among)?;
    Ok(InForce {
        policy,
        documents,
        source: files.join(", "),
        warnings: Vec::new(),
    })
}

/// From etcd: of every policy the newest revision, or, if the control plane rejected that, the one it says is in force.
///
/// # Errors
/// [`Failure::Store`], [`Failure::InEtcd`].
pub async fn from_etcd(store: &mut Store) -> Result<InForce, Failure> {
    let set = store.policies().await?;
    let statuses = store.statuses().await?;
    let mut documents = Vec::new();
    let mut warnings = Vec::new();
    for (id, newest) in &set.policies {
        match in_force(store, newest, statuses.get(id)).await? {
            (Some(document), note) => {
                documents.push(document);
                warnings.extend(note);
            }
            (None, note) => warnings.extend(note),
        }
    }
    let policy = Policy::compile(&set.revision.to_string(), &documents).map_err(Failure::InEtcd)?;
    Ok(InForce {
        policy,
        documents,
        source: format!("etcd at revision {}", set.revision),
        warnings,
    })
}

/// The document in force, and what is to be said about it.
async fn in_force(
    store: &mut Store,
    newest: &StoredPolicy,
    status: Option<&PolicyStatus>,
) -> Result<(Option<Document>, Option<String>), Failure> {
    let StoredPolicy { id, revision, .. } = newest;
    let Verdict::Rejected(rejection) = Verdict::on(*revision, status) else {
        return Ok(match newest.document() {
            Ok(document) => {
                let pending = Verdict::on(*revision, status) == Verdict::Pending;
                let note = format!(
                    "{id}: revision {revision} is not acknowledged by a control plane yet; taken as if it were"
                );
                (Some(document), pending.then_some(note))
            }
            Err(_) => (
                None,
                Some(format!("{id}: revision {revision} is not valid and was left out")),
            ),
        });
    };
    let Some(serving) = rejection.serving_revision else {
        return Ok((
            None,
            Some(format!(
                "{id}: revision {revision} was rejected and none is in force; left out"
            )),
        ));
    };
    let earlier = store
        .policy_at(id, serving)
        .await?
        .and_then(|stored| stored.document().ok());
    let note = match earlier {
        Some(_) => format!("{id}: revision {revision} was rejected; revision {serving} is in force and was taken"),
        None => format!("{id}: revision {serving} is in force, but etcd no longer has it (compacted); left out"),
    };
    Ok((earlier, Some(note)))
}
