use super::*;

const TENTH: Duration = Duration::from_millis(100);

fn free(bytes: u64) -> Telemetry {
    report(|t| t.memory_free_bytes = bytes)
}

#[test]
fn mere_weights_are_published_once_a_second_at_most_and_the_first_change_at_once() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(free(1000)));
    bench.run(5);
    let mut published = Vec::new();
    for step in 0..50 {
        bench.reports("a", "H100", Some(free(300 - 5 * step)));
        bench.observe();
        if bench.tick() {
            published.push(bench.now);
        }
        bench.now += TENTH;
    }
    assert!(published.len() >= 2, "{published:?}");
    assert!(
        published.windows(2).all(|pair| pair[1] - pair[0] >= SECOND),
        "{published:?}"
    );
}

#[test]
fn who_comes_or_goes_does_not_wait() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", None);
    bench.observe();
    assert!(bench.tick());
    for worker in ["b", "c"] {
        bench.now += Duration::from_millis(1);
        bench.reports(worker, "H100", None);
        bench.observe();
        assert!(bench.tick());
    }
    bench.now += Duration::from_millis(1);
    bench.fleet.forget("b");
    assert!(bench.tick());
    assert_eq!(bench.fleet.weighed(&served(), "b"), None);
}

#[test]
fn a_small_difference_waits_ten_seconds_and_none_is_published() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(free(1000)));
    bench.run(1);
    bench.run(30);
    // 3 % less: less than a step, nearer to the next than to the last.
    bench.reports("a", "H100", Some(report(|t| t.engine.error_rate = Some(0.0065))));
    let begun = bench.now;
    let mut published = Vec::new();
    for _ in 0..40 {
        bench.observe();
        if bench.tick() {
            published.push(bench.now);
        }
        bench.now += SECOND;
    }
    assert_eq!(published.len(), 1, "{published:?} from {begun:?}");
    assert_eq!(bench.weight("a"), 381);
}

#[test]
fn a_fleet_at_rest_is_not_due_and_one_that_moves_is_due_within_the_second() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", None);
    bench.run(30);
    assert_eq!(bench.fleet.due(), None);
    bench.reports(
        "a",
        "H100",
        Some(report(|t| {
            t.memory_free_bytes = 100;
            t.refresh_ms = None;
        })),
    );
    bench.observe();
    bench.tick();
    let due = bench.fleet.due().unwrap();
    assert!(due > bench.now && due <= bench.now + SECOND, "{due:?}");
    bench.run(60);
    assert_eq!(bench.fleet.due(), None, "it has arrived");
}

#[test]
fn a_report_is_looked_at_again_when_it_gets_stale_and_until_it_has_decayed() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(free(100)));
    bench.run(60);
    let received = bench.now - SECOND;
    assert_eq!(bench.fleet.due(), Some(received + 3 * SECOND));
    while let Some(due) = bench.fleet.due() {
        bench.now = due;
        bench.tick();
        assert!(bench.now < received + 120 * SECOND, "it never ends");
    }
    assert_eq!(bench.weight("a"), 400);
}

#[test]
fn constants_of_a_model_go_before_those_of_the_mesh() {
    let mut own = Constants::default();
    own.memory.ample = 0.5;
    let mut bench = Bench::new();
    bench.fleet = Fleet::new(Arc::new(Params::new(Constants::default(), [("m".to_owned(), own)])));
    bench.reports("a", "H100", Some(free(275)));
    bench.run(1);
    assert!((195..=205).contains(&bench.weight("a")), "{}", bench.weight("a"));
    bench.fleet.set_params(Arc::default());
    bench.run(60);
    assert_eq!(bench.weight("a"), 400);
}

#[test]
fn the_first_step_after_a_rest_is_made_and_published_at_once() {
    let mut bench = Bench::new();
    bench.reports("a", "H100", Some(free(1000)));
    bench.run(20);
    bench.reports("a", "H100", Some(free(150)));
    bench.observe();
    assert!(bench.tick());
    assert!(
        (290..=310).contains(&bench.weight("a")),
        "half of the way: {}",
        bench.weight("a")
    );
}
