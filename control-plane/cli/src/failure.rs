//! Why a command could not do its work, as one value: its message, its exit code, its JSON.

use crate::args::Output;
use crate::control_plane::ControlPlaneError;
use crate::documents::Problem;
use crate::outcome::{Printed, json_text};
use crate::simulate::SimulateError;
use crate::store::StoreError;
use kilocard_policy::config::Violation;
use kilocard_registry::connect::ConnectError;
use serde_json::{Value, json};
use std::fmt::Write;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Documents that cannot be read or are not valid: every error of every document.
    #[error("{}", list_problems(.0))]
    Documents(Vec<Problem>),
    /// Documents that are valid alone, but not together with those in etcd.
    #[error("{}", list_violations("the documents are not valid together with the policies in etcd", .0))]
    Together(Vec<Violation>),
    /// Policies that stay are not valid without one that was to be deleted.
    #[error("{}", list_violations("nothing was deleted, because the policies that are left would not be valid", .0))]
    Without(Vec<Violation>),
    /// Documents that are valid alone, but not with each other.
    #[error("{}", list_violations("the documents are not valid together", .0))]
    Among(Vec<Violation>),
    /// What is in etcd cannot be asked: policies there contradict each other.
    #[error("{}", list_violations("the policies in etcd are not valid together", .0))]
    InEtcd(Vec<Violation>),
    /// Somebody else changed a policy between our reading and our writing.
    #[error("{}", list_conflicts(.0))]
    Conflict(Vec<Conflict>),
    /// An earlier state that neither etcd nor the history knows any more.
    #[error("{}", list_unknown(*.revision, .unknown))]
    Forgotten {
        /// Which state.
        revision: i64,
        /// What of it, a line each.
        unknown: Vec<String>,
    },
    /// A policy of an earlier revision that this release does not take any more.
    #[error("{}", list_violations(&format!("{policy} as it was at revision {revision} is not valid for this release"), .violations))]
    Outdated {
        /// Which.
        policy: String,
        /// Of when.
        revision: i64,
        /// What is wrong with it.
        violations: Vec<Violation>,
    },
    /// Any failure of a command whose exit code 1 is an answer.
    #[error(transparent)]
    Trouble(Box<Failure>),
    /// Flags that do not go together, or input that cannot be read.
    #[error("{0}")]
    Usage(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was asked has no answer, because the policy refuses it.
    #[error("{0}")]
    Refused(String),
    /// etcd.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control plane.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The simulator.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
}

/// A policy that changed under our hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `Kind/name`.
    pub policy: String,
    /// The revision that we read; `None` if there was none.
    pub read: Option<i64>,
    /// The revision there is now; `None` if it is gone.
    pub now: Option<i64>,
}

impl Failure {
    /// The failure as one of a command whose exit code 1 is an answer.
    pub fn in_a_question(self) -> Self {
        Self::Trouble(Box::new(self))
    }

