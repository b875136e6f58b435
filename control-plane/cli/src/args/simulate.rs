//! The grammar of `kilocard simulate`.

use super::values::parse_duration;
use clap::{Args, ValueEnum};
use kilocard_simulator::arm::Arm;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// `kilocard simulate`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    kilocard simulate\n  \
    kilocard simulate --gpus 4xH100,8xL40S,4xA100/3g.40gb --load 0.7 --thermal 0-1@30s+30s:0.5\n  \
    kilocard simulate --policy weights.yaml --balancers kilocard,static-weights\n  \
    kilocard simulate --gpus 200xH100,500xA100,300xV100 --thermal 0-19@40s+40s --runs 1 --svg weights.svg\n\n\
    Cards in --thermal, --fail and --join are counted from 0, in the order of --gpus. Everything is simulated; the weights \
    are computed by the control plane's own code.")]
pub struct SimulateArgs {
    /// The cards: COUNTxCARD or COUNTxCARD/SLICE, separated by commas
    #[arg(long, default_value = "4xH100,4xA100,4xV100", value_name = "CARDS")]
    pub gpus: String,
    /// How far a card's true capacity may be from its model's, as a fraction
    #[arg(long, default_value_t = 0.15, value_parser = parse_fraction, value_name = "FRACTION")]
    pub spread: f64,
    /// Offered work over the capacity of all cards, above 0 and below 1
    #[arg(long, default_value_t = 0.8, value_name = "LOAD")]
    pub load: f64,
    /// Gateways, each with in-flight counts of its own
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub gateways: usize,
    /// Worker threads of a gateway, each with a schedule of its own
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub threads: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "N")]
    pub seconds: u64,
    /// Time before measuring begins; capacities are learnt within a minute or so
    #[arg(long, default_value = "90s", value_parser = parse_duration, value_name = "TIME")]
    pub warm_up: Duration,
    /// Mean work of a request: its time alone on an A100
    #[arg(long, default_value = "5ms", value_parser = parse_duration, value_name = "TIME")]
    pub work: Duration,
    /// Spread of the work: standard deviation of its logarithm
    #[arg(long, default_value_t = 0.8, value_name = "SIGMA")]
    pub sigma: f64,
    /// How requests arrive
    #[arg(long, value_enum, default_value_t = ArrivalKind::Poisson)]
    pub arrivals: ArrivalKind,
    /// Cards that slow down against heat: CARDS@START+DURATION[:SPEED], repeatable; `none` for no fault at all
    #[arg(long, default_value = "0@40s+40s:0.35", value_parser = parse_thermal, value_name = "EVENT")]
    pub thermal: Vec<Option<Thermal>>,
    /// Cards that fail with a fatal XID: CARDS@START, repeatable
    #[arg(long, value_parser = parse_moment, value_name = "EVENT")]
    pub fail: Vec<Momentary>,
    /// Cards that are there only from then on: CARDS@START, repeatable
    #[arg(long, value_parser = parse_moment, value_name = "EVENT")]
    pub join: Vec<Momentary>,
    /// How often cards report
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub telemetry_interval: Duration,
    /// From a card's reading to the control plane
    #[arg(long, default_value = "200ms", value_parser = parse_duration, value_name = "TIME")]
    pub telemetry_delay: Duration,
    /// Relative error of readings
    #[arg(long, default_value_t = 0.1, value_parser = parse_fraction, value_name = "FRACTION")]
    pub telemetry_noise: f64,
    /// When no report arrives: START+DURATION
    #[arg(long, value_parser = parse_outage, value_name = "EVENT")]
    pub telemetry_outage: Option<(Duration, Duration)>,
    /// From the control plane's decision to the gateways
    #[arg(long, default_value = "50ms", value_parser = parse_duration, value_name = "TIME")]
    pub push_delay: Duration,
    /// A file with a WeightPolicy to try instead of the built-in constants
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// What to compare; all of them unless given
    #[arg(long, value_delimiter = ',', value_parser = parse_arm, value_name = "NAMES")]
    pub balancers: Vec<Arm>,
    /// Seed of the first run
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Runs, each with other requests and other true capacities
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100), value_name = "N")]
    pub runs: u64,
    /// Where to draw the p99 over time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// How requests arrive.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalKind {
    /// Independently of each other
    Poisson,
    /// In lively and quiet spells of a second or so
    Bursty,
}

