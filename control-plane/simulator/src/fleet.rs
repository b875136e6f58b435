//! The control plane's own weight code, fed with reports of simulated cards.

use crate::balancer::View;
use crate::control::{Control, Report};
use crate::moment::Moment;
use crate::scenario::{CardSpec, Scenario};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::telemetry::{EngineLoad, GpuReading, Telemetry, XidEvent};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Card, Fleet, Locality, Params, Standing, Subject};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The model that simulated workers serve, for policies that name one.
pub const MODEL: &str = "simulated";
/// Tokens in the work of one second of a card of speed 1; any number would do, since capacities are relative.
const TOKENS: f64 = 10_000.0;
/// Highest clock of the simulated cards, MHz.
const CLOCK_MHZ: f64 = 1980.0;
/// Where simulated cards slow themselves down, °C.
const SLOWDOWN_C: f64 = 89.0;
/// "GPU has fallen off the bus".
const FATAL_XID: u32 = 79;
const GIB: f64 = (1u64 << 30) as f64;

/// Weights from [`Fleet`].
#[derive(Debug)]
pub struct Weighing {
    fleet: Fleet,
    sites: Vec<Site>,
    pools: BTreeSet<ServedModel>,
    served: ServedModel,
    refresh_ms: u32,
    told: Option<View>,
}

#[derive(Debug)]
struct Site {
    worker: String,
    device: DeviceRecord,
    slice: Option<String>,
    is_member: bool,
    reports: u64,
}

impl Weighing {
    /// A fleet that knows nothing yet.
    pub fn new(scenario: &Scenario, params: Arc<Params>) -> Self {
        let served = ServedModel {
            model: MODEL.to_owned(),
            version: "v1".to_owned(),
        };
        let site = |(index, card): (usize, &CardSpec)| Site {
            worker: format!("card-{index:05}"),
            device: card.device(),
            slice: card.slice.clone(),
            is_member: false,
            reports: 0,
        };
        let interval = scenario.telemetry.interval.as_millis();
        Self {
            fleet: Fleet::new(params),
            sites: scenario.cards.iter().enumerate().map(site).collect(),
            pools: [served.clone()].into(),
            served,
            refresh_ms: u32::try_from(interval).unwrap_or(u32::MAX),
            told: None,
        }
    }

    fn observe(
        fleet: &mut Fleet,
        site: &Site,
        pools: &BTreeSet<ServedModel>,
        telemetry: Option<&Telemetry>,
        now: Moment,
    ) {
        let subject = Subject {
            card: Card::Known {
                device: &site.device,
                mig: site.slice.as_deref(),
            },
            telemetry,
            locality: &Locality::default(),
            pools,
        };
        fleet.observe(&site.worker, &subject, now.since_start());
    }

    fn view(&self) -> View {
        let weight = |site: &Site| {
            let weighed = self.fleet.weighed(&self.served, &site.worker)?;
            (!matches!(weighed.standing, Standing::Drained(_))).then_some(weighed.weight)
        };
        View {
            weights: self.sites.iter().map(weight).collect(),
            loads: Vec::new(),
        }
    }
}

impl Control for Weighing {
    fn report(&mut self, now: Moment, report: &Report) {
        let Some(site) = self.sites.get_mut(report.card).filter(|site| site.is_member) else {
            return;
        };
        site.reports += 1;
        let telemetry = telemetry(report, site, self.refresh_ms);
        Self::observe(&mut self.fleet, site, &self.pools, Some(&telemetry), now);
    }

    fn tick(&mut self, now: Moment, members: &[bool]) -> Option<View> {
        for (site, is_member) in self.sites.iter_mut().zip(members) {
            match (site.is_member, *is_member) {
                (false, true) => Self::observe(&mut self.fleet, site, &self.pools, None, now),
                (true, false) => self.fleet.forget(&site.worker),
                _ => {}
            }
            site.is_member = *is_member;
        }
        self.fleet.tick(now.since_start());
        let view = self.view();
        (self.told.as_ref() != Some(&view)).then(|| self.told.insert(view).clone())
    }
}

/// A report as a worker would write it into its record. What a simulated card cannot know is left out.
fn telemetry(report: &Report, site: &Site, refresh_ms: u32) -> Telemetry {
    let total = site.device.memory_gb * GIB;
    let reasons = if report.throttled {
        vec!["hw_thermal_slowdown".to_owned()]
    } else {
        Vec::new()
    };
    let fatal = XidEvent {
        code: FATAL_XID,
        at_ms: 0,
    };
    Telemetry {
        simulated: true,
        // Memory fits into 53 bits, and the casts saturate.
        memory_total_bytes: total as u64,
        memory_free_bytes: (total * report.memory_free.min(1.0)) as u64,
        sequence: site.reports,
        refresh_ms: Some(refresh_ms),
        engine: EngineLoad {
            queue: Some(report.waiting as f64),
            in_flight: Some((report.running + report.waiting) as f64),
            tokens_per_second: Some(report.work_rate * TOKENS),
            busy_fraction: Some(report.busy),
            ..EngineLoad::default()
        },
        gpu: GpuReading {
            sm_clock_mhz: Some((report.clock * CLOCK_MHZ) as u32),
            max_sm_clock_mhz: Some(CLOCK_MHZ as u32),
            throttle_reasons: reasons,
            temperature_c: Some(report.temperature_c),
            slowdown_temperature_c: Some(SLOWDOWN_C),
            xids: if report.failed { vec![fatal] } else { Vec::new() },
            ..GpuReading::default()
        },
        ..Telemetry::default()
    }
}
