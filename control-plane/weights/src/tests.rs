//! What holds of weights over time.

mod drains;
mod laws;
mod publishing;
mod spilling;

use crate::{Card, Constants, Fleet, Locality, Params, Subject, Weighed};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::telemetry::Telemetry;
use kilocard_registry::worker::ServedModel;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Three promises are the least age of a stale report.
const REFRESH_MS: u32 = 1000;

fn served() -> ServedModel {
    ServedModel {
        model: "m".into(),
        version: "v1".into(),
    }
}

fn card(model: &str) -> DeviceRecord {
    DeviceRecord {
        model: model.into(),
        memory_gb: 80.0,
        ..DeviceRecord::default()
    }
}

/// A report of a card at rest.
fn report(change: impl FnOnce(&mut Telemetry)) -> Telemetry {
    let mut telemetry = Telemetry {
        memory_total_bytes: 1000,
        memory_free_bytes: 1000,
        refresh_ms: Some(REFRESH_MS),
        ..Telemetry::default()
    };
    change(&mut telemetry);
    telemetry
}

/// A fleet of one pool, and what its workers report every second.
struct Bench {
    fleet: Fleet,
    pools: BTreeSet<ServedModel>,
    reports: BTreeMap<String, (DeviceRecord, Option<Telemetry>)>,
    now: Duration,
    sequence: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Constants::default())
    }

    fn with(constants: Constants) -> Self {
        Self {
            fleet: Fleet::new(Arc::new(Params::new(constants, []))),
            pools: BTreeSet::from([served()]),
            reports: BTreeMap::new(),
            now: SECOND,
            sequence: 0,
        }
    }

    /// From now on a worker on such a card reports this.
    fn reports(&mut self, worker: &str, model: &str, telemetry: Option<Telemetry>) {
        self.reports.insert(worker.into(), (card(model), telemetry));
    }

    /// Reports come in, now.
    fn observe(&mut self) {
        self.sequence += 1;
        for (worker, (device, telemetry)) in &mut self.reports {
            if let Some(telemetry) = telemetry {
                telemetry.sequence = self.sequence;
            }
            let locality = Locality {
                zone: device.zone.clone().unwrap_or_default(),
                rack: device.rack.clone().unwrap_or_default(),
            };
            let subject = Subject {
                card: Card::Known { device, mig: None },
                telemetry: telemetry.as_ref(),
                locality: &locality,
                pools: &self.pools,
            };
            self.fleet.observe(worker, &subject, self.now);
        }
    }

    /// Whether proxies are told something else.
    fn tick(&mut self) -> bool {
        !self.fleet.tick(self.now).is_empty()
    }

    /// So many seconds, with a report each.
    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.observe();
            self.tick();
            self.now += SECOND;
        }
    }

    /// So many seconds without a report.
    fn wait(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.tick();
            self.now += SECOND;
        }
    }

    fn weighed(&self, worker: &str) -> Weighed {
        self.fleet.weighed(&served(), worker).unwrap()
    }

    fn weight(&self, worker: &str) -> u32 {
        self.weighed(worker).weight
    }

    fn why(&self, worker: &str) -> kilocard_registry::report::WeightFactors {
        self.fleet.explain(&served(), worker, self.now).unwrap()
    }
}
