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
