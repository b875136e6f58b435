use super::*;
use crate::Standing;
use crate::fault::Code;
use kilocard_registry::telemetry::{EccReading, RdmaPort, RdmaReading, ServingHealth, XidEvent};
use proptest::prelude::*;

fn with_xid(code: u32) -> Telemetry {
    report(|t| t.gpu.xids = vec![XidEvent { code, at_ms: 1 }])
}

fn not_serving() -> Telemetry {
    report(|t| t.health = Some(ServingHealth::NotServing))
}

fn pair() -> Bench {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(report(|_| ())));
    bench.reports("b", "H100", Some(report(|_| ())));
    bench.run(20);
    bench
}

#[test]
fn a_fatal_xid_drains_at_once_and_its_end_brings_the_endpoint_back_slowly() {
    let mut bench = pair();
    bench.now += Duration::from_millis(10);
    bench.reports("a", "H100", Some(with_xid(79)));
    bench.observe();
    assert!(bench.tick(), "without waiting for the next second");
    assert_eq!(bench.weighed("a").standing, Standing::Drained(Code::XidFatal));
    let drained = bench.why("a").drained.unwrap();
    assert_eq!((drained.code.as_str(), drained.text.as_str()), ("xid_fatal", "XID 79"));
    bench.run(30);
    assert_eq!(bench.weighed("a").standing, Standing::Drained(Code::XidFatal));

    bench.reports("a", "H100", Some(report(|_| ())));
    bench.run(10);
    assert!(bench.why("a").drained.is_some(), "it has to be gone for a while");
    bench.run(2);
    assert_eq!(bench.weighed("a").standing, Standing::Serving);
    assert!(bench.weight("a") < 80, "{}", bench.weight("a"));
    bench.run(90);
    assert_eq!(bench.weight("a"), 400);
}

#[test]
fn an_xid_of_an_application_drains_nothing() {
    let mut bench = pair();
    for code in [13, 31, 43, 45, 63] {
        bench.reports("a", "H100", Some(with_xid(code)));
        bench.run(1);
        assert_eq!(bench.weighed("a").standing, Standing::Serving, "XID {code}");
    }
}

#[test]
fn memory_errors_and_a_dead_network_drain_with_codes_of_their_own() {
    let ecc = |ecc| report(|t| t.gpu.ecc = Some(ecc));
    let port = |state: &str| RdmaPort {
        name: "mlx5_0/1".into(),
        state: state.into(),
        ..RdmaPort::default()
    };
    let rdma = |states: &[&str], fallback| {
        report(|t| {
            let ports = states.iter().map(|state| port(state)).collect();
            t.rdma = Some(RdmaReading {
                ports,
                transport: "roce".into(),
                fallback,
            });
        })
    };
    let cases = [
        (
            ecc(EccReading {
                uncorrectable_volatile: 1,
                ..EccReading::default()
            }),
            Some(Code::EccUncorrectable),
        ),
        (
            ecc(EccReading {
                remap_failed: true,
                ..EccReading::default()
            }),
            Some(Code::RowRemapFailure),
        ),
        (
            ecc(EccReading {
                corrected: 9,
                remap_pending: true,
                ..EccReading::default()
            }),
            None,
        ),
        (not_serving(), Some(Code::NotServing)),
        (rdma(&["Down", "Down"], false), Some(Code::RdmaLost)),
        (rdma(&["Down", "Active"], false), None),
        (rdma(&["Down"], true), None),
    ];
    for (telemetry, code) in cases {
        let mut bench = pair();
        bench.reports("a", "H100", Some(telemetry));
        bench.run(1);
        assert_eq!(
            bench.weighed("a").standing,
            code.map_or(Standing::Serving, Standing::Drained)
        );
    }
}

#[test]
fn if_all_are_broken_all_serve_on_and_the_report_says_so() {
    let mut bench = pair();
    bench.reports("a", "H100", Some(with_xid(79)));
    bench.reports("b", "H100", Some(with_xid(48)));
    bench.run(1);
    for worker in ["a", "b"] {
        assert_eq!(bench.weighed(worker).standing, Standing::Held(Code::XidFatal));
        assert!(bench.why(worker).held.is_some() && bench.why(worker).drained.is_none());
    }
    bench.reports("b", "H100", Some(report(|_| ())));
    bench.run(12);
    assert_eq!(bench.weighed("a").standing, Standing::Drained(Code::XidFatal));
    assert_eq!(bench.weighed("b").standing, Standing::Serving);
}

#[test]
fn who_is_held_on_suspicion_keeps_a_quarter() {
    let mut bench = Bench::new();
    for worker in ["a", "b", "c"] {
        bench.reports(worker, "H100", Some(not_serving()));
    }
    bench.run(60);
    let standings = ["a", "b", "c"].map(|worker| bench.weighed(worker).standing);
    let (drained, held) = (Standing::Drained(Code::NotServing), Standing::Held(Code::NotServing));
    assert_eq!(standings, [drained, held, held]);
    assert!((95..=105).contains(&bench.weight("b")), "{}", bench.weight("b"));
    assert_eq!(bench.why("b").factor("suspect"), 0.25);
}

#[test]
fn suspicion_ends_with_the_report_it_rests_on_and_a_fact_does_not() {
    let mut bench = pair();
    bench.reports("a", "H100", Some(not_serving()));
    bench.run(5);
    bench.wait(60);
    assert_eq!(bench.weighed("a").standing, Standing::Serving);
    let mut bench = pair();
    bench.reports("a", "H100", Some(with_xid(95)));
    bench.run(5);
    bench.wait(60);
    assert_eq!(bench.weighed("a").standing, Standing::Drained(Code::XidFatal));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn never_more_than_half_of_a_pool_is_drained_by_inference_and_never_all_of_it(
        ill in prop::collection::vec((0usize..3, 0usize..3), 1..12),
    ) {
        const CARDS: [(&str, f64); 3] = [("H100", 400.0), ("A100", 200.0), ("L4", 60.0)];
        let mut bench = Bench::new();
        for (index, (card, state)) in ill.iter().enumerate() {
            let telemetry = match state {
                0 => report(|_| ()),
                1 => not_serving(),
                _ => with_xid(79),
            };
            bench.reports(&format!("w{index:02}"), CARDS[*card].0, Some(telemetry));
        }
        bench.run(2);
        let (mut whole, mut broken, mut inferred, mut serving) = (0.0, 0.0, 0.0, 0);
        for (index, (card, state)) in ill.iter().enumerate() {
            let capacity = CARDS[*card].1;
            whole += capacity;
            match bench.weighed(&format!("w{index:02}")).standing {
                Standing::Drained(Code::NotServing) => inferred += capacity,
                Standing::Drained(_) => broken += capacity,
                Standing::Serving | Standing::Held(_) => {
                    serving += 1;
                    prop_assert!(*state != 2 || ill.iter().all(|(_, state)| *state == 2), "a fact drains");
                }
            }
        }
        prop_assert!(serving > 0);
        prop_assert!(inferred <= 0.5 * whole && (inferred == 0.0 || inferred + broken <= 0.5 * whole));
    }
}
