use super::*;

fn telemetry(memory_free_bytes: u64) -> Telemetry {
    Telemetry {
        simulated: true,
        memory_total_bytes: 1000,
        memory_free_bytes,
    }
}

#[test]
fn a_hundredth_of_the_memory_is_worth_a_write() {
    assert!(!is_significant(&telemetry(500), &telemetry(500)));
    assert!(!is_significant(&telemetry(500), &telemetry(509)));
    assert!(is_significant(&telemetry(500), &telemetry(490)));
    assert!(is_significant(
        &telemetry(500),
        &Telemetry {
            memory_total_bytes: 2000,
            ..telemetry(500)
        }
    ));
}

#[tokio::test]
async fn the_drain_delay_begins_when_etcd_has_let_the_worker_go() {
    let short = Duration::from_millis(50);
    let started = std::time::Instant::now();
    retire(tokio::time::sleep(short), Duration::from_secs(60), short).await;
    assert!(started.elapsed() >= 2 * short);

    let started = std::time::Instant::now();
    retire(std::future::pending(), short, short).await;
    assert!(
        started.elapsed() >= 2 * short,
        "an etcd that does not answer is left behind"
    );
}
