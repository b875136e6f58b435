use super::*;
use crate::election::Leadership;

pub(super) fn channel(office: Office) -> Channel {
    Channel::new(office, Settings::default(), watch::channel(None).1, Metrics::default())
}

pub(super) fn request(proxy: &str, base_share: u32, acknowledged: Option<u64>) -> ExchangeRequest {
    ExchangeRequest {
        proxy: proxy.to_owned(),
        node: "node".to_owned(),
        acknowledged,
        base_share,
        demands: vec![wire::Demand {
            policy: "tenants".to_owned(),
            key: "tenant=acme".to_owned(),
            parts_per_million: 900_000,
        }],
    }
}

#[test]
fn the_sole_replica_divides_and_says_so_in_its_metrics() {
    let channel = channel(Office::Sole);
    let first = channel.answer(request("a", 0, None)).unwrap();
    let second = channel.answer(request("b", 0, None)).unwrap();
    assert!(second.sequence > first.sequence);
    // It has only just begun, and an earlier one may have given leases that still hold.
    assert_eq!((first.base_share, second.base_share), (0, 0));
    // As of the first report: there is a look a second.
    let text = channel
        .metrics
        .render(
            &crate::source::Health::default(),
            &crate::ads::Nodes::default(),
            &crate::scaling::Pools::default(),
        )
        .unwrap();
    for line in [
        "kilocard_control_plane_quota_proxies 1",
        "kilocard_control_plane_quota_learning 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_replica_that_is_not_elected_names_the_one_that_is() {
    let (_outcomes, outcome) = watch::channel(Outcome {
        ours: None,
        leader: Some("replica-2".to_owned()),
    });
    let refused = channel(Office::Elected(outcome))
        .answer(request("a", 0, None))
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().contains("replica-2"), "{refused}");
}

#[test]
fn each_leadership_begins_without_knowing_what_was_given_before() {
    let ours = |revision| Outcome {
        ours: Some(Leadership::new(b"key".to_vec(), revision)),
        leader: None,
    };
    let (outcomes, outcome) = watch::channel(ours(5));
    let channel = channel(Office::Elected(outcome));
    channel.answer(request("a", 0, None)).unwrap();
    channel.answer(request("b", 0, None)).unwrap();
    outcomes.send_replace(ours(9));
    channel.answer(request("a", 400_000, Some(1))).unwrap();
    let term = channel.term(9);
    let authority = &term.as_ref().unwrap().authority;
    let standings: Vec<_> = authority.proxies().collect();
    assert_eq!(standings.len(), 1);
    // What it says that it has is counted, whoever gave it.
    assert_eq!(standings[0].base_bound, Share::from_parts(400_000));
}

#[test]
fn a_malformed_report_is_refused_with_its_reason() {
    let channel = channel(Office::Sole);
    let refused = channel.answer(request("", 0, None)).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[test]
fn a_demand_that_is_too_long_is_passed_over_and_counted() {
    let channel = channel(Office::Sole);
    let mut long = request("a", 0, None);
    long.demands[0].key = "k".repeat(5000);
    channel.answer(long).unwrap();
    let text = channel
        .metrics
        .render(
            &crate::source::Health::default(),
            &crate::ads::Nodes::default(),
            &crate::scaling::Pools::default(),
        )
        .unwrap();
    for line in [
        "kilocard_control_plane_quota_demands_refused 1",
        "kilocard_control_plane_quota_reports_refused 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_process_that_succeeds_another_of_its_node_is_one_with_it_in_the_division() {
    let channel = channel(Office::Sole);
    let old = channel.answer(request("old", 0, None)).unwrap();
    let mut term = channel.term(0);
    let authority = &mut term.as_mut().unwrap().authority;
    let report = |acknowledged| Report {
        proxy: "new".to_owned(),
        node: "node".to_owned(),
        acknowledged,
        ..Report::default()
    };
    let later = |seconds| channel.origin.elapsed() + Duration::from_secs(seconds);
    let first = authority.exchange(later(20), &report(None)).unwrap();
    assert!(first.sequence > old.sequence);
    authority.exchange(later(20), &report(Some(first.sequence))).unwrap();
    let names: Vec<_> = authority.proxies().map(|proxy| proxy.proxy).collect();
    assert_eq!(names, [Arc::from("new")]);
}
