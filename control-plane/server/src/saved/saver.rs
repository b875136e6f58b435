//! When the state is written: soon after each change, from time to time without one, and once more at the end.

use crate::saved::folder::{Folder, SaveError};
use crate::source::Health;
use crate::source::intake::Intake;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Changes within this time are written together.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Without a change, the file's time says that the source still confirmed it then.
const CONFIRM_EVERY: Duration = Duration::from_secs(60);
/// After a write of a large state the next one waits this many times as long as it took, so that writing never takes
/// more than a small share of a core and of the disk.
const REST: u32 = 20;
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Between two warnings of a disk that does not take the state.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Writes the state until cancelled. A disk that does not take it stops nothing: it is tried again, and told.
pub async fn run(folder: Folder, intake: Intake, health: Health, cancel: CancellationToken) {
    let mut changes = intake.changes();
    let mut warned: Option<Instant> = None;
    let mut pause = DEBOUNCE;
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => true,
            changed = tokio::time::timeout(CONFIRM_EVERY, changes.changed()) => matches!(changed, Ok(Err(_))),
        };
        if !ended {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        changes.mark_unchanged();
        let begun = Instant::now();
        let mut least = DEBOUNCE;
        match save(&folder, &intake).await {
            Ok(false) => {}
            Ok(true) => {
                if warned.take().is_some() {
                    tracing::info!(dir = %folder.path().display(), "the last good state can be written again");
                }
                health.saves.inc();
            }
            Err(error) => {
                health.save_failures.inc();
                least = RETRY;
                if warned.is_none_or(|at| at.elapsed() >= REMIND_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "the last good state cannot be written: serving goes on, a restart while the source is away would serve an older one");
                }
                changes.mark_changed();
            }
        }
        pause = least.max(begun.elapsed() * REST);
        if ended || cancel.is_cancelled() {
            return;
        }
    }
}

/// False when there is nothing to write: nothing came from the source yet, or it is away and nothing changes.
async fn save(folder: &Folder, intake: &Intake) -> Result<bool, SaveError> {
    let Some(state) = intake.save() else {
        return Ok(false);
    };
    let folder = folder.clone();
    match tokio::task::spawn_blocking(move || folder.save(&state)).await {
        Ok(saved) => saved.map(|()| true),
        Err(panicked) => {
            tracing::error!(error = %panicked, "writing the last good state");
            Ok(false)
        }
    }
}
