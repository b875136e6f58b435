//! From each new mesh to a new snapshot.

use crate::metrics::Metrics;
use crate::model::Mesh;
use crate::secrets::Secrets;
use crate::snapshot::editions::Editions;
use crate::snapshot::{BuildOptions, Builder};
use crate::weights::SharedWeights;
use kilocard_policy::config::MeshState;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// After a build the next one waits at least so long, whether anything came of it or not: the first change goes out at
/// once, a burst becomes a few builds and pushes. Each push makes Envoy rebuild its schedules, which skews splits when they
/// follow one another faster than requests.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Before a build, what else changes is awaited for as long as the last one took, and at most so long: in a small mesh nobody
/// waits, and in a large one what is written in several parts becomes one build and one push.
const LONGEST_GATHERING: Duration = Duration::from_millis(20);

/// Where snapshots go; `None` until the first mesh.
pub type Snapshots = watch::Sender<Option<Arc<Editions>>>;

/// What to build from.
#[derive(Clone, Debug)]
pub struct Inlets {
    /// The mesh; `None` until the first listing.
    pub mesh: watch::Receiver<Option<Arc<Mesh>>>,
    /// The secrets.
    pub secrets: watch::Receiver<Arc<Secrets>>,
}

/// Where to publish.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// For proxies.
    pub snapshots: Snapshots,
    /// What they tell the filters of the versions, for the report.
    pub state: watch::Sender<Arc<MeshState>>,
    /// What endpoints weigh and why, for the report.
    pub weights: SharedWeights,
}

/// Builds and publishes until cancelled, or until the source is gone.
pub async fn run(inlets: Inlets, options: BuildOptions, outlets: Outlets, metrics: Metrics, cancel: CancellationToken) {
    let publishing = async {
        let (mut noticed, mut gathering) = (Instant::now(), Duration::ZERO);
        let Inlets { mut mesh, mut secrets } = inlets;
        let (mut builder, mut watching) = (Builder::new(options, outlets.weights.clone()), true);
        loop {
            let newest = mesh.borrow_and_update().clone();
            builder.set_secrets(secrets.borrow_and_update().set.clone());
            if let Some(newest) = newest {
                let begun = Instant::now();
                publish((&newest, noticed), &mut builder, &outlets, &metrics);
                gathering = begun.elapsed().min(LONGEST_GATHERING);
                tokio::time::sleep(MIN_INTERVAL).await;
            }
            let due = async {
                match builder.due() {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = mesh.changed() => {
                    if changed.is_err() { return }
                    noticed = Instant::now();
                    tokio::time::sleep(gathering).await;
                }
                () = due => noticed = Instant::now(),
                // Without a folder nobody sends, and nothing changes.
                changed = secrets.changed(), if watching => {
                    watching = changed.is_ok();
                    noticed = Instant::now();
                }
            }
        }
    };
    let _ = cancel.run_until_cancelled(publishing).await;
}

/// False when the mesh makes no difference to proxies.
fn publish((mesh, noticed): (&Mesh, Instant), builder: &mut Builder, outlets: &Outlets, metrics: &Metrics) -> bool {
    let begun = Instant::now();
    let snapshot = builder.build(mesh, begun).noticed(noticed);
    metrics.rebuild_seconds.observe(begun.elapsed().as_secs_f64());
    metrics.describe(mesh);
    metrics.judge(outlets.weights.lock().standings());
    let version = snapshot.version();
    let state = builder.state();
    outlets.state.send_if_modified(|current| {
        let changed = !Arc::ptr_eq(current, state);
        if changed {
            *current = Arc::clone(state);
        }
        changed
    });
    let pushed = outlets.snapshots.send_if_modified(|current| {
        let new = builder.editions(snapshot, mesh);
        metrics.spill(new.away());
        let changed = current.as_deref().is_none_or(|current| !current.is(&new));
        if changed {
            *current = Some(Arc::new(new));
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
    use crate::ads::Nodes;
    use crate::scaling::Pools;
    use crate::snapshot::tests::{mesh, options};
    use crate::source::Health;

    type Published = watch::Receiver<Option<Arc<Editions>>>;

    fn outlets() -> (Outlets, Published, watch::Receiver<Arc<MeshState>>) {
        let (snapshots, published) = watch::channel(None);
        let (state, told) = watch::channel(Arc::default());
        let weights = SharedWeights::default();
        let outlets = Outlets {
            snapshots,
            state,
            weights,
        };
        (outlets, published, told)
    }

    fn inlets(mesh: watch::Receiver<Option<Arc<Mesh>>>) -> Inlets {
        Inlets {
            mesh,
            secrets: watch::channel(Arc::default()).1,
        }
    }

    #[tokio::test]
    async fn a_mesh_is_published_once_and_again_only_when_proxies_would_notice() {
        let (outlets, mut published, told) = outlets();
        let metrics = Metrics::default();
        let (mut builder, first) = (Builder::new(options(), SharedWeights::default()), mesh());
        assert!(publish((&first, Instant::now()), &mut builder, &outlets, &metrics));
        assert!(published.borrow_and_update().is_some());
        assert_eq!(told.borrow().unready, ["minilm/v2"]);

        let mut same = first.clone();
        same.rejected = Arc::new([("/kilocard/v1/workers/x".into(), "no reason".into())].into());
        assert!(!publish((&same, Instant::now()), &mut builder, &outlets, &metrics));
        assert!(!published.has_changed().unwrap());

        let mut less = first;
        less.workers = Arc::default();
        assert!(publish((&less, Instant::now()), &mut builder, &outlets, &metrics));
        assert_eq!(metrics.pushes.get(), 2);
    }

    #[tokio::test]
    async fn builds_that_change_nothing_do_not_follow_one_another_without_a_pause() {
        let (meshes, receiver) = watch::channel(Some(Arc::new(mesh())));
        let (outlets, _published, _told) = outlets();
        let (metrics, cancel, begun) = (Metrics::default(), CancellationToken::new(), Instant::now());
        let task = tokio::spawn(run(
            inlets(receiver),
            options(),
            outlets,
            metrics.clone(),
            cancel.clone(),
        ));
        for _ in 0..200 {
            meshes.send_replace(Some(Arc::new(mesh())));
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        cancel.cancel();
        task.await.unwrap();
        let most = begun.elapsed().as_millis() / MIN_INTERVAL.as_millis() + 1;
        let text = metrics
            .render(&Health::default(), &Nodes::default(), &Pools::default())
            .unwrap();
        let builds = text
            .lines()
            .find_map(|line| line.strip_prefix("kilocard_control_plane_rebuild_seconds_count "));
        let builds: u128 = builds.unwrap().parse().unwrap();
        assert!(builds <= most, "{builds} builds, at most {most} in that time");
    }

    #[tokio::test]
    async fn nothing_is_published_before_the_first_mesh() {
        let (sender, receiver) = watch::channel(None);
        let (outlets, published, _told) = outlets();
        drop(sender);
        run(
            inlets(receiver),
            options(),
            outlets,
            Metrics::default(),
            CancellationToken::new(),
        )
        .await;
        assert!(published.borrow().is_none());
    }
}
