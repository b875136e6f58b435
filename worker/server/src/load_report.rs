//! The worker's load report: made all the time, and written to etcd when it tells something new or was promised.
//!
//! What the engine says of itself is measured here. What the card says comes from NVML ([`crate::nvml`]) or, for a card that is
//! only pretended, from its file, which is read again when it changes. A fault is told at once; other changes that matter
//! within a second; and whatever happens a report comes before the promised time is over, with some jitter, so that the
//! workers of a mesh do not write at one moment.

mod window;

use crate::{
    config::Gpu, health::Health, meter::Meter, metrics::Metrics, models::Models, nvml::NvmlCard, rdma::Ports,
    registration::Records, simulated_gpu::SimulatedGpu,
};
use kilocard_registry::{
    device::DeviceRecord,
    telemetry::{EngineLoad, GpuReading},
    worker::Telemetry,
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use window::Window;

/// How often queue and requests in flight are looked at, and a simulated card's file.
const SAMPLE: Duration = Duration::from_millis(100);
/// The least time between two reports that tell of no fault.
const LEAST: Duration = Duration::from_secs(1);

/// Where the card's numbers come from.
#[derive(Debug)]
pub enum CardSource {
    /// There is no card.
    None,
    /// The card itself.
    Nvml(NvmlCard),
    /// A file, which says what the card would say.
    Simulated {
        /// Where it is.
        path: PathBuf,
        /// As last read.
        gpu: Box<SimulatedGpu>,
    },
}

impl CardSource {
    /// What tells of this card; nothing does of one for which NVML does not answer.
    pub fn open(gpu: Option<Gpu>) -> Self {
        match gpu {
            None => Self::None,
            Some(Gpu::Real(pci)) => NvmlCard::start(&pci).map_or(Self::None, Self::Nvml),
            Some(Gpu::Simulated(path, gpu)) => Self::Simulated { path, gpu },
        }
    }

    /// What the inventory shall say of it, where nobody else has written that.
    pub fn device(&self) -> Option<&DeviceRecord> {
        match self {
            Self::None => None,
            Self::Nvml(card) => card.device(),
            Self::Simulated { gpu, .. } => Some(&gpu.device),
        }
    }
}

/// What a worker's reports tell of.
#[derive(Debug)]
pub struct Sources {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is served.
    pub models: Arc<Models>,
    /// Whether it is.
    pub health: Arc<Health>,
    /// The card that computes it.
    pub card: CardSource,
    /// The machine's RDMA ports.
    pub ports: Ports,
}

/// Makes the reports of a worker.
#[derive(Debug)]
pub struct Reporter {
    sources: Sources,
    refresh: Duration,
    window: Window,
    sequence: u64,
    last_error: String,
}

impl Reporter {
    /// One that has reported nothing. `refresh` is the promise: no two reports are further apart.
    pub fn new(sources: Sources, refresh: Duration) -> Self {
        Self {
            window: Window::new(sources.metrics.meter().totals()),
            sources,
            refresh,
            sequence: unix_ms(),
            last_error: String::new(),
        }
    }

    /// The first report, before anything has been measured.
    pub fn first(&mut self) -> Telemetry {
        let report = self.report(EngineLoad::default());
        self.sequence += 1;
        report
    }

    /// Keeps the records' report up to date, for ever.
    pub async fn run(mut self, records: watch::Sender<Records>) {
        let mut sample = interval(SAMPLE);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut due) = (Instant::now(), self.next_due());
        loop {
            sample.tick().await;
            self.window.fade(SAMPLE);
            self.window.sample(self.queue(), self.meter().in_flight());
            self.reread();
            let since = written.elapsed();
            let engine = self.window.load(&self.meter().totals(), since);
            let report = self.report(engine);
            let device = self.sources.card.device().cloned();
            let wrote = records.send_if_modified(|records| {
                let last = records.worker.telemetry.as_ref();
                let differs = last.is_none_or(|last| is_fault(last, &report));
                let matters = since >= LEAST && last.is_some_and(|last| is_significant(last, &report));
                let new_device = device.is_some() && records.device.as_ref().map(|(_, old)| old) != device.as_ref();
                let writes = differs || matters || new_device || since >= due;
                if writes {
                    records.worker.telemetry = Some(report);
                    if let (Some((_, old)), Some(new)) = (&mut records.device, device) {
                        *old = new;
                    }
                }
                writes
            });
            if wrote {
                self.sequence += 1;
                self.window.reset(self.meter().totals());
                (written, due) = (Instant::now(), self.next_due());
            }
        }
    }

    fn meter(&self) -> &Meter {
        self.sources.metrics.meter()
    }

    /// Well before the promised time is over, each time at another moment.
    fn next_due(&self) -> Duration {
        self.refresh.mul_f64(0.6 + 0.3 * fastrand::f64())
    }

    fn queue(&self) -> usize {
        self.sources
            .models
            .iter()
            .map(|served| served.embedder.queue_depth())
            .sum()
    }

    /// Looks at the simulated card's file. The PCI address stays: a worker does not change cards.
    fn reread(&mut self) {
        let CardSource::Simulated { path, gpu } = &mut self.sources.card else {
            return;
        };
        match SimulatedGpu::read(path) {
            Ok(read) => {
                **gpu = read;
                self.last_error.clear();
            }
            Err(error) => {
                let error = error.to_string();
                if error != self.last_error {
                    tracing::warn!(%error, "the simulated GPU stays as it was");
                    self.last_error = error;
                }
            }
        }
    }

    fn report(&self, engine: EngineLoad) -> Telemetry {
        let report = Telemetry {
            sequence: self.sequence,
            sampled_at_ms: Some(unix_ms()),
            refresh_ms: Some(u32::try_from(self.refresh.as_millis()).unwrap_or(u32::MAX)),
            health: Some(self.sources.health.told()),
            rdma: self.sources.ports.latest(),
            engine,
            ..Telemetry::default()
        };
        match &self.sources.card {
            CardSource::None => report,
            CardSource::Nvml(card) => {
                let reading = card.latest();
                Telemetry {
                    memory_total_bytes: reading.memory_total_bytes,
                    memory_free_bytes: reading.memory_free_bytes,
                    gpu: reading.gpu,
                    ..report
                }
            }
            CardSource::Simulated { gpu, .. } => gpu.report(report),
        }
    }
}

