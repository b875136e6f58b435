use proptest::prelude::*;

use super::*;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const FAILED: Attempt = Attempt {
    failure: Failure::Status(14),
    has_begun: false,
    attempts: 1,
    remaining: Some(ms(900)),
    usual: Some(ms(200)),
};

fn decide(attempt: Attempt) -> Decision {
    Settings::default().decide(&attempt, &mut Budget::default(), ms(5))
}

#[test]
fn what_may_be_made_again_is() {
    assert_eq!(decide(FAILED), Decision::Retry);
    for failure in [Failure::Connection, Failure::FirstMessage] {
        assert_eq!(decide(Attempt { failure, ..FAILED }), Decision::Retry);
    }
}

#[test]
fn what_may_not_is_refused_with_its_reason() {
    let cases = [
        (
            Attempt {
                has_begun: true,
                ..FAILED
            },
            Refusal::HasBegun,
        ),
        (
            Attempt {
                failure: Failure::Status(8),
                ..FAILED
            },
            Refusal::ResourceExhausted,
        ),
        (
            Attempt {
                failure: Failure::Status(3),
                ..FAILED
            },
            Refusal::NotRetryable,
        ),
        (Attempt { attempts: 2, ..FAILED }, Refusal::Attempts),
        (
            Attempt {
                remaining: Some(ms(199)),
                ..FAILED
            },
            Refusal::Deadline,
        ),
        (
            Attempt {
                remaining: Some(ms(0)),
                usual: None,
                ..FAILED
            },
            Refusal::Deadline,
        ),
    ];
    for (attempt, refusal) in cases {
        assert_eq!(decide(attempt), Decision::Give(refusal), "{attempt:?}");
    }
}

#[test]
fn when_everything_fails_the_load_grows_by_a_tenth() {
    let settings = Settings::default();
    let mut budget = Budget::default();
    let mut retries = 0;
    for at in 0..60_000 {
        let now = ms(at);
        budget.first_attempts(1, now);
        retries += u32::from(settings.decide(&FAILED, &mut budget, now) == Decision::Retry);
    }
    assert!((5_900..=6_000).contains(&retries), "{retries} for 60,000");
}

#[test]
fn a_caller_with_few_requests_has_a_few_retries_and_no_caller_more_than_the_cap() {
    let settings = Settings {
        cap: 50,
        ..Settings::default()
    };
    let taken = |firsts| {
        let mut budget = Budget::default();
        budget.first_attempts(firsts, ms(5));
        (0..100_000).filter(|_| budget.take(ms(5), &settings)).count()
    };
    assert_eq!([taken(0), taken(200), taken(100_000)], [3, 20, 50]);
}

#[test]
fn ten_seconds_later_it_is_forgotten_and_a_clock_that_jumps_does_not_wedge_it() {
    let settings = Settings::default();
    let mut budget = Budget::default();
    (0..3).for_each(|_| assert!(budget.take(ms(0), &settings)));
    assert!(!budget.take(ms(9_999), &settings));
    assert!(budget.take(ms(10_000), &settings));
    assert!(budget.take(ms(3_600_000), &settings));
    assert!(budget.take(ms(1_000), &settings), "back by an hour");
}

#[test]
fn hedging_is_off_unless_it_is_asked_for() {
    let slow = Hedged {
        is_idempotent: true,
        has_begun: false,
        attempts: 1,
        elapsed: ms(300),
        p95: ms(200),
        saturation: 0.3,
        remaining: None,
    };
    let with = Settings {
        hedge: Some(Hedge { below: 0.5 }),
        ..Settings::default()
    };
    let hedges = |settings: &Settings, request: Hedged| settings.hedges(&request, &mut Budget::default(), ms(5));
    assert!(!hedges(&Settings::default(), slow));
    assert!(hedges(&with, slow));
    let others = [
        Hedged {
            is_idempotent: false,
            ..slow
        },
        Hedged {
            has_begun: true,
            ..slow
        },
        Hedged { attempts: 2, ..slow },
        Hedged {
            elapsed: ms(199),
            ..slow
        },
        Hedged {
            saturation: 0.5,
            ..slow
        },
        Hedged {
            saturation: f64::NAN,
            ..slow
        },
        Hedged {
            remaining: Some(ms(50)),
            ..slow
        },
    ];
    for request in others {
        assert!(!hedges(&with, request), "{request:?}");
    }
}

proptest! {
    #[test]
    fn foreign_bytes_are_a_budget_that_works(mut bytes in proptest::collection::vec(any::<u8>(), BUDGET_BYTES), now: u64) {
        bytes[0] = 1;
        let now = Duration::from_secs(now);
        for foreign in [&bytes[..], &bytes[1..]] {
            let mut budget = Budget::from_bytes(foreign);
            budget.first_attempts(1, now);
            budget.take(now, &Settings::default());
            prop_assert_eq!(Budget::from_bytes(&budget.to_bytes()), budget);
        }
    }
}
