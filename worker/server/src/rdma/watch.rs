//! The machine's ports while a worker runs, read on a thread of their own: a driver may take its time.

use super::read;
use kilocard_registry::telemetry::{RdmaPort, RdmaReading};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// How often they are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reading that is older is not told: the driver does not answer.
const DEADLINE: Duration = Duration::from_secs(5);

type Latest = Mutex<Option<(Instant, Option<RdmaReading>)>>;

/// The ports, watched until this is dropped. Nothing is told of them until one has been up: ports that nobody has plugged in
/// are no network that was lost.
#[derive(Debug, Default)]
pub struct Ports(Arc<Latest>);

impl Ports {
    /// Watches the ports of this machine, if it has some now.
    pub fn watch(root: &Path) -> Self {
        let ports = Self::default();
        match read(root) {
            Ok(None) => return ports,
            Ok(reading) => take(&mut lock(&ports.0), reading),
            Err(error) => {
                tracing::warn!(%error, root = %root.display(), "no readings of the RDMA ports");
                return ports;
            }
        }
        let (root, weak) = (root.to_owned(), Arc::downgrade(&ports.0));
        let thread = thread::Builder::new().name("kilocard-rdma".to_owned());
        if let Err(error) = thread.spawn(move || poll(&root, &weak)) {
            tracing::warn!(%error, "no thread to watch the RDMA ports");
        }
        ports
    }

    /// What they said last, if that is not too long ago.
    pub fn latest(&self) -> Option<RdmaReading> {
        let latest = lock(&self.0);
        let fresh = latest.as_ref().filter(|(at, _)| at.elapsed() <= DEADLINE);
        fresh.and_then(|(_, reading)| reading.clone())
    }
}

/// Reads them until nobody wants to know any more.
fn poll(root: &Path, latest: &Weak<Latest>) {
    loop {
        thread::sleep(INTERVAL);
        let reading = read(root);
        let Some(latest) = latest.upgrade() else {
            return;
        };
        if let Ok(reading) = reading {
            take(&mut lock(&latest), reading);
        }
    }
}

fn take(latest: &mut Option<(Instant, Option<RdmaReading>)>, reading: Option<RdmaReading>) {
    let is_up = |reading: &RdmaReading| reading.ports.iter().any(RdmaPort::is_active);
    let was_up = matches!(latest, Some((_, Some(_))));
    let told = reading.filter(|reading| was_up || is_up(reading));
    *latest = Some((Instant::now(), told));
}

fn lock(latest: &Latest) -> MutexGuard<'_, Option<(Instant, Option<RdmaReading>)>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}
