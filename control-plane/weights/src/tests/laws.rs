use super::*;
use crate::{MAX_WEIGHT, factor};
use kilocard_registry::telemetry::{NvLinkReading, RdmaReading, XidEvent};
use proptest::prelude::*;

#[test]
fn hopper_ampere_and_volta_weigh_four_to_two_to_one() {
    let mut bench = Bench::new();
    for (worker, model) in [
        ("a", "NVIDIA H100 80GB HBM3"),
        ("b", "NVIDIA A100-SXM4-80GB"),
        ("c", "Tesla V100-SXM2-16GB"),
    ] {
        bench.reports(worker, model, None);
    }
    bench.run(1);
    assert_eq!(["a", "b", "c"].map(|worker| bench.weight(worker)), [400, 200, 100]);
}

#[test]
fn each_reading_takes_what_it_should_and_says_why() {
    let mut bench = Bench::new();
    let telemetry = report(|t| {
        t.memory_free_bytes = 150;
        t.engine.queue = Some(4.0);
        t.engine.error_rate = Some(0.2);
        t.engine.tensor_parallel = Some(2);
        t.gpu.temperature_c = Some(86.0);
        t.gpu.slowdown_temperature_c = Some(90.0);
        t.gpu.nvlink = Some(NvLinkReading {
            active: 17,
            expected: 18,
            bytes_per_s: None,
        });
        t.rdma = Some(RdmaReading {
            ports: Vec::new(),
            transport: "tcp".into(),
            fallback: true,
        });
    });
    bench.reports("a", "H100", Some(telemetry));
    bench.run(60);
    let why = bench.why("a");
    for (name, value, reason) in [
        ("memory", 0.5, "15 % of the memory free"),
        ("queue", 0.5, "4.0 waiting"),
        ("errors", 0.5, "20.0 % of the requests fail"),
        ("thermal", 0.75, "86 °C, slows down at 90 °C"),
        ("nvlink", 0.7, "17 of 18 NVLinks up, 2 cards"),
        ("rdma", 0.7, "fallback to tcp"),
    ] {
        let factor = why.factors.iter().find(|factor| factor.name == name).unwrap();
        assert!((factor.value - value).abs() < 1e-9, "{factor:?}");
        assert_eq!(factor.reason, reason);
    }
    let expected = 400.0 * 0.5 * 0.5 * 0.5 * 0.75 * 0.7 * 0.7;
    assert!((why.target - expected).abs() < 1e-9, "{why:?}");
    assert!((f64::from(bench.weight("a")) / expected - 1.0).abs() < 0.05);
}

#[test]
fn a_card_in_distress_is_taken_for_its_clock_and_one_at_its_power_cap_is_not() {
    let of = |reasons: &[&str]| {
        let telemetry = report(|t| {
            (t.gpu.sm_clock_mhz, t.gpu.max_sm_clock_mhz) = (Some(693), Some(1980));
            t.gpu.throttle_reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        });
        factor::thermal(&telemetry.gpu, &Constants::default().thermal)
    };
    assert!((of(&["sw_power_cap", "hw_thermal_slowdown"]) - 0.35).abs() < 1e-9);
    assert_eq!(of(&["sw_power_cap"]), 1.0);
}

#[test]
fn utilisation_is_no_signal_of_load() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|t| t.gpu.utilisation = Some(1.0))));
    bench.run(30);
    assert_eq!(bench.weight("a"), 400);
}

#[test]
fn a_measured_capacity_replaces_the_prior_and_a_boast_counts_half_as_much_again() {
    let mut bench = Bench::new();
    let busy = |tokens| report(|t| (t.engine.tokens_per_second, t.engine.busy_fraction) = (Some(tokens), Some(0.5)));
    for (worker, tokens) in [("a", 1000.0), ("b", 1000.0), ("c", 700.0), ("liar", 1e12)] {
        bench.reports(worker, "H100", Some(busy(tokens)));
    }
    bench.run(30);
    assert_eq!(bench.weight("c"), 400, "not before there is a minute of it");
    bench.run(120);
    assert_eq!(bench.why("a").capacity, 400.0);
    assert!((bench.why("c").capacity - 280.0).abs() < 1.0, "{:?}", bench.why("c"));
    assert_eq!(bench.why("liar").capacity, 600.0);
}

