//! `kilocard status`: the mesh as the control plane sees it.

use crate::failure::Failure;
use crate::outcome::Outcome;
use kilocard_registry::report::MeshReport;
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

mod text;

/// The report is made from memory; a control plane that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No answer.
    #[error(
        "cannot reach the control plane at {url}: {cause}; is it running, and is --control-plane its admin address, \
         like http://127.0.0.1:18001?"
    )]
    Unreachable {
        /// What was tried.
        url: String,
        /// The innermost causes.
        cause: String,
    },
    /// An answer that is not 200.
    #[error("{url} answered {status}; is --control-plane the admin address of a control plane?")]
    Answer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is not the report.
    #[error("{url} did not answer with a status report ({cause}); is it a control plane of this release?")]
    NotAReport {
        /// What was asked.
        url: String,
        /// What does not fit.
        cause: String,
    },
}

impl StatusError {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "control_plane_unreachable",
            Self::Answer { .. } | Self::NotAReport { .. } => "control_plane_answer",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Status`].
pub async fn run(control_plane: &str) -> Result<Outcome, Failure> {
    let (report, data) = fetch(control_plane).await?;
    Ok(Outcome::new(text::render(&report), data))
}

/// The report, typed for showing and as it came for programs, which may know newer fields than this release.
async fn fetch(control_plane: &str) -> Result<(MeshReport, Value), StatusError> {
    let url = format!("{}/status", control_plane.trim_end_matches('/'));
    let unreachable = |error: &reqwest::Error| StatusError::Unreachable {
        url: url.clone(),
        cause: causes(error),
    };
    // No proxy of the environment: the control plane is a neighbour.
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| unreachable(&error))?;
    let answer = client.get(&url).send().await.map_err(|error| unreachable(&error))?;
    if !answer.status().is_success() {
        return Err(StatusError::Answer {
            status: answer.status().as_u16(),
            url,
        });
    }
    let body = answer.bytes().await.map_err(|error| unreachable(&error))?;
    let not_a_report = |error: serde_json::Error| StatusError::NotAReport {
        url: url.clone(),
        cause: error.to_string(),
    };
    let data: Value = serde_json::from_slice(&body).map_err(not_a_report)?;
    let report = serde_json::from_value(data.clone()).map_err(not_a_report)?;
    Ok((report, data))
}

/// The chain of causes without the outermost, which only repeats the address.
fn causes(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    if texts.is_empty() {
        error.to_string()
    } else {
        texts.join(": ")
    }
}
