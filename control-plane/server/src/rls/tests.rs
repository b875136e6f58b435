use super::*;
use crate::election::{Leadership, Outcome};
use crate::sync::Office;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use kilocard_policy::config::parse;
use kilocard_quota::{Authority, Settings};
use ledger::Ruling;
use serde_json::{Value, json};

pub(super) fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = entries.iter().map(|(key, value)| Entry {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    RateLimitDescriptor {
        entries: entries.collect(),
        ..RateLimitDescriptor::default()
    }
}

/// RateLimitPolicies `limit-0` and so on.
pub(super) fn policy(specs: &[Value]) -> Policy {
    let documents: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let name = format!("limit-{index}");
            parse(&json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": name}, "spec": spec}))
                .unwrap()
        })
        .collect();
    Policy::compile("r", &documents).unwrap()
}

fn of(office: Office, specs: &[Value]) -> RateLimits {
    let (_, mesh) = watch::channel(None);
    let metrics = Metrics::default();
    let channel = Channel::new(office, Settings::default(), mesh.clone(), metrics.clone());
    let limits = RateLimits::new(channel, mesh, metrics);
    limits.ledger().enact(policy(specs));
    limits
}

fn service(specs: &[Value]) -> RateLimits {
    of(Office::Sole, specs)
}

fn request(descriptors: &[RateLimitDescriptor]) -> RateLimitRequest {
    RateLimitRequest {
        domain: DOMAIN.to_owned(),
        descriptors: descriptors.to_vec(),
        hits_addend: 0,
    }
}

fn of_tenant(tenant: &str) -> RateLimitDescriptor {
    descriptor(&[("tenant", tenant)])
}

fn codes(response: &RateLimitResponse) -> (i32, Vec<i32>) {
    let statuses = response.statuses.iter().map(|status| status.code);
    (response.overall_code, statuses.collect())
}

const OK: i32 = Code::Ok as i32;
const OVER: i32 = Code::OverLimit as i32;

#[test]
fn envoy_hears_which_limit_was_met_and_when_to_come_back() {
    let limits =
        service(&[json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 30, "per": "hour", "burst": 2}]})]);
    let request = request(&[of_tenant("acme")]);
    let first = limits.answer(&request).unwrap();
    assert_eq!(codes(&first), (OK, vec![OK]));
    let status = &first.statuses[0];
    let limit = status.current_limit.as_ref().unwrap();
    assert_eq!((limit.name.as_str(), limit.requests_per_unit), ("limit-0.requests", 30));
    assert_eq!(
        limit.unit(),
        envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit::Hour
    );
    assert_eq!(status.limit_remaining, 1);
    assert_eq!(status.duration_until_reset.as_ref().unwrap().seconds, 120);
    assert!(first.response_headers_to_add.is_empty());

    limits.answer(&request).unwrap();
    let refused = limits.answer(&request).unwrap();
    assert_eq!(codes(&refused), (OVER, vec![OVER]));
    let header = |name: &str| {
        let mut all = refused.response_headers_to_add.iter();
        all.find(|header| header.key == name)
            .map(|header| header.value.as_str())
    };
    assert_eq!(header("ratelimit-policy"), Some("\"limit-0.requests\";q=30;w=3600"));
    assert_eq!(header("ratelimit"), Some("\"limit-0.requests\";r=0;t=240"));
    // A minute is the longest that anybody is told to wait.
    assert_eq!(header("retry-after"), Some("60"));
    let body = String::from_utf8(refused.raw_body.clone()).unwrap();
    assert!(
        body.contains("30 requests a hour, at most 2 at once for tenant=acme"),
        "{body}"
    );

    let other = limits.answer(&super::tests::request(&[of_tenant("other")])).unwrap();
    assert_eq!(codes(&other), (OK, vec![OK]));
}

#[test]
fn of_several_descriptors_all_are_taken_or_none() {
    let limits =
        service(&[json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 2}]})]);
    let both = request(&[of_tenant("a"), of_tenant("b")]);
    limits.answer(&request(&[of_tenant("b")])).unwrap();
    limits.answer(&request(&[of_tenant("b")])).unwrap();
    assert_eq!(codes(&limits.answer(&both).unwrap()), (OVER, vec![OK, OVER]));
    // Twice the same in one request: there is room for each, and for both just once.
    let twice = request(&[of_tenant("a"), of_tenant("a"), of_tenant("a")]);
    assert_eq!(codes(&limits.answer(&twice).unwrap()), (OVER, vec![OK, OK, OVER]));
    let twice = request(&[of_tenant("a"), of_tenant("a")]);
    assert_eq!(codes(&limits.answer(&twice).unwrap()), (OK, vec![OK, OK]));
    assert_eq!(codes(&limits.answer(&both).unwrap()), (OVER, vec![OVER, OVER]));
}

