//! From each new mesh to a new snapshot.

use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::snapshot::{BuildOptions, build};
use kilocard_xds::snapshot::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After a push the next one waits at least so long: the first change goes out at once, a burst becomes a few pushes.
/// Each push makes Envoy rebuild its schedules, which skews splits when they follow one another faster than requests.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Where snapshots go; `None` until the first mesh.
pub type Snapshots = watch::Sender<Option<Arc<Snapshot>>>;

/// Builds and publishes until cancelled, or until the source is gone.
pub async fn run(
    mut mesh: watch::Receiver<Option<Arc<Mesh>>>,
    options: BuildOptions,
    snapshots: Snapshots,
    metrics: Metrics,
    cancel: CancellationToken,
) {
    let publishing = async {
        loop {
            let newest = mesh.borrow_and_update().clone();
            if let Some(newest) = newest
                && publish(&newest, &options, &snapshots, &metrics)
            {
                tokio::time::sleep(MIN_INTERVAL).await;
            }
            if mesh.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = cancel.run_until_cancelled(publishing).await;
}

/// False when the mesh makes no difference to proxies.
fn publish(mesh: &Mesh, options: &BuildOptions, snapshots: &Snapshots, metrics: &Metrics) -> bool {
    let begun = Instant::now();
    let snapshot = build(mesh, options);
    metrics.rebuild_seconds.observe(begun.elapsed().as_secs_f64());
    metrics.describe(mesh);
    let version = snapshot.version();
    let pushed = snapshots.send_if_modified(|current| {
        let changed = current.as_deref().is_none_or(|current| current.version() != version);
        if changed {
            *current = Some(Arc::new(snapshot));
        }
        changed
    });
    if pushed {
        metrics.pushes.inc();
        tracing::info!(%version, policies = mesh.policies.len(), workers = mesh.workers.len(), "new snapshot");
    }
    pushed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{mesh, options};

    #[tokio::test]
    async fn a_mesh_is_published_once_and_again_only_when_proxies_would_notice() {
        let (snapshots, mut published) = watch::channel(None);
        let metrics = Metrics::default();
        let (options, first) = (options(), mesh());
        assert!(publish(&first, &options, &snapshots, &metrics));
        assert!(published.borrow_and_update().is_some());

        let mut same = first.clone();
        same.rejected
            .insert("/kilocard/v1/workers/x".into(), "no reason".into());
        assert!(!publish(&same, &options, &snapshots, &metrics));
        assert!(!published.has_changed().unwrap());

        let mut less = first;
        less.workers.clear();
        assert!(publish(&less, &options, &snapshots, &metrics));
        assert_eq!(metrics.pushes.get(), 2);
    }

    #[tokio::test]
    async fn nothing_is_published_before_the_first_mesh() {
        let (sender, receiver) = watch::channel(None);
        let (snapshots, published) = watch::channel(None);
        drop(sender);
        run(
            receiver,
            options(),
            snapshots,
            Metrics::default(),
            CancellationToken::new(),
        )
        .await;
        assert!(published.borrow().is_none());
    }
}
