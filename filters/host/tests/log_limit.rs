//! The limit on log lines. Includes the module by its path: the crate itself holds host calls, which do not link natively.

#[path = "../src/log_limit.rs"]
#[allow(unreachable_pub)]
mod log_limit;

use log_limit::LogLimit;

const SECOND: u64 = 1_000_000_000;

#[test]
fn one_line_a_second_passes_and_says_how_many_did_not() {
    let mut limit = LogLimit::default();
    let start = 77 * SECOND;
    assert_eq!(limit.admit(start), Some(0));
    assert_eq!(limit.admit(start), None);
    assert_eq!(limit.admit(start + SECOND - 1), None);
    assert_eq!(limit.admit(start + SECOND), Some(2));
    assert_eq!(limit.admit(start + 3 * SECOND), Some(0));
}

#[test]
fn a_clock_that_is_set_back_does_not_silence_the_log() {
    let mut limit = LogLimit::default();
    assert_eq!(limit.admit(1000 * SECOND), Some(0));
    assert_eq!(limit.admit(10 * SECOND), Some(0));
    assert_eq!(limit.admit(10 * SECOND + 1), None);
}
