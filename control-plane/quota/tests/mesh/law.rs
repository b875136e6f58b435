//! Whatever happens, the sum stays within the whole.

use crate::world::{Weather, World};
use kilocard_quota::Settings;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Fault {
    Join,
    /// Ends without a word, and comes back under another name on the same node.
    Restart(prop::sample::Index),
    Kill(prop::sample::Index),
    Leave(prop::sample::Index),
    CutOff(prop::sample::Index),
    Heal(prop::sample::Index),
    ReplaceAuthority,
    Demand(prop::sample::Index, usize, u32),
    /// All demand for a key is at one proxy.
    Crowd(prop::sample::Index, usize),
    Calm(usize),
}

const KEYS: usize = 3;

fn fault() -> impl Strategy<Value = Fault> {
    let who = any::<prop::sample::Index>;
    let parts = prop_oneof![Just(0), 1..2_000_000_u32, Just(u32::MAX)];
    prop_oneof![
        3 => Just(Fault::Join),
        3 => who().prop_map(Fault::Restart),
        1 => who().prop_map(Fault::Kill),
        1 => who().prop_map(Fault::Leave),
        2 => who().prop_map(Fault::CutOff),
        3 => who().prop_map(Fault::Heal),
        1 => Just(Fault::ReplaceAuthority),
        6 => (who(), 0..KEYS, parts).prop_map(|(who, key, parts)| Fault::Demand(who, key, parts)),
        5 => (who(), 0..KEYS).prop_map(|(who, key)| Fault::Crowd(who, key)),
        1 => (0..KEYS).prop_map(Fault::Calm),
    ]
}

fn weather() -> impl Strategy<Value = Weather> {
    (0.0..0.5_f64, 0.0..0.3_f64, 1..1500_u64, 1..8000_u64, 1..800_u64).prop_map(
        |(loss, repetition, delay, late, lag)| Weather {
            loss,
            repetition,
            max_delay: Duration::from_millis(delay),
            max_late: Duration::from_millis(late),
            max_lag: Duration::from_millis(lag),
        },
    )
}

fn strike(world: &mut World, fault: &Fault) {
    let ids: Vec<u32> = world.processes.keys().copied().collect();
    let one = |index: &prop::sample::Index| ids.get(index.index(ids.len().max(1))).copied().unwrap_or(0);
    match fault {
        Fault::Join => drop(world.join()),
        Fault::Restart(who) => {
            world.restart(one(who));
        }
        Fault::Kill(who) => world.kill(one(who)),
        Fault::Leave(who) => world.leave(one(who)),
        Fault::CutOff(who) | Fault::Heal(who) => {
            if let Some(process) = world.processes.get_mut(&one(who)) {
                process.is_cut_off = matches!(fault, Fault::CutOff(_));
            }
        }
        Fault::ReplaceAuthority => world.replace_authority(),
        Fault::Demand(who, key, parts) => world.demand(one(who), *key, *parts),
        Fault::Crowd(who, key) => {
            let crowded = one(who);
            for id in ids {
                world.demand(id, *key, if id == crowded { 3_000_000 } else { 0 });
            }
        }
        Fault::Calm(key) => {
            for id in ids {
                world.demand(id, *key, 0);
            }
        }
    }
}

fn settings(max_leases: usize) -> Settings {
    Settings {
        max_leases,
        // Longer than any run: a proxy that is cut off for longer than that has lost its right to what it goes on using.
        forget_after: Duration::from_secs(100_000),
        ..Settings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_all_may_be_using_is_never_more_than_the_whole(
        weather in weather(), seed in any::<u64>(),
        max_leases in 1..=KEYS,
        faults in prop::collection::vec((fault(), 0..6000_u64), 10..80),
    ) {
        let mut world = World::new(settings(max_leases), weather, KEYS, seed);
        world.join();
        world.join();
        for (fault, pause) in &faults {
            strike(&mut world, fault);
            world.run(Duration::from_millis(*pause));
        }
        world.run(Duration::from_secs(30));
    }
}

#[test]
fn an_old_claim_that_comes_late_gives_no_right_to_what_was_given_to_others() {
    // The first proxy had everything once. That it says so again, late, must not let it keep more than its base share when
    // the other can no longer be counted on.
    let weather = Weather {
        max_late: Duration::from_secs(6),
        repetition: 0.25,
        loss: 0.42,
        max_delay: Duration::from_millis(646),
        max_lag: Duration::from_millis(1),
    };
    for seed in 0..40 {
        let mut world = World::new(settings(KEYS), weather, 1, seed);
        world.join();
        world.run(Duration::from_secs(3));
        world.join();
        world.run(Duration::from_secs(10));
        world.demand(1, 0, 3_000_000);
        world.run(Duration::from_secs(30));
    }
}