/// A thermal event.
#[derive(Clone, Debug, PartialEq)]
pub struct Thermal {
    /// Which cards.
    pub cards: RangeInclusive<usize>,
    /// When, after measuring began.
    pub at: Duration,
    /// How long.
    pub lasts: Duration,
    /// At what part of their speed they run then.
    pub speed: f64,
}

/// An event without an end.
#[derive(Clone, Debug, PartialEq)]
pub struct Momentary {
    /// Which cards.
    pub cards: RangeInclusive<usize>,
    /// When, after measuring began.
    pub at: Duration,
}

/// What a card loses to heat unless the event says.
const THROTTLED: f64 = 0.35;

fn parse_arm(text: &str) -> Result<Arm, String> {
    let names = || Arm::ALL.map(Arm::name).join(", ");
    let found = Arm::ALL.into_iter().find(|arm| arm.name() == text);
    found.ok_or_else(|| format!("there is no balancer {text:?}; there are {}", names()))
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..1.0).contains(value));
    value.ok_or_else(|| format!("{text:?} is not a fraction; write a number from 0 to below 1, such as 0.1"))
}

fn parse_cards(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!(
            "{text:?} names no cards; write 3 for one or 0-4 for five, counted from 0"
        )),
    }
}

fn parse_moment(text: &str) -> Result<Momentary, String> {
    let (cards, at) = text
        .split_once('@')
        .ok_or_else(|| format!("{text:?} is not CARDS@START, as in 3@40s"))?;
    Ok(Momentary {
        cards: parse_cards(cards)?,
        at: parse_duration(at)?,
    })
}

fn parse_outage(text: &str) -> Result<(Duration, Duration), String> {
    let (at, lasts) = text
        .split_once('+')
        .ok_or_else(|| format!("{text:?} is not START+DURATION, as in 40s+30s"))?;
    Ok((parse_duration(at)?, parse_duration(lasts)?))
}

fn parse_thermal(text: &str) -> Result<Option<Thermal>, String> {
    if text == "none" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is not CARDS@START+DURATION[:SPEED], as in 0@40s+40s:0.35");
    let (cards, rest) = text.split_once('@').ok_or_else(wrong)?;
    let (times, speed) = match rest.split_once(':') {
        Some((times, speed)) => (times, speed.parse().map_err(|_| wrong())?),
        None => (rest, THROTTLED),
    };
    let (at, lasts) = parse_outage(times).map_err(|_| wrong())?;
    Ok(Some(Thermal {
        cards: parse_cards(cards)?,
        at,
        lasts,
        speed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_cards_and_times() {
        let thermal = parse_thermal("0-4@40s+500ms:0.5").unwrap().unwrap();
        assert_eq!((thermal.cards, thermal.speed), (0..=4, 0.5));
        assert_eq!(thermal.lasts, Duration::from_millis(500));
        assert_eq!(parse_thermal("7@1s+1s").unwrap().unwrap().speed, THROTTLED);
        assert_eq!(parse_thermal("none"), Ok(None));
        assert_eq!(parse_moment("3@2m").unwrap().cards, 3..=3);
        for wrong in ["", "0", "0@40s", "0@40+40s", "x@1s+1s", "4-0@1s+1s", "0@1s+1s:hot"] {
            assert!(parse_thermal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_balancer_that_there_is_not_is_told_which_there_are() {
        assert_eq!(parse_arm("two-choices"), Ok(Arm::TwoChoices));
        assert!(parse_arm("p2c").unwrap_err().contains("kilocard, least-request-static"));
    }

    #[test]
    fn the_commands_in_the_docs_parse_and_one_of_them_draws_the_chart_there() {
        let docs = include_str!("../../../../docs/simulator.md");
        let commands: Vec<&str> = docs
            .lines()
            .filter(|line| line.starts_with("kilocard simulate"))
            .collect();
        for command in &commands {
            let parsed = crate::args::Cli::grammar().try_get_matches_from(command.split_whitespace());
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
        assert!(
            commands
                .iter()
                .any(|command| command.ends_with("--svg docs/simulator.svg")),
            "{commands:?}"
        );
        let svg = include_str!("../../../../docs/simulator.svg");
        for arm in Arm::ALL {
            assert!(
                docs.contains(&format!("| {} |", arm.name())),
                "{} has no row",
                arm.name()
            );
            assert!(svg.contains(arm.name()), "{} is not in the chart", arm.name());
        }
    }
}