    /// 2 for what the caller wrote, 1 for what the world did.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Documents(_) | Self::Together(_) | Self::Among(_) | Self::Usage(_) => 2,
            Self::Store(
                StoreError::Connect(
                    ConnectError::Prefix(_)
                    | ConnectError::Credentials(_)
                    | ConnectError::Endpoint { .. }
                    | ConnectError::NoEndpoint,
                )
                | StoreError::TooMuch { .. },
            ) => 2,
            Self::Trouble(_) => 2,
            Self::Simulate(error) => error.exit_code(),
            Self::InEtcd(_)
            | Self::Without(_)
            | Self::Forgotten { .. }
            | Self::Outdated { .. }
            | Self::Conflict(_)
            | Self::NotFound(_)
            | Self::Refused(_)
            | Self::Store(_)
            | Self::ControlPlane(_) => 1,
        }
    }

    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Documents(_) | Self::Together(_) | Self::Among(_) => "invalid_document",
            Self::InEtcd(_) => "invalid_in_etcd",
            Self::Without(_) => "still_needed",
            Self::Forgotten { .. } => "forgotten",
            Self::Outdated { .. } => "outdated_document",
            Self::Trouble(failure) => failure.label(),
            Self::Conflict(_) => "conflict",
            Self::Usage(_) => "usage",
            Self::NotFound(_) => "not_found",
            Self::Refused(_) => "refused",
            Self::Store(error) => error.label(),
            Self::ControlPlane(error) => error.label(),
            Self::Simulate(error) => error.label(),
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Documents(problems) => problems.iter().map(Problem::to_json).collect(),
            Self::Together(violations)
            | Self::Without(violations)
            | Self::Among(violations)
            | Self::Outdated { violations, .. }
            | Self::InEtcd(violations) => violations
                .iter()
                .map(|violation| json!({"path": violation.path, "message": violation.message}))
                .collect(),
            Self::Conflict(conflicts) => conflicts
                .iter()
                .map(|conflict| {
                    json!({"policy": conflict.policy, "read_revision": conflict.read, "revision": conflict.now})
                })
                .collect(),
            Self::Forgotten { unknown, .. } => json!(unknown),
            Self::Trouble(failure) => failure.details(),
            Self::Usage(_) | Self::NotFound(_) | Self::Refused(_) | Self::Store(_) | Self::ControlPlane(_) | Self::Simulate(_) => Value::Array(Vec::new()),
        }
    }

    /// The failure in a format, all of it on stderr.
    pub fn print(&self, format: Output) -> Printed {
        let stderr = match format {
            Output::Text | Output::Yaml => format!("error: {}\n", self.to_string().trim_end()),
            Output::Json => json_text(&json!({
                "error": {"reason": self.label(), "message": self.to_string().trim_end(), "details": self.details()}
            })),
        };
        Printed {
            stdout: String::new(),
            stderr,
            exit_code: self.exit_code(),
        }
    }
}

fn list_problems(problems: &[Problem]) -> String {
    let mut text = match problems.len() {
        1 => "invalid documents, nothing done; 1 thing is wrong:\n".to_owned(),
        n => format!("invalid documents, nothing done; {n} things are wrong:\n"),
    };
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

fn list_violations(title: &str, violations: &[Violation]) -> String {
    let mut text = format!("{title}:\n");
    for violation in violations {
        let _ = writeln!(text, "  {violation}");
    }
    text
}

fn list_unknown(revision: i64, unknown: &[String]) -> String {
    let mut text = format!(
        "the policies as they were at revision {revision} are not known any more: etcd has compacted that revision, and from \
         the history it cannot be had:\n"
    );
    for line in unknown {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("`kilocard history` shows what there is");
    text
}

fn list_conflicts(conflicts: &[Conflict]) -> String {
    let revision = |revision: Option<i64>| revision.map_or("not there".to_owned(), |r| format!("revision {r}"));
    if conflicts.is_empty() {
        return "nothing was written, because policies kept changing; run the command again".to_owned();
    }
    let mut text = "nothing was written, because somebody else changed a policy at the same time:\n".to_owned();
    for Conflict { policy, read, now } in conflicts {
        let _ = writeln!(
            text,
            "  {policy} was {} when read, and now is {}",
            revision(*read),
            revision(*now)
        );
    }
    text.push_str("look at it with `kilocard get`, and run the command again");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_policy_and_revisions() {
        let failure = Failure::Conflict(vec![
            Conflict {
                policy: "RoutingPolicy/a".into(),
                read: Some(4),
                now: Some(9),
            },
            Conflict {
                policy: "RoutingPolicy/b".into(),
                read: Some(5),
                now: None,
            },
        ]);
        let printed = failure.print(Output::Text);
        assert_eq!(printed.exit_code, 1);
        assert!(
            printed
                .stderr
                .contains("RoutingPolicy/a was revision 4 when read, and now is revision 9")
        );
        assert!(
            printed
                .stderr
                .contains("RoutingPolicy/b was revision 5 when read, and now is not there")
        );
        let json: Value = serde_json::from_str(&failure.print(Output::Json).stderr).unwrap();
        assert_eq!(json["error"]["reason"], "conflict");
        assert_eq!(json["error"]["details"][0]["revision"], 9);
    }
}
