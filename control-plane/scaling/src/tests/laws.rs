use super::*;
use proptest::prelude::*;

/// Policies of every shape: few and many replicas, every target, slow and fast.
fn any_policy() -> impl Strategy<Value = ScalePolicy> {
    let bounds = (0..6_u32, 0..40_u32);
    let up = (0..30_u32, 0..200_u32, 1..6_u32, 1..60_u32);
    let down = (0..400_u32, 0..=100_u32, 1..6_u32, 1..60_u32);
    (bounds, 1..8_u32, 0..=30_u32, up, down).prop_map(|((min, more), targets, tolerance, up, down)| {
        let all = [("qps_per_replica", 50), ("memory_percent", 85), ("queue_per_replica", 4)];
        let chosen = all.iter().enumerate().filter(|(bit, _)| targets & (1 << bit) != 0);
        let pace = |(window, percent, replicas, period): (u32, u32, u32, u32)| {
            json!({"stabilization_s": window, "max_percent": percent, "max_replicas": replicas, "period_s": period})
        };
        policy(&json!({
            "min_replicas": min, "max_replicas": (min + more).max(1), "tolerance_percent": tolerance,
            "targets": chosen.map(|(_, (name, target))| ((*name).to_owned(), json!(target))).collect::<Value>(),
            "scale_up": pace(up), "scale_down": pace(down),
        }))
    })
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let may = |most: f64| prop::option::weighted(0.9, 0.0..most);
    (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        may(200.0),
        may(100.0),
        may(20.0),
    )
        .prop_map(|(is_ready, is_stale, qps, memory_percent, queue)| Sample {
            is_ready,
            is_stale,
            load: Load {
                qps,
                memory_percent,
                queue,
            },
        })
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec(any_sample(), 0..12)
}

/// A pool that has some past.
fn any_scaler(policy: &ScalePolicy, past: &[Vec<Sample>]) -> (Scaler, Duration) {
    let mut scaler = Scaler::new(u32::try_from(past.len()).unwrap(), Duration::ZERO);
    let mut now = Duration::ZERO;
    for samples in past {
        now += at(7);
        scaler.decide(policy, samples, false, now);
    }
    (scaler, now + at(7))
}

/// What each of `count` replicas reports that share a load. Memory has a part that is there without any load.
fn shared(count: u32, qps: f64, queue: f64, base: f64, share: f64) -> Vec<Sample> {
    let of_each = f64::from(count.max(1));
    let mut sample = replica(qps / of_each, (base + share / of_each).min(100.0));
    sample.load.queue = Some(queue / of_each);
    vec![sample; usize::try_from(count).unwrap()]
}

proptest! {
    #[test]
    fn the_bounds_hold_whatever_is_reported(
        policy in any_policy(),
        before in 0..100_u32,
        course in prop::collection::vec((any_samples(), any::<bool>(), 0..40_u64), 1..40),
    ) {
        let mut scaler = Scaler::new(before, Duration::ZERO);
        let mut now = Duration::ZERO;
        for (samples, waits, after) in course {
            now += at(after);
            let replicas = scaler.decide(&policy, &samples, waits, now).replicas;
            prop_assert!((policy.min_replicas..=policy.max_replicas).contains(&replicas));
        }
    }

    /// The cluster follows at once, or some seconds late; then the number settles, and stays.
    #[test]
    fn a_constant_load_settles_and_then_nothing_changes(
        policy in any_policy(),
        before in 1..40_u32,
        (qps, queue) in (0.0..2000.0, 0.0..100.0),
        (base, share) in (0.0..70.0, 0.0..300.0),
        late in 0..30_usize,
    ) {
        let mut scaler = Scaler::new(before, Duration::ZERO);
        let mut asked = vec![before; late + 1];
        // The windows, and the periods that the whole way may take one replica at a time.
        let settled = 3 * 400 + 2 * 60 * 45;
        for second in 1..settled + 1000 {
            let there = asked[asked.len() - 1 - late].max(1);
            let samples = shared(there, qps, queue, base, share);
            let replicas = scaler.decide(&policy, &samples, false, at(second)).replicas;
            if second > settled {
                prop_assert_eq!(Some(&replicas), asked.last(), "after {} s", second);
            }
            asked.push(replicas);
        }
        let there = (*asked.last().unwrap()).max(1);
        if let Some(rate) = policy.targets.qps_per_replica {
            let tolerance = 1.0 + f64::from(policy.tolerance_percent) / 100.0;
            let borne = qps / f64::from(there) <= rate.per_second() * tolerance * (1.0 + 1e-9);
            prop_assert!(borne || there == policy.max_replicas, "{} replicas bear {}", there, qps);
        }
    }

    #[test]
    fn what_is_within_the_tolerance_changes_nothing(
        count in 1..30_u32,
        noise in prop::collection::vec((0.901..1.099_f64, 0.901..1.099_f64), 1..100),
    ) {
        let policy = policy(&json!({"scale_down": {"stabilization_s": 0}}));
        let mut scaler = Scaler::new(count, Duration::ZERO);
        for (second, (qps, memory)) in (1..).zip(noise) {
            let samples = vec![replica(50.0 * qps, (85.0 * memory).min(100.0)); usize::try_from(count).unwrap()];
            let decision = scaler.decide(&policy, &samples, false, at(second));
            prop_assert_eq!(brief(&decision), (count, Reason::Steady));
        }
    }

    #[test]
    fn more_load_never_asks_for_fewer(
        policy in any_policy(),
        past in prop::collection::vec(any_samples(), 0..12),
        samples in any_samples(),
        more in prop::collection::vec(0.0..3.0_f64, 12),
    ) {
        let (scaler, now) = any_scaler(&policy, &past);
        let heavier: Vec<Sample> = samples.iter().zip(more).map(|(sample, more)| {
            let grown = |value: Option<f64>| value.map(|value| value * (1.0 + more));
            let load = Load {
                qps: grown(sample.load.qps),
                memory_percent: grown(sample.load.memory_percent),
                queue: grown(sample.load.queue),
            };
            Sample { load, ..*sample }
        }).collect();
        let light = scaler.clone().decide(&policy, &samples, false, now).replicas;
        let heavy = scaler.clone().decide(&policy, &heavier, false, now).replicas;
        prop_assert!(light <= heavy, "{} replicas, but {} for more load", light, heavy);
    }

    /// An old report is no reason for fewer replicas than there are or than a fresh one would ask for.
    #[test]
    fn what_grows_old_takes_nothing_away(
        policy in any_policy(),
        past in prop::collection::vec(any_samples(), 0..12),
        samples in any_samples(),
        olden in prop::collection::vec(any::<bool>(), 12),
    ) {
        let (scaler, now) = any_scaler(&policy, &past);
        let current = scaler.clone().decide(&policy, &[], false, now).replicas;
        let fresh = scaler.clone().decide(&policy, &samples, false, now).replicas;
        let older: Vec<Sample> = samples
            .iter()
            .zip(olden)
            .map(|(sample, old)| Sample { is_stale: sample.is_stale || old, ..*sample })
            .collect();
        let old = scaler.clone().decide(&policy, &older, false, now).replicas;
        prop_assert!(old >= fresh.min(current), "{} for old reports, {} for fresh, {} now", old, fresh, current);
    }
}
