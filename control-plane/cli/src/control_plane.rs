//! Asking the control plane's admin address.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

/// The reports are made from memory; a control plane that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
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
    #[error("{url} answered {status}; is --control-plane the admin address of a control plane of this release?")]
    Answer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is not the report.
    #[error("{url} did not answer with {what} ({cause}); is it a control plane of this release?")]
    NotAReport {
        /// What was asked.
        url: String,
        /// What it should be.
        what: &'static str,
        /// What does not fit.
        cause: String,
    },
}

impl ControlPlaneError {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "control_plane_unreachable",
            Self::Answer { .. } | Self::NotAReport { .. } => "control_plane_answer",
        }
    }
}

/// A report, typed for showing and as it came for programs, which may know newer fields than this release. `path` begins with
/// a slash; `what` names the report in errors.
///
/// # Errors
/// [`ControlPlaneError`].
pub(crate) async fn fetch<T: DeserializeOwned>(
    control_plane: &str,
    path: &str,
    what: &'static str,
) -> Result<(T, Value), ControlPlaneError> {
    let url = format!("{}{path}", control_plane.trim_end_matches('/'));
    let unreachable = |error: &reqwest::Error| ControlPlaneError::Unreachable {
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
        return Err(ControlPlaneError::Answer {
            status: answer.status().as_u16(),
            url,
        });
    }
    let body = answer.bytes().await.map_err(|error| unreachable(&error))?;
    let not_a_report = |error: serde_json::Error| ControlPlaneError::NotAReport {
        url: url.clone(),
        what,
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