#[test]
fn hits_and_numbers_are_the_cost_and_hits_can_be_given_back() {
    let day = |unit: &str, burst: u32| json!({"unit": unit, "rate": 1, "per": "day", "burst": burst});
    let limits = service(&[json!({"limits": [day("requests", 10), day("tokens", 100)]})]);
    let mut eight = request(&[descriptor(&[("tokens", "90")])]);
    eight.hits_addend = 8;
    let left = limits.answer(&eight).unwrap();
    assert_eq!(left.statuses[0].current_limit.as_ref().unwrap().name, "limit-0.tokens");
    assert_eq!((left.overall_code, left.statuses[0].limit_remaining), (OK, 10));
    assert_eq!(limits.answer(&eight).unwrap().overall_code, OVER);
    let mut back = eight.clone();
    back.descriptors[0].is_negative_hits = true;
    assert_eq!(limits.answer(&back).unwrap().overall_code, OK);
    assert_eq!(limits.answer(&eight).unwrap().overall_code, OK);
    // More than the burst: there is no use in coming back.
    let never = limits.answer(&request(&[descriptor(&[("tokens", "101")])])).unwrap();
    assert_eq!(never.overall_code, OVER);
    let mut headers = never.response_headers_to_add.iter();
    assert!(headers.all(|header| header.key != "retry-after"), "{never:?}");
}

#[test]
fn what_only_counts_refuses_nobody_and_is_counted() {
    let limits =
        service(&[json!({"shadow": true, "limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 1}]})]);
    for _ in 0..3 {
        let passed = limits.answer(&request(&[of_tenant("a")])).unwrap();
        assert_eq!(codes(&passed), (OK, vec![OK]));
        assert_eq!(passed.statuses[0].current_limit, None);
    }
    let text = limits
        .metrics
        .render(
            &crate::source::Health::default(),
            &crate::ads::Nodes::default(),
            &crate::scaling::Pools::default(),
        )
        .unwrap();
    let line = "kilocard_control_plane_rls_refusals_total{policy=\"limit-0\"} 2";
    assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
}

#[test]
fn other_domains_are_not_limited_and_what_makes_no_sense_is_refused() {
    let limits = service(&[json!({"limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 1}]})]);
    let mut foreign = request(&[of_tenant("a"), of_tenant("b")]);
    foreign.domain = "other".to_owned();
    for _ in 0..3 {
        assert_eq!(codes(&limits.answer(&foreign).unwrap()), (OK, vec![OK, OK]));
    }
    assert_eq!(outcome("other", &limits.answer(&foreign)), "unknown_domain");
    let many = vec![of_tenant("a"); MAX_DESCRIPTORS + 1];
    for mut senseless in [request(&[]), request(&many), request(&[of_tenant("a")])] {
        if senseless.descriptors.len() == 1 {
            senseless.domain.clear();
        }
        let refused = limits.answer(&senseless);
        assert_eq!(refused.as_ref().unwrap_err().code(), GrpcCode::InvalidArgument);
        assert_eq!(outcome(&senseless.domain, &refused), "invalid");
    }
    assert_eq!(outcome(DOMAIN, &limits.answer(&request(&[of_tenant("a")]))), "ok");
    assert_eq!(
        outcome(DOMAIN, &limits.answer(&request(&[of_tenant("a")]))),
        "over_limit"
    );
}

#[test]
fn a_replica_that_does_not_divide_names_the_one_that_does_and_gives_up_its_share() {
    let ours = Outcome {
        ours: Some(Leadership::new(b"key".to_vec(), 5)),
        leader: None,
    };
    let (outcomes, outcome) = watch::channel(ours);
    let shared = json!({"scope": "mesh", "limits": [{"unit": "requests", "rate": 1}]});
    let limits = of(Office::Elected(outcome), &[shared]);
    let request = request(&[of_tenant("a")]);
    assert_eq!(limits.ledger().due(), None);
    limits.answer(&request).unwrap();
    assert_eq!(limits.ledger().due().map(|(_, term)| term), Some(5));

    outcomes.send_replace(Outcome {
        ours: None,
        leader: Some("replica-2".to_owned()),
    });
    let refused = limits.answer(&request).unwrap_err();
    assert_eq!(refused.code(), GrpcCode::Unavailable);
    assert!(refused.message().contains("replica-2"), "{refused}");
    limits.exchange(&mut limits.ledger(), 5);
    assert_eq!(limits.ledger().due(), None);
}

#[test]
fn what_was_counted_stays_through_a_change_of_policies_and_goes_with_its_own() {
    let limit = json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 1}]});
    let limits = service(std::slice::from_ref(&limit));
    let request = request(&[of_tenant("a")]);
    assert_eq!(limits.answer(&request).unwrap().overall_code, OK);
    let other = json!({"by": ["user"], "limits": [{"unit": "requests", "rate": 1000}]});
    limits.ledger().enact(policy(&[limit, other]));
    assert_eq!(limits.answer(&request).unwrap().overall_code, OVER);
    assert_eq!(limits.ledger().len(), 1);
    limits.ledger().enact(policy(&[]));
    assert_eq!(limits.ledger().len(), 0);
    assert_eq!(limits.answer(&request).unwrap().overall_code, OK);
}

#[test]
fn strangers_take_a_bounded_room() {
    let limit = json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 1}], "max_keys": 64});
    let limits = service(&[limit]);
    let tenants = (0..5000).map(|tenant| format!("t{tenant}"));
    let passed = tenants.filter(|tenant| limits.answer(&request(&[of_tenant(tenant)])).unwrap().overall_code == OK);
    // Room for twice 64 keys, and one more that all others share.
    assert!(passed.count() <= 129);
    assert!(limits.ledger().len() <= 9);
}

