use super::*;
use proptest::prelude::*;

fn locality(zone: &str) -> Locality {
    Locality {
        zone: zone.to_owned(),
        rack: String::new(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Localities whose endpoints report how busy they are, smoothed as the fleet smooths it, every `report`.
struct Plant {
    names: Vec<Locality>,
    capacity: Vec<f64>,
    /// What the proxies of each would send to it.
    demand: Vec<f64>,
    busy: Vec<f64>,
    told: Vec<f64>,
    spills: Vec<Spill>,
    /// The one that is near to the first.
    neighbour: Option<usize>,
    report: u32,
    second: u32,
    rules: Spillover,
    shares: Vec<Vec<u32>>,
}

impl Plant {
    fn new(capacity: &[f64], report: u32) -> Self {
        let count = capacity.len();
        Self {
            names: (0..count).map(|index| locality(&format!("z{index}"))).collect(),
            capacity: capacity.to_vec(),
            demand: vec![0.0; count],
            busy: vec![0.0; count],
            told: vec![0.0; count],
            spills: vec![Spill::new(Duration::ZERO); count],
            neighbour: None,
            report,
            second: 0,
            rules: Spillover::default(),
            shares: vec![Vec::new(); count],
        }
    }

    /// What each has to bear now.
    fn loads(&self) -> Vec<f64> {
        let mut loads = vec![0.0; self.names.len()];
        for (from, spill) in self.spills.iter().enumerate() {
            let split = spill.split();
            loads[from] += self.demand[from] * f64::from(100 - split.away) / 100.0;
            for (to, part) in &split.to {
                let to = self.names.iter().position(|name| name == to).unwrap();
                loads[to] += self.demand[from] * f64::from(*part) / 100.0;
            }
        }
        loads
    }

    fn run(&mut self, seconds: u32, noise: impl Fn(u32) -> f64) {
        for _ in 0..seconds {
            self.second += 1;
            let loads = self.loads();
            for (index, load) in loads.iter().enumerate() {
                let busy = (load / self.capacity[index] * noise(self.second)).clamp(0.0, 1.0);
                self.busy[index] += (1.0 - (-1.0_f64 / 5.0).exp()) * (busy - self.busy[index]);
                if self.second.is_multiple_of(self.report) {
                    self.told[index] = self.busy[index];
                }
            }
            let sites: Vec<Site> = self
                .capacity
                .iter()
                .zip(&self.told)
                .map(|(capacity, told)| site(*capacity, *told))
                .collect();
            let now = SECOND * self.second;
            for own in 0..self.names.len() {
                let others = (0..self.names.len())
                    .filter(|other| *other != own)
                    .map(|other| Neighbour {
                        name: &self.names[other],
                        is_near: self
                            .neighbour
                            .is_some_and(|near| own.min(other) == 0 && own.max(other) == near),
                        site: sites[other],
                    });
                let others: Vec<Neighbour<'_>> = others.collect();
                self.spills[own].step(now, sites[own], &others, &self.rules);
                self.shares[own].push(self.spills[own].split().away);
            }
        }
    }

    fn away(&self, index: usize) -> u32 {
        self.spills[index].split().away
    }
}

fn site(capacity: f64, busy: f64) -> Site {
    Site {
        capacity,
        busy: Some(busy),
    }
}

fn far(name: &Locality, site: Site) -> Neighbour<'_> {
    Neighbour {
        name,
        is_near: false,
        site,
    }
}

fn quiet(_: u32) -> f64 {
    1.0
}

/// How often a share that had moved one way moved the other way.
fn turns(shares: &[u32]) -> usize {
    let moves: Vec<bool> = shares
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .map(|pair| pair[1] > pair[0])
        .collect();
    moves.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn the_excess_over_what_engages_moves_and_comes_back_without_flapping() {
    for report in [1, 5] {
        let mut plant = Plant::new(&[100.0, 100.0], report);
        plant.demand = vec![60.0, 30.0];
        plant.run(60, quiet);
        assert_eq!(plant.away(0), 0, "60 % is no reason");
        plant.demand[0] = 130.0;
        plant.run(120, quiet);
        let borne = plant.loads()[0] / plant.capacity[0];
        assert!((0.70..=0.88).contains(&borne), "{borne} after {:?}", plant.shares[0]);
        assert_eq!(plant.away(1), 0, "the other sends nothing back");
        assert!(
            plant.loads()[1] <= 88.0,
            "and is not overloaded by it: {:?}",
            plant.loads()
        );
        plant.demand[0] = 60.0;
        plant.run(120, quiet);
        assert_eq!(plant.away(0), 0, "all is back: {:?}", plant.shares[0]);
        assert!(turns(&plant.shares[0]) <= 3, "{report} s: {:?}", plant.shares[0]);
    }
}

#[test]
fn load_that_wavers_does_not_move_it_to_and_fro() {
    let mut plant = Plant::new(&[100.0, 200.0], 5);
    plant.demand = vec![105.0, 40.0];
    // ±8 %, with a period that smoothing does not remove.
    plant.run(600, |second| 1.0 + 0.08 * (f64::from(second) / 5.0).sin());
    let settled = &plant.shares[0][120..];
    assert!(settled.iter().all(|share| *share > 0), "{settled:?}");
    assert!(turns(settled) <= 8, "{} in 8 minutes: {settled:?}", turns(settled));
}

#[test]
fn two_that_are_both_full_keep_what_is_theirs() {
    let mut plant = Plant::new(&[100.0, 100.0], 1);
    plant.demand = vec![95.0, 95.0];
    plant.run(120, quiet);
    assert!(
        plant.spills.iter().all(|spill| spill.split().away == 0),
        "{:?}",
        plant.shares
    );
}

#[test]
fn it_goes_where_there_is_room_in_proportion_to_it() {
    let mut plant = Plant::new(&[100.0, 100.0, 100.0, 100.0], 1);
    plant.demand = vec![140.0, 10.0, 60.0, 90.0];
    plant.run(180, quiet);
    let to = &plant.spills[0].split().to;
    let part = |zone| to.get(&locality(zone)).copied().unwrap_or(0);
    assert_eq!(part("z3"), 0, "z3 is full: {to:?}");
    assert!(part("z1") > 2 * part("z2"), "{to:?}");
    assert!(
        plant.loads()[1..].iter().all(|load| *load < 92.0),
        "{:?}",
        plant.loads()
    );
}

#[test]
fn the_nearer_ones_come_first() {
    let mut plant = Plant::new(&[100.0, 50.0, 1000.0], 1);
    plant.neighbour = Some(1);
    plant.demand = vec![100.0, 20.0, 100.0];
    plant.run(180, quiet);
    let to = &plant.spills[0].split().to;
    assert!(to.keys().eq([&locality("z1")]), "the near one bears it: {to:?}");
    plant.demand[0] = 180.0;
    plant.run(180, quiet);
    let to = &plant.spills[0].split().to;
    assert!(
        to[&locality("z2")] > 2 * to[&locality("z1")],
        "the rest goes on: {to:?}"
    );
    assert!(plant.loads()[1] < 0.92 * 50.0, "{:?}", plant.loads());
}

#[test]
fn what_is_not_known_moves_nothing_and_what_had_moved_comes_back() {
    let other = locality("b");
    let others = [far(&other, site(100.0, 0.1))];
    let (mut spill, rules) = (Spill::new(Duration::ZERO), Spillover::default());
    let unknown = Site {
        capacity: 100.0,
        busy: None,
    };
    assert!(!spill.step(SECOND, unknown, &others, &rules));
    for second in 2..20 {
        spill.step(SECOND * second, site(100.0, 1.0), &others, &rules);
    }
    assert!(spill.split().away > 10);
    let deaf = [Neighbour {
        site: unknown,
        ..others[0]
    }];
    for second in 20..60 {
        spill.step(SECOND * second, unknown, &deaf, &rules);
    }
    assert_eq!(*spill.split(), Split::default());
}

#[test]
fn whoever_has_no_endpoint_or_no_neighbour_splits_nothing() {
    let other = locality("b");
    let others = [far(&other, site(100.0, 0.1))];
    let (mut spill, rules) = (Spill::new(Duration::ZERO), Spillover::default());
    spill.step(SECOND, site(100.0, 1.0), &others, &rules);
    assert!(spill.split().away > 0);
    assert!(
        spill.step(SECOND * 2, site(0.0, 1.0), &others, &rules),
        "its own are drained"
    );
    assert_eq!(*spill.split(), Split::default());
    spill.step(SECOND * 3, site(100.0, 1.0), &others, &rules);
    let drained = [Neighbour {
        site: site(0.0, 0.0),
        ..others[0]
    }];
    assert!(spill.step(SECOND * 4, site(100.0, 1.0), &drained, &rules));
    assert_eq!(*spill.split(), Split::default());
}

#[test]
fn a_destination_that_is_drained_or_silent_loses_its_part() {
    let (there, beyond) = (locality("there"), locality("beyond"));
    let both = |of_there: Site| [far(&there, of_there), far(&beyond, site(100.0, 0.3))];
    let unknown = Site {
        capacity: 100.0,
        busy: None,
    };
    for lost in [site(0.0, 0.0), unknown] {
        let (mut spill, rules) = (Spill::new(Duration::ZERO), Spillover::default());
        for second in 1..20 {
            spill.step(SECOND * second, site(100.0, 0.97), &both(site(100.0, 0.3)), &rules);
        }
        assert!(spill.split().to.contains_key(&there), "{:?}", spill.split());
        assert!(spill.step(SECOND * 20, site(100.0, 0.97), &both(lost), &rules));
        assert!(spill.split().to.keys().eq([&beyond]), "{:?}", spill.split());
    }
}

proptest! {
    /// Whatever is reported: the parts are the share, the share is in bounds, moves by its step, and turns after its hold.
    #[test]
    fn the_laws_of_a_split(reports in prop::collection::vec((0.0..=1.0, 0.0..=1.0, 0.0..=1.0, 0.0..500.0), 1..200)) {
        let (near, far) = (locality("near"), locality("far"));
        let (mut spill, rules) = (Spill::new(Duration::ZERO), Spillover::default());
        let mut last: Option<(bool, usize)> = None;
        for (second, (own, first, second_busy, capacity)) in reports.into_iter().enumerate() {
            let before = spill.split().clone();
            let others = [
                Neighbour { name: &near, is_near: true, site: site(100.0, first) },
                Neighbour { name: &far, is_near: false, site: site(capacity, second_busy) },
            ];
            let is_told = spill.step(SECOND * (second as u32 + 1), site(100.0, own), &others, &rules);
            let split = spill.split();
            prop_assert_eq!(is_told, before != *split);
            prop_assert!(split.away <= 90);
            prop_assert!(split.away.abs_diff(before.away) <= 5, "{:?} to {:?}", before, split);
            prop_assert_eq!(split.to.values().sum::<u32>(), split.away, "{:?}", split);
            if split.away != before.away {
                let outwards = split.away > before.away;
                if let Some((was_outwards, at)) = last {
                    prop_assert!(was_outwards == outwards || second - at >= 5, "turned after {} s", second - at);
                }
                last = Some((outwards, second));
            }
        }
    }
}
