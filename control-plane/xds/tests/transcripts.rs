//! Golden transcripts: what a client says, what is served, and what the server answers, each line with the rule behind it.
//!
//! One event a line. `#` begins a comment.
//! - `serve CDS a@1 b@2`: from now on these are all resources of the type; the others stay as they are.
//!   `serve CDS a@1 | EDS a@1` changes several at once.
//!   `pool@1>a` is a cluster whose endpoints are called `a`.
//! - `client CDS …`: a request. `ack#1` and `nack#1:why` answer the response with that nonce, `nonce#1` only names it.
//!   Delta: `+a` subscribes, `-a` unsubscribes, `have:a@1` is an initial version.
//!   State of the world: bare words are the names; `claim:now` is the version served now, `claim:x` the version `x`.
//! - `server CDS #1 a@1 b@2 -c`: the response expected next, `-c` for removed. After a `serve` or `client` line the `server`
//!   lines that follow must be exactly what the machine says.
//! - `refresh now`: whoever has a clock has resources with a TTL (`k@1~30`, in seconds) mentioned again; `~k` is then a
//!   heartbeat in a response.
//! - `reconnect now`: the stream ends and a new one begins. `limit bytes N`: it splits responses at N bytes (delta).
//! - `refused CDS a b`: these stand refused.
//! - `opening over`: whoever has a clock ends the opening of the stream.
//! - `report CDS acked|unacked idle|waiting [nack:why]`: the operator's view.

use kilocard_xds::report::TypeReport;
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use kilocard_xds::{delta, sotw};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

enum Machine {
    Delta(delta::Stream),
    Sotw(sotw::Stream),
}

struct Replay {
    machine: Machine,
    served: BTreeMap<ResourceType, Vec<Resource>>,
    said: VecDeque<String>,
}

fn kind(text: &str) -> ResourceType {
    match text {
        "CDS" => ResourceType::Cluster,
        "EDS" => ResourceType::Endpoints,
        "LDS" => ResourceType::Listener,
        "RDS" => ResourceType::Route,
        "ECDS" => ResourceType::Extension,
        "SDS" => ResourceType::Secret,
        "RTDS" => ResourceType::Runtime,
        other => panic!("no type {other}"),
    }
}

fn abbreviation(of: ResourceType) -> &'static str {
    ["CDS", "EDS", "LDS", "RDS", "ECDS", "SDS", "RTDS"]
        .into_iter()
        .find(|text| kind(text) == of)
        .expect("every type has one")
}

fn resource(text: &str) -> Resource {
    let (name, _) = text
        .split_once('@')
        .unwrap_or_else(|| panic!("`{text}` is not name@content"));
    if let Some((content, seconds)) = text.split_once('~') {
        let ttl = Duration::from_secs(seconds.parse().expect("seconds"));
        return Resource::new(name, content.to_owned()).with_ttl(ttl);
    }
    let resource = Resource::new(name, text.to_owned());
    match text.split_once('>') {
        Some((_, endpoints)) => resource.awaiting(endpoints),
        None => resource,
    }
}

/// A response in a line: what is sent, removed, and only mentioned.
fn line(
    (of, nonce): (ResourceType, &str),
    resources: &[Arc<Resource>],
    removed: &[String],
    alive: &[Arc<Resource>],
) -> String {
    let mut text = format!("{} #{nonce}", abbreviation(of));
    for resource in resources {
        text += &format!(" {}", String::from_utf8_lossy(&resource.body));
    }
    for name in removed {
        text += &format!(" -{name}");
    }
    for resource in alive {
        text += &format!(" ~{}", resource.name);
    }
    text
}

