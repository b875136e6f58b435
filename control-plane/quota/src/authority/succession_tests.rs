//! Processes of one node, one after the other, report by report.

use super::*;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn authority() -> Authority {
    let settings = Settings {
        learning: Duration::ZERO,
        first_sequence: 1000,
        ..Settings::default()
    };
    Authority::new(settings, at(0))
}

/// A report that acknowledges the last answer, if there was one.
fn of(node: &str, proxy: &str, last: Option<&Grant>) -> Report {
    Report {
        proxy: proxy.to_owned(),
        node: node.to_owned(),
        acknowledged: last.map(|grant| grant.sequence),
        base: last.map_or(Share::ZERO, |grant| grant.base),
        ..Report::default()
    }
}

fn names(authority: &Authority) -> Vec<String> {
    let mut names: Vec<_> = authority.proxies().map(|proxy| proxy.proxy.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_process_has_what_the_silent_one_of_its_node_had() {
    let mut authority = authority();
    authority.exchange(at(1), &of("n", "old", None)).unwrap();
    let first = authority.exchange(at(3000), &of("n", "new", None)).unwrap();
    assert_eq!(first.base, Share::ZERO, "it might be a report that came late");
    let second = authority.exchange(at(3100), &of("n", "new", Some(&first))).unwrap();
    assert_eq!(second.base, Share::WHOLE);
    assert_eq!(names(&authority), ["new"]);
    let counters = authority.counters();
    assert_eq!((counters.succeeded, counters.forgotten), (1, 0));
    assert_eq!((authority.silent_base, authority.silent_nodes.len()), (0, 0));
}

#[test]
fn a_process_that_reports_beside_another_of_its_node_takes_nothing_from_it() {
    let mut authority = authority();
    let (mut parent, mut child) = (None, None);
    for millis in (500..20_000).step_by(500) {
        parent = Some(
            authority
                .exchange(at(millis), &of("n", "parent", parent.as_ref()))
                .unwrap(),
        );
        child = Some(
            authority
                .exchange(at(millis), &of("n", "child", child.as_ref()))
                .unwrap(),
        );
    }
    let (parent, mut child) = (parent.unwrap(), child.unwrap());
    assert_eq!((parent.base.parts(), child.base.parts()), (500_000, 500_000));
    // The parent ends; what it had waits until it is silent.
    for millis in (20_000..22_000).step_by(500) {
        child = authority.exchange(at(millis), &of("n", "child", Some(&child))).unwrap();
        assert_eq!(child.base.parts(), 500_000, "{millis}");
    }
    child = authority.exchange(at(22_500), &of("n", "child", Some(&child))).unwrap();
    assert_eq!(child.base, Share::WHOLE);
}

#[test]
fn what_is_of_another_node_or_of_none_is_held() {
    let long = "n".repeat(crate::MAX_NAME_BYTES + 1);
    for (before, after) in [("n", "m"), ("", ""), ("n", ""), ("", "n"), (&*long, &*long)] {
        let mut authority = authority();
        authority.exchange(at(1), &of(before, "old", None)).unwrap();
        let first = authority.exchange(at(3000), &of(after, "new", None)).unwrap();
        authority.exchange(at(3100), &of(after, "new", Some(&first))).unwrap();
        assert_eq!(names(&authority), ["new", "old"], "{before:.9} {after:.9}");
    }
}

#[test]
fn a_late_report_of_one_that_has_ended_takes_nothing_from_its_successor_and_is_forgotten_again() {
    let mut authority = authority();
    let old = authority.exchange(at(1), &of("n", "old", None)).unwrap();
    let first = authority.exchange(at(3000), &of("n", "new", None)).unwrap();
    let second = authority.exchange(at(3100), &of("n", "new", Some(&first))).unwrap();
    assert_eq!(names(&authority), ["new"]);
    // The successor is cut off meanwhile, and so is silent.
    authority.exchange(at(6000), &of("n", "old", Some(&old))).unwrap();
    authority.exchange(at(6100), &of("n", "old", Some(&old))).unwrap();
    assert_eq!(names(&authority), ["new", "old"]);
    assert!(
        authority
            .proxies()
            .any(|proxy| &*proxy.proxy == "new" && proxy.is_silent)
    );
    let back = authority.exchange(at(6200), &of("n", "new", Some(&second))).unwrap();
    authority.exchange(at(9000), &of("n", "new", Some(&back))).unwrap();
    assert_eq!(names(&authority), ["new"]);
}

#[test]
fn one_that_was_only_cut_off_comes_back_with_what_it_says_it_has() {
    let mut authority = authority();
    let cut_off = authority.exchange(at(1), &of("n", "cut off", None)).unwrap();
    let first = authority.exchange(at(3000), &of("n", "twin", None)).unwrap();
    authority.exchange(at(3100), &of("n", "twin", Some(&first))).unwrap();
    let back = authority
        .exchange(at(3200), &of("n", "cut off", Some(&cut_off)))
        .unwrap();
    // Both had the whole: that is what a node of two processes costs, until the first is told.
    assert_eq!((back.base.parts(), authority.base_total), (500_000, 2_000_000));
}