/// What has to be known at once: what drains, or ends a drain.
fn is_fault(old: &Telemetry, new: &Telemetry) -> bool {
    let of = |telemetry: &Telemetry| {
        // The others come and go in normal operation.
        let is_normal = |reason: &&String| ["gpu_idle", "sw_power_cap"].contains(&reason.as_str());
        let reasons = telemetry.gpu.throttle_reasons.iter();
        let distress: Vec<String> = reasons.filter(|reason| !is_normal(reason)).cloned().collect();
        let ecc = telemetry.gpu.ecc.clone().unwrap_or_default();
        let links = telemetry.gpu.nvlink.as_ref().map(|links| links.active);
        let ports = telemetry.rdma.as_ref().map(|rdma| {
            let states: Vec<String> = rdma.ports.iter().map(|port| port.state.clone()).collect();
            (states, rdma.fallback)
        });
        (
            (telemetry.health, telemetry.gpu.xids.clone(), links, ports),
            (ecc.uncorrectable_volatile, ecc.remap_failed),
            distress,
        )
    };
    of(old) != of(new)
}

/// What moves a weight by something like the step in which weights are published.
fn is_significant(old: &Telemetry, new: &Telemetry) -> bool {
    let moved = |old: Option<f64>, new: Option<f64>, least: f64| match (old, new) {
        (Some(old), Some(new)) => (old - new).abs() >= least,
        (old, new) => old.is_some() != new.is_some(),
    };
    let clock = |gpu: &GpuReading| Some(f64::from(gpu.sm_clock_mhz?) / f64::from(gpu.max_sm_clock_mhz?.max(1)));
    let throttled = !new.gpu.throttle_reasons.is_empty();
    let (from, to) = (&old.engine, &new.engine);
    old.simulated != new.simulated
        || old.memory_total_bytes != new.memory_total_bytes
        || moved(old.free_memory(), new.free_memory(), 0.01)
        || moved(from.queue, to.queue, 1.0 + from.queue.unwrap_or(0.0) / 4.0)
        || moved(from.error_rate, to.error_rate, 0.02)
        || moved(old.gpu.temperature_c, new.gpu.temperature_c, 2.0)
        || (throttled && moved(clock(&old.gpu), clock(&new.gpu), 0.05))
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