impl Replay {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            served: BTreeMap::new(),
            said: VecDeque::new(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.served
                .iter()
                .map(|(kind, resources)| (*kind, ResourceSet::new(resources.iter().cloned()))),
        )
    }

    fn listen(&mut self) {
        let snapshot = self.snapshot();
        match &mut self.machine {
            Machine::Delta(stream) => {
                while let Some(r) = stream.next_response(&snapshot) {
                    let line = line((r.kind, &r.nonce), &r.resources, &r.removed, &r.heartbeats);
                    self.said.push_back(line);
                }
            }
            Machine::Sotw(stream) => {
                while let Some(r) = stream.next_response(&snapshot) {
                    let line = line((r.kind, &r.nonce), &r.resources, &[], &[]);
                    self.said.push_back(line);
                }
            }
        }
    }

    fn client(&mut self, kind: ResourceType, words: &[&str]) {
        let now = self.snapshot().set(kind).expect("a set").version().to_string();
        let (mut nonce, mut error, mut rest) = (String::new(), None, Vec::new());
        for word in words {
            if let Some(text) = word.strip_prefix("ack#").or_else(|| word.strip_prefix("nonce#")) {
                text.clone_into(&mut nonce);
            } else if let Some((text, why)) = word.strip_prefix("nack#").and_then(|text| text.split_once(':')) {
                text.clone_into(&mut nonce);
                error = Some(why.to_owned());
            } else {
                rest.push(*word);
            }
        }
        match &mut self.machine {
            Machine::Delta(stream) => {
                let mut request = delta::Request {
                    nonce,
                    error,
                    ..delta::Request::new(kind)
                };
                for word in rest {
                    if let Some(name) = word.strip_prefix('+') {
                        request.subscribe.push(name.to_owned());
                    } else if let Some(name) = word.strip_prefix('-') {
                        request.unsubscribe.push(name.to_owned());
                    } else {
                        let held = resource(word.strip_prefix("have:").expect("+name, -name or have:name@content"));
                        request.initial_versions.insert(held.name, held.version);
                    }
                }
                stream.on_request(request).expect("a request within limits");
            }
            Machine::Sotw(stream) => {
                let mut request = sotw::Request {
                    nonce,
                    error,
                    ..sotw::Request::new(kind)
                };
                for word in rest {
                    match word.strip_prefix("claim:") {
                        Some("now") => request.version.clone_from(&now),
                        Some(version) => version.clone_into(&mut request.version),
                        None => request.names.push(word.to_owned()),
                    }
                }
                stream.on_request(request).expect("a request within limits");
            }
        }
    }

    fn type_report(&self, kind: ResourceType) -> TypeReport {
        let reports = match &self.machine {
            Machine::Delta(stream) => stream.report(),
            Machine::Sotw(stream) => stream.report(),
        };
        let report = reports.into_iter().find(|report| report.kind == kind);
        report.expect("a subscription")
    }

    fn refused(&self, kind: ResourceType) -> String {
        let refused = self.type_report(kind).refused;
        let names: BTreeSet<String> = refused
            .iter()
            .flat_map(|refusal| refusal.members.keys().cloned())
            .collect();
        let words = std::iter::once(abbreviation(kind).to_owned()).chain(names);
        words.collect::<Vec<_>>().join(" ")
    }

    /// What nobody but the transport says.
    fn transport(&mut self, event: &str, words: &[&str]) {
        let snapshot = self.snapshot();
        match (event, &mut self.machine) {
            ("opening", Machine::Delta(stream)) => stream.end_opening(),
            ("refresh", Machine::Delta(stream)) => stream.refresh(&snapshot),
            ("refresh", Machine::Sotw(stream)) => stream.refresh(&snapshot),
            ("reconnect", Machine::Delta(stream)) => *stream = delta::Stream::new(),
            ("reconnect", Machine::Sotw(stream)) => *stream = sotw::Stream::new(),
            ("limit", Machine::Delta(stream)) => {
                let bytes = words.last().expect("bytes").parse().expect("a number");
                *stream = delta::Stream::limited(bytes);
            }
            _ => panic!("no {event} in this protocol"),
        }
    }

    fn report(&self, kind: ResourceType) -> String {
        let report = self.type_report(kind);
        let acked = if report.acked_version.is_some() {
            "acked"
        } else {
            "unacked"
        };
        let state = if report.in_flight { "waiting" } else { "idle" };
        let nack = report
            .nack
            .as_ref()
            .map(|nack| format!(" nack:{}", nack.message))
            .unwrap_or_default();
        format!("{} {acked} {state}{nack}", abbreviation(kind))
    }

    fn run(mut self, name: &str, text: &str) {
        let mut checked = 0;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}: `{line}`", number + 1);
            let line = line
                .split('#')
                .next()
                .filter(|_| line.starts_with('#'))
                .unwrap_or(line)
                .trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            let [event, of, rest @ ..] = words.as_slice() else {
                continue;
            };
            if !["server", "report", "refused"].contains(event) {
                assert_eq!(
                    self.said.pop_front(),
                    None,
                    "{place}: said before this and not expected"
                );
            }
            match *event {
                "serve" => {
                    for part in line.trim_start_matches("serve").split('|') {
                        let mut words = part.split_whitespace();
                        let of = kind(words.next().expect("a type"));
                        self.served.insert(of, words.map(resource).collect());
                    }
                    self.listen();
                }
                "client" => {
                    self.client(kind(of), rest);
                    self.listen();
                }
                "opening" | "refresh" | "reconnect" | "limit" => {
                    self.transport(event, &words);
                    self.listen();
                }
                "refused" => assert_eq!(
                    self.refused(kind(of)),
                    words.get(1..).expect("checked above").join(" "),
                    "{place}"
                ),
                "server" => {
                    let expected = words.get(1..).expect("checked above").join(" ");
                    assert_eq!(self.said.pop_front().as_deref(), Some(expected.as_str()), "{place}");
                    checked += 1;
                }
                "report" => assert_eq!(
                    self.report(kind(of)),
                    words.get(1..).expect("checked above").join(" "),
                    "{place}"
                ),
                other => panic!("{place}: no event {other}"),
            }
        }
        assert_eq!(self.said, VecDeque::new(), "{name}: said at the end and not expected");
        assert!(checked > 0, "{name} checks nothing");
    }
}

