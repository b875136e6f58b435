//! When all is well, what there is is given out, and soon. Times are simulated, so they are exact.

use crate::world::{Weather, World};
use kilocard_quota::Settings;
use kilocard_quota::Share;
use kilocard_quota::division::Room;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(10);
const WHOLE: u64 = 1_000_000;

/// A mesh of so many proxies that have their base shares.
fn settled(proxies: u32) -> (World, Vec<u32>) {
    let mut world = World::new(Settings::default(), Weather::FINE, 2, 7);
    let ids: Vec<u32> = (0..proxies).map(|_| world.join()).collect();
    world.run(Duration::from_secs(5));
    (world, ids)
}

fn crowd(world: &mut World, ids: &[u32], crowded: u32) {
    for id in ids {
        world.demand(*id, 0, if *id == crowded { 3_000_000 } else { 0 });
    }
}

/// How long it takes until something is so.
fn until(world: &mut World, within: Duration, is_so: impl Fn(&World) -> bool) -> Duration {
    let start = world.now;
    while !is_so(world) {
        assert!(world.now - start < within, "not within {within:?}");
        world.run(STEP);
    }
    world.now - start
}

#[test]
fn everybody_has_an_equal_share_soon_after_the_last_has_come() {
    let mut world = World::new(Settings::default(), Weather::FINE, 1, 1);
    for _ in 0..50 {
        world.join();
    }
    let all_have = |world: &World| {
        world
            .processes
            .values()
            .all(|process| process.share("x", world.now) == 20_000)
    };
    let took = until(&mut world, Duration::from_secs(2), all_have);
    println!("50 proxies that come together have equal shares after {took:?}");
    // One more takes a 51st.
    let joiner = world.join();
    let took = until(&mut world, Duration::from_secs(2), |world| {
        world.share(joiner, 0) == 1_000_000 / 51
    });
    println!("one more has its share after {took:?}");
    assert!(world.sum("x") * 100 >= WHOLE * 99);
}

#[test]
fn shares_become_what_the_division_says() {
    let (mut world, ids) = settled(10);
    let demands: Vec<u32> = (1..=10).map(|place| place * 50_000).collect();
    for (id, parts) in ids.iter().zip(&demands) {
        world.demand(*id, 0, *parts);
    }
    let room = Room {
        parts: Share::WHOLE,
        proxies: 10,
    };
    let total = demands.iter().copied().map(u64::from).sum();
    let within = |percent: u32| {
        let demands = demands.clone();
        let ids = ids.clone();
        move |world: &World| {
            ids.iter().zip(&demands).all(|(id, parts)| {
                let (share, ought) = (world.share(*id, 0), room.part((*parts).into(), total).parts());
                share.abs_diff(ought) <= ought * percent / 100
            })
        }
    };
    let near = until(&mut world, Duration::from_secs(3), within(10));
    let there = near + until(&mut world, Duration::from_secs(20), within(1));
    println!("10 unlike demands have their parts within 10 % after {near:?}, within 1 % after {there:?}");
    assert!(world.sum("limit/0") * 100 >= WHOLE * 99);
    // And stays so.
    for _ in 0..1000 {
        world.run(STEP);
        assert!(world.sum("limit/0") * 100 >= WHOLE * 99);
    }
}

#[test]
fn demand_that_moves_takes_its_share_along() {
    for proxies in [2, 10, 100] {
        let (mut world, ids) = settled(proxies);
        crowd(&mut world, &ids, ids[0]);
        let has = |id: u32, parts: u32| move |world: &World| world.share(id, 0) >= parts;
        let first = until(&mut world, Duration::from_secs(3), has(ids[0], 900_000));
        world.run(Duration::from_secs(20));
        let steady = world.share(ids[0], 0);
        assert!(steady >= 970_000, "{steady}");
        crowd(&mut world, &ids, ids[1]);
        let half = until(&mut world, Duration::from_secs(6), has(ids[1], 500_000));
        let moved = half + until(&mut world, Duration::from_secs(6), has(ids[1], 900_000));
        println!(
            "{proxies} proxies: nine tenths after {first:?}; of demand that moves, half after {half:?}, nine tenths after {moved:?}"
        );
    }
}

