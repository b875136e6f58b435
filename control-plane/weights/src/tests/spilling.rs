use super::*;
use crate::Level;

fn placed(bench: &mut Bench, worker: &str, zone: &str, rack: &str, busy: f64) {
    let telemetry = report(|t| t.engine.busy_fraction = Some(busy));
    bench.reports(worker, "H100", Some(telemetry));
    let (device, _) = bench.reports.get_mut(worker).unwrap();
    (device.zone, device.rack) = (Some(zone.into()), Some(rack.into()));
}

fn away(bench: &Bench) -> Vec<(String, u32)> {
    let splits = bench.fleet.splits();
    splits.map(|(_, own, split)| (own.to_string(), split.away)).collect()
}

#[test]
fn an_overloaded_zone_sends_its_excess_to_one_with_room_a_step_a_second() {
    let mut bench = Bench::new();
    placed(&mut bench, "a1", "a", "1", 0.95);
    placed(&mut bench, "a2", "a", "2", 0.95);
    placed(&mut bench, "b1", "b", "1", 0.2);
    bench.run(2);
    assert_eq!(away(&bench), [("a".to_owned(), 5)]);
    bench.run(20);
    let [(zone, share)] = &away(&bench)[..] else {
        panic!("{:?}", away(&bench))
    };
    // These reports do not show any relief, so it goes on, as far as there is room: 0.65 of b's 400.
    assert_eq!(zone, "a");
    assert!((20..=90).contains(share), "{share}");
    let sites = bench.fleet.sites(&served(), bench.now);
    assert_eq!(sites.len(), 2);
    assert!(
        sites
            .iter()
            .any(|(zone, site)| zone.zone == "a" && site.capacity > 700.0)
    );
    for worker in ["a1", "a2"] {
        placed(&mut bench, worker, "a", "1", 0.3);
    }
    bench.run(60);
    assert_eq!(away(&bench), []);
}

#[test]
fn the_policy_says_what_a_locality_is() {
    for (level, expected) in [(Level::None, 1), (Level::Zone, 1), (Level::Rack, 2)] {
        let constants = Constants {
            locality: level,
            ..Constants::default()
        };
        let mut bench = Bench::with(constants);
        placed(&mut bench, "a1", "a", "1", 0.95);
        placed(&mut bench, "a2", "a", "2", 0.2);
        bench.run(3);
        assert_eq!(bench.fleet.sites(&served(), bench.now).len(), expected);
        assert_eq!(away(&bench).len(), usize::from(expected == 2), "{level:?}");
    }
}

#[test]
fn nothing_spills_on_the_word_of_an_old_report() {
    let mut bench = Bench::new();
    placed(&mut bench, "a1", "a", "1", 0.95);
    placed(&mut bench, "b1", "b", "1", 0.2);
    bench.run(4);
    assert!(!away(&bench).is_empty());
    bench.wait(60);
    assert_eq!(away(&bench), []);
}

#[test]
fn a_share_moves_at_most_once_a_second_with_the_weights() {
    let mut bench = Bench::new();
    placed(&mut bench, "a1", "a", "1", 1.0);
    placed(&mut bench, "b1", "b", "1", 0.1);
    bench.run(1);
    let mut told = Vec::new();
    for _ in 0..50 {
        bench.observe();
        if bench.tick() {
            told.push(bench.now);
        }
        bench.now += Duration::from_millis(100);
    }
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= SECOND), "{told:?}");
}

#[test]
fn reports_that_come_often_do_not_keep_a_share_from_moving() {
    let mut bench = Bench::new();
    placed(&mut bench, "a1", "a", "1", 0.3);
    placed(&mut bench, "b1", "b", "1", 0.1);
    let tenths = |bench: &mut Bench, count: u32| {
        for _ in 0..count {
            bench.observe();
            bench.tick();
            bench.now += Duration::from_millis(100);
        }
    };
    tenths(&mut bench, 50);
    assert_eq!(away(&bench), []);
    placed(&mut bench, "a1", "a", "1", 1.0);
    tenths(&mut bench, 200);
    let [(_, share)] = &away(&bench)[..] else {
        panic!("{:?}", away(&bench))
    };
    assert!(*share >= 10, "{share}");
}