macro_rules! transcripts {
    ($module:ident from $folder:literal by $machine:expr; $($name:ident)*) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                let file = concat!($folder, "/", stringify!($name), ".txt");
                let text = include_str!(concat!("transcripts/", $folder, "/", stringify!($name), ".txt"));
                Replay::new($machine).run(file, text);
            })*
        }
    };
}

transcripts! {
    in_delta from "delta" by Machine::Delta(delta::Stream::new());
        a_wildcard_client_follows_every_change
        a_refused_response_is_not_repeated
        a_stale_nonce_answers_nothing_but_subscribes
        a_subscription_is_always_answered
        the_wildcard_and_names_live_side_by_side
        a_reconnecting_client_gets_only_what_changed
        a_reconnecting_client_keeps_what_its_routes_refer_to
        a_reconnecting_client_warms_a_new_cluster_by_endpoints_it_has
        a_reconnecting_client_without_routes_is_not_waited_for_for_ever
        endpoints_follow_a_changed_cluster
        clusters_may_share_their_endpoints
        make_before_break
        what_was_refused_keeps_its_clusters
        a_type_holds_up_only_those_that_depend_on_it
}

transcripts! {
    in_state_of_the_world from "sotw" by Machine::Sotw(sotw::Stream::new());
        clusters_are_sent_as_a_whole
        endpoints_are_sent_one_by_one
        a_refused_version_is_not_repeated
        a_stale_nonce_is_not_answered
        the_wildcard_ends_when_only_names_are_given
        a_reconnecting_client_is_answered_unless_it_has_everything
        endpoints_follow_a_changed_cluster
        clusters_may_share_their_endpoints
        make_before_break
}

transcripts! {
    sotw_by_the_spec from "cases/sotw" by Machine::Sotw(sotw::Stream::new());
        case_02_an_ack_is_not_answered_while_nothing_has_changed
        case_03_a_nack_is_told_by_error_detail_and_not_by_the_version
        case_04_a_refused_version_is_not_sent_again
        case_05_after_a_nack_a_new_version_is_sent_and_may_succeed
        case_06_a_stale_nonce_is_not_answered
        case_07_what_is_newly_asked_for_is_sent_even_if_it_has_not_changed
        case_08_a_newer_request_supersedes_the_older_ones
        case_09_an_identical_snapshot_is_not_sent
        case_10_a_nonce_does_not_survive_its_stream
        case_11_a_version_brought_along_saves_a_response_only_for_a_wildcard
        case_12_of_clusters_and_listeners_absence_is_deletion
        case_13_of_other_types_absence_says_nothing
        case_14_who_never_named_anything_gets_everything
        case_15_names_without_the_wildcard_end_it
        case_16_an_empty_list_after_names_ends_all_interest
        case_17_what_is_created_later_is_sent_to_who_waits_for_it
        case_18_a_name_never_stands_twice_in_one_response
        case_19_a_client_that_cannot_read_a_response_holds_up_nothing_else
        case_20_nobody_waits_for_what_does_not_exist
        case_38_secrets_of_several_clusters_do_not_wait_for_one_another
        case_39_a_stream_that_breaks_while_clusters_warm_is_taken_up_again
        case_42_what_has_a_ttl_is_sent_again_with_its_body
}