#[test]
fn a_report_that_is_overdue_takes_the_weight_to_the_prior_and_never_to_zero() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|t| t.memory_free_bytes = 80)));
    bench.reports("b", "H100", Some(report(|_| ())));
    bench.run(60);
    let before = bench.weight("a");
    assert!(before < 60, "{before}");
    bench.wait(3);
    assert_eq!(bench.weight("a"), before, "it is held as long as the promise counts");
    let mut last = before;
    for _ in 0..60 {
        bench.wait(1);
        assert!(bench.weight("a") >= last);
        last = bench.weight("a");
    }
    assert_eq!((bench.weight("a"), bench.weight("b")), (400, 400));
    assert!(bench.why("a").telemetry_stale);
    bench.run(60);
    assert_eq!(bench.weight("a"), before);
}

#[test]
fn a_record_that_is_only_written_again_does_not_make_its_report_fresh() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|_| ())));
    bench.run(5);
    for _ in 0..10 {
        bench.sequence -= 1;
        bench.run(1);
    }
    assert!(bench.why("a").telemetry_stale);
}

#[test]
fn who_was_there_at_the_start_has_its_weight_at_once_and_who_joins_takes_it_up_slowly() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|_| ())));
    bench.run(20);
    bench.reports("b", "H100", Some(report(|_| ())));
    bench.run(1);
    assert_eq!((bench.weight("a"), bench.weight("b")), (400, 40));
    let mut last = 40;
    for second in 1..=75 {
        bench.run(1);
        let weight = bench.weight("b");
        assert!(weight >= last, "{second}");
        last = weight;
        if second == 20 {
            assert!((100..300).contains(&weight), "{weight}");
            assert!(bench.why("b").slow_start.is_some());
        }
    }
    assert_eq!(last, 400);
}

/// Any readings.
fn readings() -> impl Strategy<Value = Telemetry> {
    (
        0u64..=1000,
        0.0f64..30.0,
        0.0f64..=1.0,
        60.0f64..100.0,
        0.0f64..=1.0,
        1.0f64..1e4,
        any::<bool>(),
    )
        .prop_map(|(free, queue, errors, temperature, busy, tokens, distress)| {
            report(|t| {
                t.memory_free_bytes = free;
                t.engine.queue = Some(queue);
                t.engine.error_rate = Some(errors);
                (t.engine.busy_fraction, t.engine.tokens_per_second) = (Some(busy), Some(tokens));
                (t.gpu.temperature_c, t.gpu.slowdown_temperature_c) = (Some(temperature), Some(90.0));
                if distress {
                    (t.gpu.sm_clock_mhz, t.gpu.max_sm_clock_mhz) = (Some(700), Some(2000));
                    t.gpu.throttle_reasons = vec!["hw_slowdown".into()];
                }
            })
        })
}

