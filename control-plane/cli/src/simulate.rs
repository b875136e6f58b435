//! `kilocard simulate`: what balancing does to a cluster, before a cluster has to find out. Everything it shows is simulated.

use crate::args::{ArrivalKind, SimulateArgs};
use crate::documents::{self, Loaded};
use crate::failure::Failure;
use crate::outcome::Outcome;
use kilocard_policy::config::Spec;
use kilocard_simulator::arm::Arm;
use kilocard_simulator::catalogue::{self, InvalidCards};
use kilocard_simulator::scenario::{Arrivals, Fault, FaultKind, InvalidScenario, Scenario, TelemetrySpec, Traffic};
use kilocard_simulator::summary::{Figures, Result as ArmResult};
use kilocard_weights::Params;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod chart;
mod json;
mod race;
mod text;

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// `--gpus`.
    #[error("--gpus: {0}")]
    Cards(#[from] InvalidCards),
    /// Flags that describe no scenario.
    #[error(transparent)]
    Scenario(#[from] InvalidScenario),
    /// `--svg`.
    #[error("cannot write the chart {path}: {source}")]
    Chart {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A run ended by itself.
    #[error("a simulation broke off; please report it, with the command line")]
    BrokeOff,
}

impl SimulateError {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Cards(_) | Self::Scenario(_) => "usage",
            Self::Chart { .. } => "output",
            Self::BrokeOff => "internal",
        }
    }

    /// 2 for what the caller wrote, 1 for what the world did.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cards(_) | Self::Scenario(_) => 2,
            Self::Chart { .. } | Self::BrokeOff => 1,
        }
    }
}

/// What was run and what came of it.
struct Simulated<'a> {
    args: &'a SimulateArgs,
    /// That of the first seed; the others differ in their requests and true capacities.
    scenario: &'a Scenario,
    results: &'a [ArmResult],
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Simulate`], and [`Failure::Documents`] for a policy that is not valid.
pub fn run(args: &SimulateArgs) -> Result<Outcome, Failure> {
    let params = Arc::new(params(args)?);
    let scenarios = scenarios(args, &params)?;
    let arms = match args.balancers.is_empty() {
        true => Arm::ALL.to_vec(),
        false => args.balancers.clone(),
    };
    let results = race::run(&scenarios, &arms, &params).ok_or(SimulateError::BrokeOff)?;
    let Some((_, scenario)) = scenarios.first() else {
        return Err(SimulateError::BrokeOff.into());
    };
    let simulated = Simulated {
        args,
        scenario,
        results: &results,
    };
    if let Some(path) = &args.svg {
        std::fs::write(path, chart::draw(&simulated)).map_err(|source| SimulateError::Chart {
            path: path.clone(),
            source,
        })?;
    }
    Ok(Outcome::new(text::render(&simulated), json::render(&simulated)))
}

/// The built-in constants, or those of the file's WeightPolicies: read, checked and compiled as the control plane does it.
fn params(args: &SimulateArgs) -> Result<Params, Failure> {
    let Some(path) = &args.policy else {
        return Ok(Params::default());
    };
    let loaded = documents::load(&[path.to_string_lossy().into_owned()]).map_err(Failure::Documents)?;
    let mut policies = Vec::new();
    for Loaded { document, .. } in &loaded {
        match document.spec() {
            Spec::Weights(policy) => policies.push(policy),
            _ => {
                let (kind, name) = (document.kind().as_str(), document.name());
                let message = format!("--policy takes WeightPolicies only, and {kind}/{name} is none");
                return Err(Failure::Usage(message));
            }
        }
    }
    Ok(Params::compile(policies.iter().copied()))
}

/// The scenario of every seed.
fn scenarios(args: &SimulateArgs, params: &Params) -> Result<Vec<(u64, Scenario)>, SimulateError> {
    let cards = catalogue::parse(&args.gpus, params.of(kilocard_simulator::fleet::MODEL))?;
    let scenario = Scenario {
        cards,
        gateways: args.gateways,
        threads: args.threads,
        load: args.load,
        warm_up: args.warm_up,
        measured: Duration::from_secs(args.seconds),
        traffic: Traffic {
            work: args.work,
            sigma: args.sigma,
            arrivals: match args.arrivals {
                ArrivalKind::Poisson => Arrivals::Poisson,
                ArrivalKind::Bursty => Arrivals::Bursty,
            },
        },
        faults: faults(args),
        telemetry: TelemetrySpec {
            interval: args.telemetry_interval,
            delay: args.telemetry_delay,
            noise: args.telemetry_noise,
            outage: args.telemetry_outage,
        },
        push_delay: args.push_delay,
    };
    scenario.check()?;
    let seeds = (0..args.runs).map(|run| args.seed.wrapping_add(run));
    Ok(seeds
        .map(|seed| {
            let mut scenario = scenario.clone();
            catalogue::scatter(&mut scenario.cards, args.spread, seed);
            (seed, scenario)
        })
        .collect())
}

fn faults(args: &SimulateArgs) -> Vec<Fault> {
    let of = |cards: &RangeInclusive<usize>, at: Duration, kind: FaultKind| {
        cards
            .clone()
            .map(move |card| Fault { card, at, kind })
            .collect::<Vec<_>>()
    };
    let thermal = args.thermal.iter().flatten().flat_map(|event| {
        let (factor, lasts) = (event.speed, event.lasts);
        of(&event.cards, event.at, FaultKind::Throttle { factor, lasts })
    });
    let fail = args
        .fail
        .iter()
        .flat_map(|event| of(&event.cards, event.at, FaultKind::Fail));
    let join = args
        .join
        .iter()
        .flat_map(|event| of(&event.cards, event.at, FaultKind::Join));
    thermal.chain(fail).chain(join).collect()
}

/// Figures of one arm and one seed, as the race hands them back.
type Lap = (usize, usize, Figures);
