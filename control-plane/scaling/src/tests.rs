use crate::{Decision, Load, Metric, Reason, Sample, Scaler};
use kilocard_policy::config::{ScalePolicy, Spec, parse};
use serde_json::{Value, json};
use std::time::Duration;

mod laws;

/// The policy of the documentation: 50 requests per second and 85 % of memory a replica.
fn policy(changes: &Value) -> ScalePolicy {
    let mut spec = json!({"model": "m", "max_replicas": 40, "targets": {"qps_per_replica": 50, "memory_percent": 85}});
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let document =
        json!({"api_version": "kilocard/v1", "kind": "ScalePolicy", "metadata": {"name": "p"}, "spec": spec});
    match parse(&document).unwrap().spec() {
        Spec::Scale(policy) => policy.clone(),
        other => panic!("{other:?}"),
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn replica(qps: f64, memory_percent: f64) -> Sample {
    Sample {
        is_ready: true,
        is_stale: false,
        load: Load {
            qps: Some(qps),
            memory_percent: Some(memory_percent),
            queue: Some(0.0),
        },
    }
}

fn stale(sample: Sample) -> Sample {
    Sample {
        is_stale: true,
        ..sample
    }
}

fn unready(sample: Sample) -> Sample {
    Sample {
        is_ready: false,
        ..sample
    }
}

/// What a pool is asked for that has run with as many replicas as there are samples for longer than any window.
fn decided(policy: &ScalePolicy, samples: &[Sample]) -> Decision {
    let mut scaler = Scaler::new(u32::try_from(samples.len()).unwrap(), Duration::ZERO);
    scaler.decide(policy, samples, false, at(10_000))
}

fn brief(decision: &Decision) -> (u32, Reason) {
    (decision.replicas, decision.reason)
}

#[test]
fn the_metric_that_asks_for_most_counts() {
    let policy = policy(&json!({}));
    let decision = decided(&policy, &[replica(80.0, 50.0), replica(90.0, 40.0)]);
    assert_eq!(brief(&decision), (4, Reason::Asked(Metric::Qps)));
    let asked: Vec<_> = decision
        .proposals
        .iter()
        .map(|of| (of.metric, of.value, of.replicas))
        .collect();
    assert_eq!(
        asked,
        [
            (Metric::Qps, Some(170.0), Some(4)),
            (Metric::Memory, Some(45.0), Some(2))
        ]
    );
    let decision = decided(&policy, &[replica(10.0, 100.0), replica(10.0, 98.0)]);
    assert_eq!(brief(&decision), (3, Reason::Asked(Metric::Memory)));
}

#[test]
fn memory_alone_takes_nothing_away_that_requests_hold_up() {
    let policy = policy(&json!({}));
    let busy = vec![replica(48.0, 20.0); 10];
    assert_eq!(brief(&decided(&policy, &busy)), (10, Reason::Steady));
    let idle = vec![replica(5.0, 80.0); 10];
    assert_eq!(
        brief(&decided(&policy, &idle)),
        (10, Reason::Steady),
        "nor requests what memory does"
    );
    let both = vec![replica(5.0, 20.0); 10];
    assert_eq!(brief(&decided(&policy, &both)), (3, Reason::Asked(Metric::Memory)));
}

#[test]
fn the_mean_of_the_memory_counts_and_not_the_fullest_card() {
    let policy = policy(&json!({"targets": {"memory_percent": 85}}));
    let decision = decided(&policy, &[replica(0.0, 100.0), replica(0.0, 70.0)]);
    assert_eq!(brief(&decision), (2, Reason::Steady));
}

#[test]
fn the_memory_of_those_that_are_leaving_does_not_ask_for_more() {
    let policy = policy(&json!({"scale_down": {"stabilization_s": 0}}));
    let mut scaler = Scaler::new(10, at(0));
    let samples = vec![replica(15.0, 50.0); 10];
    assert_eq!(
        brief(&scaler.decide(&policy, &samples, false, at(400))),
        (6, Reason::Asked(Metric::Memory))
    );
    let fewer = vec![replica(15.0, 30.0); 10];
    assert_eq!(
        brief(&scaler.decide(&policy, &fewer, false, at(500))),
        (4, Reason::Asked(Metric::Memory))
    );
    // Six are still leaving, and hold as much memory as five and a half that are full.
    let decision = scaler.decide(&policy, &vec![replica(15.0, 46.0); 10], false, at(501));
    assert_eq!(brief(&decision), (4, Reason::Steady));
}

#[test]
fn what_floating_point_sums_are_off_by_asks_for_nothing() {
    let policy = policy(&json!({"targets": {"qps_per_replica": 0.1}}));
    assert_eq!(decided(&policy, &[replica(0.1, 0.0), replica(0.2, 0.0)]).replicas, 3);
}

#[test]
fn a_queue_asks_too() {
    let policy = policy(&json!({"targets": {"queue_per_replica": 4}}));
    let mut samples = [replica(0.0, 0.0); 2];
    samples[0].load.queue = Some(18.0);
    assert_eq!(brief(&decided(&policy, &samples)), (5, Reason::Asked(Metric::Queue)));
}

#[test]
fn what_is_not_known_counts_as_nothing_upwards_and_as_the_target_downwards() {
    let policy = policy(&json!({"targets": {"qps_per_replica": 50}}));
    let (high, low) = (replica(120.0, 0.0), replica(10.0, 0.0));
    assert_eq!(decided(&policy, &[high, high]).replicas, 5);
    assert_eq!(
        decided(&policy, &[high, high, stale(high)]).replicas,
        5,
        "240 of 3 × 50, and no more is sure"
    );
    assert_eq!(
        brief(&decided(&policy, &[high, stale(high), stale(high)])),
        (3, Reason::Steady),
        "120 may well be all"
    );
    assert_eq!(decided(&policy, &[low; 4]).replicas, 1);
    assert_eq!(
        decided(&policy, &[low, low, low, stale(low)]).replicas,
        2,
        "30 and the 50 of the old one"
    );
    let overloaded = stale(replica(200.0, 0.0));
    assert_eq!(
        brief(&decided(&policy, &[low, low, low, overloaded])),
        (4, Reason::Steady),
        "it bore four times what it shall"
    );
}

#[test]
fn what_does_not_take_requests_bears_nothing() {
    let policy = policy(&json!({"targets": {"qps_per_replica": 50}}));
    let (high, low) = (replica(120.0, 0.0), replica(10.0, 0.0));
    assert_eq!(
        brief(&decided(&policy, &[high, unready(low), unready(low)])),
        (3, Reason::Steady),
        "two are on their way, and with them 120 is little"
    );
    assert_eq!(decided(&policy, &[low, low, unready(high)]).replicas, 1);
}

#[test]
fn nothing_changes_where_nothing_is_known() {
    let policy = policy(&json!({}));
    let old = stale(replica(0.0, 0.0));
    assert_eq!(brief(&decided(&policy, &[old; 7])), (7, Reason::Unmeasured));
    assert_eq!(brief(&decided(&policy, &[])), (1, Reason::AtMin));
    let mut no_memory = replica(1.0, 0.0);
    no_memory.load.memory_percent = None;
    assert_eq!(
        brief(&decided(&policy, &[no_memory; 7])),
        (7, Reason::Unknown(Metric::Memory)),
        "memory might be full"
    );
    no_memory.load.qps = Some(100.0);
    assert_eq!(
        brief(&decided(&policy, &[no_memory; 7])),
        (14, Reason::Asked(Metric::Qps))
    );
    let nonsense = replica(f64::NAN, -1.0);
    assert_eq!(brief(&decided(&policy, &[nonsense; 7])), (7, Reason::Unmeasured));
}

#[test]
fn a_pool_goes_down_to_nothing_and_comes_up_again_as_requests_are_routed_to_it() {
    let policy = policy(&json!({"min_replicas": 0}));
    let mut scaler = Scaler::new(0, at(0));
    assert_eq!(
        brief(&scaler.decide(&policy, &[], false, at(1))),
        (0, Reason::Unmeasured)
    );
    assert_eq!(brief(&scaler.decide(&policy, &[], true, at(2))), (1, Reason::Routed));
    assert_eq!(
        brief(&scaler.decide(&policy, &[], true, at(3))),
        (1, Reason::Unmeasured),
        "it is on its way"
    );
    let idle = [replica(0.0, 0.0)];
    assert_eq!(
        brief(&scaler.decide(&policy, &idle, true, at(400))),
        (1, Reason::Routed)
    );
    assert_eq!(
        brief(&scaler.decide(&policy, &idle, false, at(401))),
        (1, Reason::StabilizingDown)
    );
    assert_eq!(
        brief(&scaler.decide(&policy, &idle, false, at(800))),
        (0, Reason::Asked(Metric::Qps))
    );
    assert_eq!(
        brief(&scaler.decide(&policy, &[replica(1.0, 1.0)], false, at(801))),
        (1, Reason::Asked(Metric::Qps)),
        "somebody pins it"
    );
}

#[test]
fn the_bounds_of_a_policy_hold_at_once() {
    let mut scaler = Scaler::new(3, at(0));
    let steady = vec![replica(50.0, 85.0); 3];
    let more = policy(&json!({"min_replicas": 20}));
    assert_eq!(brief(&scaler.decide(&more, &steady, false, at(1))), (20, Reason::AtMin));
    let fewer = policy(&json!({"max_replicas": 2}));
    assert_eq!(brief(&scaler.decide(&fewer, &steady, false, at(2))), (2, Reason::AtMax));
}

#[test]
fn a_dip_shorter_than_the_window_takes_nothing_away() {
    let policy = policy(&json!({}));
    let (busy, idle) = (vec![replica(50.0, 50.0); 8], vec![replica(1.0, 1.0); 8]);
    let mut scaler = Scaler::new(8, at(0));
    for second in 1..=600 {
        let samples = if second % 200 < 190 { &idle } else { &busy };
        let decision = scaler.decide(&policy, samples, false, at(second));
        assert_eq!(decision.replicas, 8, "after {second} s: {}", decision.reason);
    }
    let decisions: Vec<_> = (601..=1000)
        .map(|second| brief(&scaler.decide(&policy, &idle, false, at(second))))
        .collect();
    assert_eq!(decisions[0], (8, Reason::StabilizingDown));
    let first = decisions.iter().position(|(replicas, _)| *replicas < 8).unwrap();
    assert_eq!(first, 298, "300 s after the last second that was busy, the 599th");
    assert_eq!(decisions[first], (1, Reason::Asked(Metric::Qps)));
}

#[test]
fn a_peak_shorter_than_the_window_of_scaling_up_adds_nothing() {
    let policy = policy(&json!({"scale_up": {"stabilization_s": 10}}));
    let (steady, peak) = (vec![replica(50.0, 50.0); 2], vec![replica(500.0, 50.0); 2]);
    let mut scaler = Scaler::new(2, at(0));
    scaler.decide(&policy, &steady, false, at(100));
    for second in 101..=109 {
        let decision = scaler.decide(&policy, &peak, false, at(second));
        assert_eq!(brief(&decision), (2, Reason::StabilizingUp), "after {second} s");
    }
    assert_eq!(
        scaler.decide(&policy, &peak, false, at(110)).replicas,
        6,
        "four more in a period"
    );
}

#[test]
fn a_pool_that_is_seen_for_the_first_time_may_grow_at_once() {
    let policy = policy(&json!({}));
    let mut scaler = Scaler::new(1, at(0));
    assert_eq!(
        brief(&scaler.decide(&policy, &[replica(120.0, 50.0)], false, at(0))),
        (3, Reason::Asked(Metric::Qps))
    );
}

#[test]
fn so_many_come_in_a_period_and_so_many_go() {
    let policy = policy(&json!({
        "scale_up": {"max_percent": 100, "max_replicas": 4, "period_s": 15},
        "scale_down": {"stabilization_s": 0, "max_percent": 25, "max_replicas": 2, "period_s": 60},
    }));
    let (flood, idle) = (vec![replica(1e6, 0.0); 2], vec![replica(0.0, 0.0); 2]);
    let mut scaler = Scaler::new(2, at(0));
    let mut steps = |samples: &[Sample], seconds: std::ops::Range<u64>| {
        let mut seen: Vec<(u64, u32)> = Vec::new();
        for second in seconds {
            let replicas = scaler.decide(&policy, samples, false, at(second)).replicas;
            if seen.last().is_none_or(|(_, last)| *last != replicas) {
                seen.push((second, replicas));
            }
        }
        seen
    };
    assert_eq!(steps(&flood, 100..160), [(100, 6), (115, 12), (130, 24), (145, 40)]);
    // A quarter of 40, of 30, of 22, of 16, of 12, of 9, of 6; then two at a time.
    assert_eq!(
        steps(&idle, 1000..1500),
        [
            (1000, 30),
            (1060, 22),
            (1120, 16),
            (1180, 12),
            (1240, 9),
            (1300, 6),
            (1360, 4),
            (1420, 2),
            (1480, 1)
        ]
    );
}

#[test]
fn a_reason_is_told_in_words() {
    let policy = policy(&json!({"max_replicas": 3}));
    let decision = decided(&policy, &[replica(400.0, 50.0)]);
    assert_eq!(decision.reason.to_string(), "max_replicas of the policy");
    let asked = decided(&policy, &[replica(99.0, 50.0)]);
    assert_eq!(asked.reason.to_string(), "asked for by qps");
}
