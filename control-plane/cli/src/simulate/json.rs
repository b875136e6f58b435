//! The results for programs. Times in seconds.

use super::Simulated;
use kilocard_simulator::arm::Arm;
use kilocard_simulator::summary::{Figures, Result as ArmResult, Spread, aims};
use serde_json::{Value, json};

pub(super) fn render(simulated: &Simulated<'_>) -> Value {
    let (args, scenario) = (simulated.args, simulated.scenario);
    let aims = aims(simulated.results);
    json!({
        "simulated": true,
        "scenario": {
            "gpus": args.gpus, "cards": scenario.cards.len(), "spread": args.spread, "load": args.load,
            "requests_per_second": scenario.rate(), "work_s": args.work.as_secs_f64(), "sigma": args.sigma,
            "gateways": args.gateways, "threads": args.threads, "seconds": args.seconds,
            "warm_up_s": args.warm_up.as_secs_f64(), "seed": args.seed, "runs": args.runs,
            "faults": scenario.faults.len(),
        },
        "balancers": simulated.results.iter().map(|result| balancer(result, simulated.results)).collect::<Value>(),
        "aims": aims.iter().map(|aim| json!({
            "name": aim.name, "text": aim.text, "at_most": aim.bound, "found": spread(aim.found), "met": aim.is_met(),
        })).collect::<Value>(),
    })
}

fn balancer(result: &ArmResult, all: &[ArmResult]) -> Value {
    let of = |figure: fn(&Figures) -> Option<f64>| spread(result.spread(figure));
    let over = |arm: Arm| {
        let other = all.iter().find(|other| other.arm == arm);
        spread(other.and_then(|other| result.p99_over(other)))
    };
    json!({
        "name": result.arm.name(),
        "explanation": result.arm.explanation(),
        "p50_s": of(|run| Some(run.p50_s)),
        "p99_s": of(|run| Some(run.p99_s)),
        "p999_s": of(|run| Some(run.p999_s)),
        "share_error": of(|run| run.share_error),
        "worst_endpoint": of(|run| run.worst_endpoint),
        "busiest_100_ms": of(|run| run.busiest),
        "p99_over_static_weights": over(Arm::StaticWeights),
        "p99_over_round_robin": over(Arm::RoundRobin),
        "requests": result.runs.iter().map(|run| run.requests).sum::<u64>(),
        "failed": result.runs.iter().map(|run| run.failed).sum::<u64>(),
        "pushes_per_minute": of(|run| Some(run.pushes_per_minute)),
        "p99_by_second_s": result.p99_by_second(),
    })
}

fn spread(spread: Option<Spread>) -> Value {
    spread.map_or(
        Value::Null,
        |Spread { median, min, max }| json!({"median": median, "min": min, "max": max}),
    )
}
