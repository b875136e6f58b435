//! Waiting for something to become true, with a deadline: the only way this crate waits.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// Deadline for anything that a busy two-core machine may delay.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` until it gives a value. `what` completes "waited … for".
///
/// # Errors
/// After `deadline`: what was waited for, and the last answer of `probe`.
pub async fn until<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        let last = match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if start.elapsed() >= deadline {
            return Err(anyhow!(
                "waited {:.1} s for {what}; last seen: {last}",
                deadline.as_secs_f64()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_is_asked_until_it_gives_a_value() {
        let mut asked = 0;
        let got = until("three", DEADLINE, async || {
            asked += 1;
            if asked == 3 {
                Ok(asked)
            } else {
                Err(anyhow!("only {asked}"))
            }
        })
        .await;
        assert_eq!(got.unwrap(), 3);
    }

    #[tokio::test]
    async fn after_the_deadline_the_last_answer_is_told() {
        let error = until::<()>("rain", Duration::from_millis(30), async || Err(anyhow!("sun")))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("for rain; last seen: sun"), "{error}");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_does_not_outlast_the_deadline() {
        let hang = async || std::future::pending::<Result<()>>().await;
        let error = until("an echo", Duration::from_millis(30), hang).await.unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }
}
