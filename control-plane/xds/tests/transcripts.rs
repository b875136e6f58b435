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
//! - `opening over`: whoever has a clock ends the opening of the stream.
//! - `report CDS acked|unacked idle|waiting [nack:why]`: the operator's view.

use kilocard_xds::report::TypeReport;
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use kilocard_xds::{delta, sotw};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

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
        other => panic!("no type {other}"),
    }
}

fn abbreviation(of: ResourceType) -> &'static str {
    ["CDS", "EDS", "LDS", "RDS", "ECDS"]
        .into_iter()
        .find(|text| kind(text) == of)
        .expect("every type has one")
}

fn resource(text: &str) -> Resource {
    let (name, _) = text
        .split_once('@')
        .unwrap_or_else(|| panic!("`{text}` is not name@content"));
    let resource = Resource::new(name, text.to_owned());
    match text.split_once('>') {
        Some((_, endpoints)) => resource.awaiting(endpoints),
        None => resource,
    }
}

fn line(of: ResourceType, nonce: &str, resources: &[Arc<Resource>], removed: &[String]) -> String {
    let mut text = format!("{} #{nonce}", abbreviation(of));
    for resource in resources {
        text += &format!(" {}", String::from_utf8_lossy(&resource.body));
    }
    for name in removed {
        text += &format!(" -{name}");
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
                    self.said.push_back(line(r.kind, &r.nonce, &r.resources, &r.removed));
                }
            }
            Machine::Sotw(stream) => {
                while let Some(r) = stream.next_response(&snapshot) {
                    self.said.push_back(line(r.kind, &r.nonce, &r.resources, &[]));
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

    fn report(&self, kind: ResourceType) -> String {
        let reports = match &self.machine {
            Machine::Delta(stream) => stream.report(),
            Machine::Sotw(stream) => stream.report(),
        };
        let report: &TypeReport = reports
            .iter()
            .find(|report| report.kind == kind)
            .expect("a subscription");
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
            if *event != "server" && *event != "report" {
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
                "opening" => {
                    if let Machine::Delta(stream) = &mut self.machine {
                        stream.end_opening();
                    }
                    self.listen();
                }
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
fn a_version_depends_on_content_only() {
    let set = |texts: [&str; 2]| ResourceSet::new(texts.into_iter().map(resource));
    assert_eq!(set(["a@1", "b@1"]).version(), set(["b@1", "a@1"]).version());
    assert_ne!(set(["a@1", "b@1"]).version(), set(["a@1", "b@2"]).version());
    assert_eq!(Version::of(b"a@1").as_str(), "e351959bb58dfbb89901bf27c4657a61");
}
