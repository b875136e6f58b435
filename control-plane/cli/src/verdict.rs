//! The control plane's verdict on a revision: waiting for it and wording it.

use crate::store::{Store, StoreError};
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::{PolicyState, PolicyStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

/// How often etcd is asked while waiting: much less than a person notices, and nothing to etcd.
const POLL: Duration = Duration::from_millis(50);

/// What is known of one revision of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In force.
    Accepted,
    /// Not in force, for these reasons.
    Rejected(PolicyStatus),
    /// Not judged before it was replaced by a newer revision.
    Superseded(i64),
    /// Not judged so far.
    Pending,
}

impl Verdict {
    /// Reads the verdict on `revision` out of the newest status.
    pub fn on(revision: i64, status: Option<&PolicyStatus>) -> Self {
        match status {
            Some(status) if status.revision == revision => match status.state {
                PolicyState::Accepted => Self::Accepted,
                PolicyState::Rejected => Self::Rejected(status.clone()),
            },
            Some(status) if status.revision > revision => Self::Superseded(status.revision),
            _ => Self::Pending,
        }
    }

    /// In a few words, for a line or a table.
    pub fn summary(&self) -> String {
        match self {
            Self::Accepted => "accepted".to_owned(),
            Self::Rejected(PolicyStatus {
                serving_revision: Some(serving),
                ..
            }) => {
                format!("rejected, revision {serving} stays in force")
            }
            Self::Rejected(_) => "rejected, none in force".to_owned(),
            Self::Superseded(newer) => format!("replaced by revision {newer}"),
            Self::Pending => "not acknowledged yet".to_owned(),
        }
    }

    /// The reasons of a rejection, a line each, indented.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        if let Self::Rejected(status) = self {
            for error in &status.errors {
                let separator = if error.path.is_empty() { "" } else { ": " };
                let _ = writeln!(text, "    {}{separator}{}", error.path, error.message);
            }
        }
        text
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Accepted => json!({"state": "accepted"}),
            Self::Rejected(status) => json!({
                "state": "rejected", "serving_revision": status.serving_revision, "errors": status.errors,
            }),
            Self::Superseded(newer) => json!({"state": "superseded", "revision": newer}),
            Self::Pending => json!({"state": "pending"}),
        }
    }
}

/// Waits until every revision is judged, for at most `patience`; what is not judged then is [`Verdict::Pending`].
///
/// # Errors
/// [`StoreError`] if etcd cannot be read.
pub async fn wait(
    store: &mut Store,
    revisions: &BTreeMap<PolicyId, i64>,
    patience: Duration,
) -> Result<BTreeMap<PolicyId, Verdict>, StoreError> {
    let deadline = Instant::now() + patience;
    loop {
        let statuses = store.statuses().await?;
        let verdicts: BTreeMap<PolicyId, Verdict> = revisions
            .iter()
            .map(|(id, revision)| (id.clone(), Verdict::on(*revision, statuses.get(id))))
            .collect();
        if Instant::now() >= deadline || !verdicts.values().any(|verdict| *verdict == Verdict::Pending) {
            return Ok(verdicts);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_registry::policy_status::PolicyError;

    fn status(state: PolicyState, revision: i64) -> PolicyStatus {
        let errors = vec![PolicyError {
            path: "spec.model".into(),
            message: "is served twice".into(),
        }];
        PolicyStatus {
            state,
            revision,
            serving_revision: Some(3),
            errors,
        }
    }

    #[test]
    fn a_verdict_counts_only_for_the_revision_it_was_given_on() {
        assert_eq!(Verdict::on(5, None), Verdict::Pending);
        assert_eq!(
            Verdict::on(5, Some(&status(PolicyState::Accepted, 4))),
            Verdict::Pending
        );
        assert_eq!(
            Verdict::on(5, Some(&status(PolicyState::Accepted, 5))),
            Verdict::Accepted
        );
        assert_eq!(
            Verdict::on(5, Some(&status(PolicyState::Accepted, 6))),
            Verdict::Superseded(6)
        );
    }

    #[test]
    fn a_rejection_says_what_stays_in_force_and_why() {
        let verdict = Verdict::on(5, Some(&status(PolicyState::Rejected, 5)));
        assert_eq!(verdict.summary(), "rejected, revision 3 stays in force");
        assert_eq!(verdict.reasons(), "    spec.model: is served twice\n");
        assert_eq!(verdict.to_json()["errors"][0]["path"], "spec.model");
    }
}