transcripts! {
    delta_by_the_spec from "cases/delta" by Machine::Delta(delta::Stream::new());
        case_21_the_nonce_pairs_an_answer_with_its_response
        case_22_subscriptions_count_even_with_a_stale_nonce
        case_23_a_spontaneous_request_answers_nothing
        case_24_what_the_client_has_is_sent_again_when_it_asks
        case_25_a_phantom_unsubscription_is_ignored
        case_26_a_name_taken_from_beside_the_wildcard_is_answered
        case_27_what_does_not_exist_is_said_to_be_removed_at_once
        case_28_after_a_reconnect_only_what_changed_and_what_is_gone_is_sent
        case_29_after_a_reconnect_the_endpoints_of_a_changed_cluster_are_sent_though_they_have_not_changed
        case_30_a_wildcard_is_taken_up_again_by_an_empty_request
        case_33_what_was_removed_and_comes_back_is_sent
        case_34_what_was_refused_along_with_others_is_not_taken_for_applied
        case_35_additions_go_in_the_order_of_reference
        case_36_a_cluster_goes_only_when_the_routes_that_named_it_are_accepted
        case_37_a_changed_cluster_gets_its_endpoints_again
        case_38_secrets_of_several_clusters_do_not_wait_for_one_another
        case_39_a_stream_that_breaks_while_clusters_warm_is_taken_up_again
        case_41_what_was_unsubscribed_meanwhile_is_not_sent_again
        case_42_heartbeats_renew_the_ttl_without_a_body
        case_43_a_cluster_asked_for_on_demand_is_answered
        case_49_a_large_response_is_split
}

#[test]
fn a_subscription_beyond_all_measure_is_an_error() {
    let names = |range: std::ops::Range<usize>| range.map(|i| format!("n{i}")).collect::<Vec<_>>();
    let mut delta = delta::Stream::new();
    let request = delta::Request {
        subscribe: names(0..kilocard_xds::MAX_NAMES),
        ..delta::Request::new(ResourceType::Endpoints)
    };
    assert!(delta.on_request(request).is_ok());
    let request = delta::Request {
        subscribe: names(200_000..200_001),
        ..delta::Request::new(ResourceType::Endpoints)
    };
    let error = delta.on_request(request).expect_err("one too many");
    let again = delta::Request {
        subscribe: names(0..kilocard_xds::MAX_NAMES),
        ..delta::Request::new(ResourceType::Endpoints)
    };
    assert!(delta.on_request(again).is_ok(), "what is subscribed to is no growth");
    let versions = names(0..kilocard_xds::MAX_NAMES + 1).into_iter();
    let request = delta::Request {
        initial_versions: versions.map(|name| (name, Version::from("v"))).collect(),
        ..delta::Request::new(ResourceType::Cluster)
    };
    assert!(delta::Stream::new().on_request(request).is_err());
    assert!(error.to_string().contains("subscribe to \"*\" instead"), "{error}");
    let request = sotw::Request {
        names: names(0..100_001),
        ..sotw::Request::new(ResourceType::Endpoints)
    };
    assert!(sotw::Stream::new().on_request(request).is_err());
}

#[test]
fn case_32_a_version_depends_on_content_only() {
    let set = |texts: [&str; 2]| ResourceSet::new(texts.into_iter().map(resource));
    assert_eq!(set(["a@1", "b@1"]).version(), set(["b@1", "a@1"]).version());
    assert_ne!(set(["a@1", "b@1"]).version(), set(["a@1", "b@2"]).version());
    assert_eq!(Version::of(b"a@1").as_str(), "e351959bb58dfbb89901bf27c4657a61");
}