const RATE: u32 = 100;
const BURST: u32 = 40;

/// One service among others, in a time of its own.
struct Player {
    ledger: Ledger,
    policy: Arc<Policy>,
}

impl Player {
    fn new(seed: u64) -> Self {
        let limit =
            json!({"by": ["tenant"], "scope": "mesh", "limits": [{"unit": "requests", "rate": RATE, "burst": BURST}]});
        let mut ledger = Ledger::new(seed);
        ledger.enact(policy(&[limit]));
        let policy = ledger.policy().unwrap();
        Self { ledger, policy }
    }

    fn passes(&mut self, now: Duration) -> bool {
        let descriptor = of_tenant("a");
        let ruling: Ruling<'_> = self
            .ledger
            .decide(&self.policy, &[Ask::of(&descriptor, 0, &self.policy)], now);
        !ruling.is_over()
    }

    fn report(&mut self, authority: &mut Authority, now: Duration) {
        self.ledger.join(1, now);
        if self.ledger.due().is_some_and(|(due, _)| due <= now) {
            let report = self.ledger.report(now).unwrap();
            let granted = authority.exchange(now, &report).unwrap();
            self.ledger.answered(Some(granted), (now, now));
        }
    }
}

#[test]
fn services_under_a_flood_share_a_limit_of_the_mesh_and_never_exceed_it() {
    let settings = Settings {
        learning: Duration::ZERO,
        ..Settings::default()
    };
    let mut authority = Authority::new(settings, Duration::ZERO);
    let mut players = [Player::new(1), Player::new(2)];
    let mut admitted = Vec::new();
    let mut by_player = [0, 0];
    for tick in 0..6000_u32 {
        let now = Duration::from_millis(5) * tick;
        for (index, player) in players.iter_mut().enumerate() {
            player.report(&mut authority, now);
            // One is asked for twice the limit, the other for six times as much.
            for _ in 0..[1, 3][index] {
                if player.passes(now) {
                    admitted.push(now);
                    by_player[index] += 1;
                }
            }
        }
    }
    let allowed = |window: Duration| f64::from(RATE) * window.as_secs_f64() + f64::from(BURST) + 2.0;
    for (first, from) in admitted.iter().enumerate() {
        for (last, to) in admitted.iter().enumerate().skip(first) {
            let count = last - first + 1;
            assert!(count as f64 <= allowed(*to - *from), "{count} from {from:?} to {to:?}");
        }
    }
    let end = Duration::from_secs(20);
    let used = admitted.iter().filter(|at| **at >= end).count();
    assert!(used >= 950, "{used} of 1000 in the last 10 s");
    assert!(by_player[1] > 2 * by_player[0] && by_player[0] > 100, "{by_player:?}");
}

#[test]
fn without_a_place_in_the_division_nothing_is_let_through_under_limits_of_the_mesh() {
    let mut player = Player::new(1);
    assert!(!player.passes(Duration::from_secs(1)));
}

#[test]
fn one_that_nobody_asks_any_more_says_good_bye() {
    let mut player = Player::new(1);
    let mut authority = Authority::new(Settings::default(), Duration::ZERO);
    player.report(&mut authority, Duration::ZERO);
    player.passes(Duration::from_secs(1));
    let leaves = |player: &Player, at| player.ledger.report(Duration::from_secs(at)).unwrap().leaving;
    assert!(!leaves(&player, 600));
    assert!(leaves(&player, 601));
}