fn settled(telemetry: &Telemetry) -> (u32, f64) {
    let mut bench = Bench::new();
    bench.reports("a", "A100", Some(telemetry.clone()));
    bench.run(1);
    (bench.weight("a"), bench.why("a").target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_reading_that_is_worse_never_weighs_more(base in readings(), better in 0.0f64..1.0, worse in 0.0f64..1.0, which in 0usize..5) {
        let (better, worse) = (better.min(worse), better.max(worse));
        let with = |badness: f64| {
            let mut t = base.clone();
            match which {
                0 => t.memory_free_bytes = ((1.0 - badness) * 1000.0) as u64,
                1 => t.engine.queue = Some(badness * 50.0),
                2 => t.engine.error_rate = Some(badness),
                3 => t.gpu.temperature_c = Some(60.0 + 50.0 * badness),
                _ => {
                    t.gpu.throttle_reasons = vec!["hw_thermal_slowdown".into()];
                    (t.gpu.sm_clock_mhz, t.gpu.max_sm_clock_mhz) = (Some(((1.0 - badness) * 2000.0) as u32), Some(2000));
                }
            }
            settled(&t)
        };
        let ((light, low), (heavy, high)) = (with(worse), with(better));
        prop_assert!(low <= high && light <= heavy, "{low} {high} {light} {heavy}");
    }

    #[test]
    fn a_weight_is_bounded_changes_in_bounded_steps_and_is_zero_for_nothing(
        history in prop::collection::vec((readings(), 1u32..6, any::<bool>()), 1..12),
    ) {
        let mut bench = Bench::new();
        bench.reports("a", "H100", None);
        bench.run(1);
        let mut last = bench.why("a").smoothed;
        for (telemetry, seconds, silent) in history {
            bench.reports("a", "H100", Some(telemetry));
            for _ in 0..seconds {
                if silent { bench.wait(1) } else { bench.run(1) }
                let now = bench.why("a").smoothed;
                prop_assert!((1..=MAX_WEIGHT).contains(&bench.weight("a")));
                prop_assert!(now >= last * 0.5 * 0.999 && now <= last * 1.25 * 1.001 && now > 0.0, "{last} to {now}");
                prop_assert_eq!(bench.weighed("a").standing, crate::Standing::Serving);
                last = now;
            }
        }
    }

    /// Of a target that is far, what is above it is left faster than what is below is made up for.
    #[test]
    fn a_weight_falls_faster_than_it_rises(free in 60u64..200) {
        let way = |from: u64, to: u64| {
            let mut bench = Bench::new();
            bench.reports("a", "H100", Some(report(|t| t.memory_free_bytes = from)));
            bench.run(1);
            bench.reports("a", "H100", Some(report(|t| t.memory_free_bytes = to)));
            let target = settled_h100(to);
            (1..600).find(|_| { bench.run(1); (bench.why("a").smoothed - target).abs() < 1e-9 }).unwrap()
        };
        prop_assert!(way(1000, free) < way(free, 1000));
    }

    #[test]
    fn replicas_with_other_histories_agree_once_they_have_seen_the_same_for_a_while(
        first in prop::collection::vec((readings(), readings()), 0..40),
        second in prop::collection::vec((readings(), readings()), 0..40),
        last in (readings(), readings()),
        xid in any::<bool>(),
    ) {
        let replica = |history: &[(Telemetry, Telemetry)]| {
            let mut bench = Bench::new();
            for (a, b) in history {
                bench.reports("a", "H100", Some(a.clone()));
                bench.reports("b", "L4", Some(b.clone()));
                bench.run(3);
            }
            let mut b = last.1.clone();
            if xid {
                b.gpu.xids = vec![XidEvent { code: 79, at_ms: 0 }];
            }
            bench.reports("a", "H100", Some(last.0.clone()));
            bench.reports("b", "L4", Some(b));
            // Three time constants of the measured capacity, slow start, the way of the weight, and its publication.
            bench.run(2400);
            bench.reports("c", "A100", None);
            bench.run(200);
            let standing = ["a", "b", "c"].map(|worker| bench.weighed(worker).standing);
            // What is drained keeps whatever weight it had.
            (if xid { vec![bench.weight("a"), bench.weight("c")] } else { ["a", "b", "c"].map(|w| bench.weight(w)).to_vec() }, standing)
        };
        prop_assert_eq!(replica(&first), replica(&second));
    }
}

fn settled_h100(free: u64) -> f64 {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|t| t.memory_free_bytes = free)));
    bench.run(1);
    bench.why("a").smoothed
}

/// C.2's stability test: the queue that each endpoint reports follows its share of the traffic a second later, with 10 % of
/// noise. Each published weight may vary by a tenth of itself a second.
#[test]
fn weights_do_not_oscillate_when_reports_are_late_and_noisy() {
    let mut random = fastrand::Rng::with_seed(7);
    let cards = [
        ("a", "H100", 400.0),
        ("b", "A100", 200.0),
        ("c", "V100", 100.0),
        ("d", "V100", 100.0),
    ];
    let mut bench = Bench::new();
    let mut variation = [0.0; 4];
    let mut before = [400.0, 200.0, 100.0, 100.0];
    const SECONDS: u32 = 300;
    for second in 0..SECONDS + 60 {
        let sum: f64 = before.iter().sum();
        for ((worker, model, capacity), weight) in cards.iter().zip(before) {
            let pressure = (weight / sum) / (capacity / 800.0);
            let noise = 0.9 + 0.2 * random.f64();
            let queue = 2.0 * pressure.powi(4) * noise;
            bench.reports(worker, model, Some(report(|t| t.engine.queue = Some(queue))));
        }
        bench.run(1);
        for (index, (worker, ..)) in cards.iter().enumerate() {
            let weight = f64::from(bench.weight(worker));
            if second >= 60 {
                variation[index] += (weight - before[index]).abs() / weight;
            }
            before[index] = weight;
        }
    }
    for total in variation {
        let a_second = total / f64::from(SECONDS);
        assert!(a_second <= 0.1, "{variation:?} over {SECONDS} s");
    }
}

#[test]
fn a_card_that_the_inventory_comes_to_know_has_its_weight_at_once() {
    let mut bench = Bench::new();
    let nowhere = Locality::default();
    let unlisted = Subject {
        card: Card::Unlisted("n1/0"),
        telemetry: None,
        locality: &nowhere,
        pools: &bench.pools,
    };
    bench.fleet.observe("a", &unlisted, bench.now);
    bench.tick();
    let guess = bench.weight("a");
    bench.reports("a", "H100", None);
    bench.now += Duration::from_millis(1);
    bench.observe();
    assert!(bench.tick(), "without the wait of mere weights");
    assert!(guess < 100, "{guess}");
    assert_eq!(bench.weight("a"), 400);
}