#[test]
fn keys_that_nobody_wants_are_forgotten() {
    let (mut world, ids) = settled(4);
    crowd(&mut world, &ids, ids[0]);
    world.run(Duration::from_secs(5));
    assert_eq!(world.authority.managed_count(), 1);
    crowd(&mut world, &ids, 0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.authority.managed_count(), 0);
    assert!(ids.iter().all(|id| world.share(*id, 0) == 250_000));
}

#[test]
fn demand_within_half_of_the_base_share_needs_no_lease() {
    let (mut world, ids) = settled(4);
    for id in &ids {
        world.demand(*id, 0, 125_000);
    }
    world.run(Duration::from_secs(5));
    assert_eq!(world.authority.managed_count(), 0);
    assert_eq!(world.authority.counters().leases, 0);
}

#[test]
fn without_the_authority_all_fall_back_to_their_base_shares() {
    let (mut world, ids) = settled(4);
    crowd(&mut world, &ids, ids[0]);
    world.run(Duration::from_secs(5));
    for process in world.processes.values_mut() {
        process.is_cut_off = true;
    }
    let at_base = |world: &World| ids.iter().all(|id| world.share(*id, 0) == 250_000);
    let took = until(&mut world, Duration::from_secs(11), at_base);
    println!("cut off, all are at their base shares after {took:?}");
    world.run(Duration::from_secs(500));
    assert!(at_base(&world));
}

#[test]
fn a_new_authority_is_back_where_the_old_one_was_once_it_has_learned() {
    let (mut world, ids) = settled(10);
    crowd(&mut world, &ids, ids[0]);
    world.run(Duration::from_secs(10));
    world.replace_authority();
    let raised = |world: &World| world.share(ids[0], 0) >= 900_000;
    let kept = until(&mut world, Duration::from_secs(6), |world| !raised(world));
    let least = world.share(ids[0], 0);
    let without = until(&mut world, Duration::from_secs(6), raised);
    println!("the raised share lasts {kept:?}, then {least} parts for {without:?}");
    assert!(least >= 100_000, "{least}");
    assert!(world.sum("a key that nobody asks for") == WHOLE);
}

#[test]
fn what_a_silent_proxy_held_is_given_to_others_but_for_its_base_share() {
    let (mut world, ids) = settled(4);
    crowd(&mut world, &ids, ids[0]);
    world.run(Duration::from_secs(10));
    world.kill(ids[3]);
    world.run(Duration::from_secs(60));
    // The base share of the one that may be alive is kept; the rest is given out.
    let sum = world.sum("limit/0");
    assert!((740_000..=750_000).contains(&sum), "{sum}");
    world.run(Duration::from_secs(600));
    assert!(world.sum("limit/0") * 100 >= WHOLE * 99);
    assert_eq!(world.authority.counters().forgotten, 1);
    assert_eq!(world.authority.counters().surprises, 0);
}

#[test]
fn a_node_that_restarts_again_and_again_takes_nothing_from_the_others() {
    for pause in [500, 2000, 10_000] {
        let (mut world, ids) = settled(2);
        let mut restarting = ids[1];
        for _ in 0..6 {
            restarting = world.restart(restarting).unwrap();
            world.run(Duration::from_millis(pause));
        }
        let both_have = |world: &World| [ids[0], restarting].iter().all(|id| world.share(*id, 0) == 500_000);
        let took = until(&mut world, Duration::from_secs(4), both_have);
        println!("{took:?} and {pause} ms after the last of 6 restarts both have their halves");
        assert_eq!(world.authority.proxies().count(), 2);
    }
}

#[test]
fn what_one_leaves_that_says_so_is_given_to_others_at_once() {
    let (mut world, ids) = settled(4);
    world.leave(ids[3]);
    let grown = |world: &World| ids[..3].iter().all(|id| world.share(*id, 0) == 333_333);
    until(&mut world, Duration::from_secs(1), grown);
    assert_eq!(world.authority.proxies().count(), 3);
}

#[test]
fn one_that_comes_to_keys_in_full_use_gets_its_part_of_them() {
    let (mut world, ids) = settled(9);
    crowd(&mut world, &ids, ids[0]);
    world.run(Duration::from_secs(10));
    let joiner = world.join();
    let took = until(&mut world, Duration::from_secs(4), |world| {
        world.processes[&joiner].share("another", world.now) == 100_000
    });
    println!("one that comes to a key in full use has its base share after {took:?}");
    world.demand(joiner, 0, 3_000_000);
    until(&mut world, Duration::from_secs(5), |world| {
        world.share(joiner, 0) >= 450_000
    });
}
