use proptest::prelude::*;

use super::*;
use crate::window::SLOT;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn window(of: Duration, count: u32) -> Survival {
    let mut window = Survival::default();
    (0..count).for_each(|_| window.record(of));
    window
}

fn view(window: &Survival) -> View<'_> {
    View {
        window,
        shape: Shape::default(),
        load: 0.2,
        is_frozen: false,
        fleet: None,
    }
}

#[test]
fn without_anything_known_the_ceiling_holds() {
    let settings = Settings::default();
    let mut learner = Learner::new(None, &settings);
    assert_eq!(learner.timeout(), settings.ceiling);
    let nothing = Survival::default();
    learner.step(SLOT, &view(&nothing), &settings).unwrap();
    assert_eq!((learner.timeout(), learner.baseline()), (settings.ceiling, None));
}

#[test]
fn a_prior_holds_from_the_start() {
    let prior = Baseline::guess(ms(1000), &Shape::default());
    assert_eq!(Learner::new(Some(prior), &Settings::default()).timeout(), ms(1150));
}

#[test]
fn of_all_threads_one_steps_an_epoch() {
    let settings = Settings::default();
    let seen = window(ms(100), 30_000);
    let mut learner = Learner::new(None, &settings);
    assert!(learner.step(SLOT, &view(&seen), &settings).is_some());
    let stepped = learner;
    assert_eq!(learner.step(SLOT + ms(29_999), &view(&seen), &settings), None);
    assert_eq!(learner, stepped);
    let again = learner.step(SLOT * 2, &view(&seen), &settings).unwrap();
    assert_eq!(again.timeout, again.before.mul_f64(0.8));
}

#[test]
fn while_a_fault_is_suspected_nothing_is_learnt() {
    let settings = Settings::default();
    let mut learner = Learner::new(Some(Baseline::guess(ms(1000), &Shape::default())), &settings);
    let slow = window(ms(20_000), 30_000);
    let frozen = View {
        is_frozen: true,
        ..view(&slow)
    };
    for epoch in 1..50 {
        learner.step(SLOT * epoch, &frozen, &settings).unwrap();
    }
    assert_eq!(learner.baseline().unwrap().p999, ms(1000));
    assert_eq!(learner.timeout(), ms(1200), "it follows the load all the same");
    learner.step(SLOT * 50, &view(&slow), &settings).unwrap();
    assert!(learner.baseline().unwrap().p999 > ms(10_000));
}

#[test]
fn many_timeouts_while_others_end_raise_the_timeout_at_once_but_not_twice_in_ten_seconds() {
    let settings = Settings::default();
    let mut learner = Learner::new(Some(Baseline::guess(ms(1000), &Shape::default())), &settings);
    let slower = Tally {
        ended: 48,
        timed_out: 2,
    };
    let raised: Vec<_> = (0..20)
        .filter_map(|s| learner.tally(slower, ms(1000 * s), &settings).map(|_| s))
        .collect();
    assert_eq!(raised, [1, 11]);
}

#[test]
fn a_timeout_in_a_thousand_raises_nothing() {
    let settings = Settings::default();
    let mut learner = Learner::new(Some(Baseline::guess(ms(1000), &Shape::default())), &settings);
    for second in 0..36_000 {
        let timed_out = u32::from(second % 20 == 0);
        let tally = Tally { ended: 50, timed_out };
        assert_eq!(
            learner.tally(tally, ms(1000 * second), &settings),
            None,
            "second {second}"
        );
    }
}

#[test]
fn where_nothing_ends_any_more_the_timeout_is_not_raised() {
    let settings = Settings::default();
    let mut learner = Learner::new(Some(Baseline::guess(ms(1000), &Shape::default())), &settings);
    for second in 0..60 {
        let hung = Tally {
            ended: 0,
            timed_out: 50,
        };
        assert_eq!(learner.tally(hung, ms(1000 * second), &settings), None);
    }
}

#[test]
fn a_vm_that_is_loaded_anew_goes_on_from_what_was_stored() {
    let settings = Settings::default();
    let mut learner = Learner::new(None, &settings);
    learner.step(SLOT, &view(&window(ms(100), 30_000)), &settings);
    learner.tally(Tally { ended: 5, timed_out: 1 }, ms(1), &settings);
    let bytes = learner.to_bytes();
    assert_eq!(bytes.len(), Learner::MAX_BYTES);
    assert_eq!(Learner::from_bytes(&bytes, None, &settings), learner);
    let tighter = Settings {
        ceiling: ms(300),
        ..settings
    };
    assert_eq!(Learner::from_bytes(&bytes, None, &tighter).timeout(), ms(300));
}

proptest! {
    #[test]
    fn foreign_bytes_are_a_new_learner_that_works(bytes in proptest::collection::vec(any::<u8>(), 0..80), now: u32) {
        let settings = Settings::default();
        let mut learner = Learner::from_bytes(&bytes, None, &settings);
        learner.step(ms(now.into()), &view(&window(ms(5), 500)), &settings);
        learner.tally(Tally { ended: 5, timed_out: 9 }, ms(now.into()), &settings);
        prop_assert!(learner.timeout() <= settings.ceiling);
        prop_assert!(learner.to_bytes().len() <= Learner::MAX_BYTES);
    }
}
