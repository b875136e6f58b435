//! Trying several endpoints so that one that does not answer holds nobody up: the next is tried as soon as one fails, and
//! otherwise after a short while, as by Happy Eyeballs (RFC 8305, section 5).

use std::time::Duration;
use tokio::task::JoinSet;

/// After this time without an answer the next endpoint is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// The first success, else the last failure; `None` if there is nothing to try. Begins anywhere in the list, so that the
/// load of many processes spreads over the members.
pub(super) async fn first<T, E, F>(mut endpoints: Vec<String>, attempt: impl Fn(String) -> F) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let count = endpoints.len();
    if count > 0 {
        endpoints.rotate_left(fastrand::usize(..count));
    }
    let mut waiting = endpoints.into_iter();
    let mut under_way = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(endpoint) = waiting.next() {
            under_way.spawn(attempt(endpoint));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            joined = under_way.join_next() => match joined {
                Some(Ok(Ok(success))) => return Some(Ok(success)),
                Some(Ok(Err(error))) => last = Some(Err(error)),
                // One that panicked counts for nothing.
                Some(Err(_)) => {}
                None if !more => return last,
                None => {}
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    async fn answer(endpoint: String) -> Result<String, String> {
        match endpoint.as_str() {
            "frozen" => std::future::pending().await,
            "refused" => Err(endpoint),
            _ => Ok(endpoint),
        }
    }

    async fn race(endpoints: &[&str]) -> Option<Result<String, String>> {
        first(endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(), answer).await
    }

    #[tokio::test]
    async fn one_that_is_frozen_or_refuses_holds_nobody_up() {
        for _ in 0..8 {
            let begun = Instant::now();
            assert_eq!(race(&["frozen", "refused", "good"]).await, Some(Ok("good".to_owned())));
            assert!(begun.elapsed() < STAGGER * 20);
        }
    }

    #[tokio::test]
    async fn when_all_fail_the_last_failure_is_told() {
        assert_eq!(race(&["refused", "refused"]).await, Some(Err("refused".to_owned())));
        assert_eq!(race(&[]).await, None);
    }
}
