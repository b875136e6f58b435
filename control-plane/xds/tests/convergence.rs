//! A client that follows the spec, random snapshots, subscriptions, refusals and reconnects: whatever happens, the client
//! ends up with what is served, and nothing forbidden is said on the way.

use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use kilocard_xds::{delta, sotw};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What clusters and endpoints must be in place for.
const REFERRERS: [ResourceType; 3] = [ResourceType::Listener, ResourceType::Route, ResourceType::Extension];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    /// The type now consists of these (name, content) pairs.
    Serve(ResourceType, BTreeMap<usize, u8>),
    Subscribe(ResourceType, usize),
    Unsubscribe(ResourceType, usize),
    /// The client answers the oldest response of the type; `true` refuses it.
    Answer(ResourceType, bool),
    Reconnect,
    /// Nothing more is to be expected of the client that has reconnected.
    EndOpening,
}

fn kind() -> impl Strategy<Value = ResourceType> {
    prop::sample::select(ResourceType::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (kind(), prop::collection::btree_map(0..NAMES.len(), 0..4_u8, 0..=NAMES.len())).prop_map(|(k, s)| Step::Serve(k, s)),
        2 => (kind(), 0..=NAMES.len()).prop_map(|(k, n)| Step::Subscribe(k, n)),
        1 => (kind(), 0..=NAMES.len()).prop_map(|(k, n)| Step::Unsubscribe(k, n)),
        6 => (kind(), prop::bool::weighted(0.25)).prop_map(|(k, refuse)| Step::Answer(k, refuse)),
        1 => Just(Step::Reconnect),
        1 => Just(Step::EndOpening),
    ]
}

/// Name to version; `None` for a removal.
type Contents = BTreeMap<String, Option<Version>>;

#[derive(Clone, Debug)]
struct Message {
    kind: ResourceType,
    nonce: String,
    version: Version,
    contents: Contents,
}

/// Either protocol behind one face.
enum Server {
    Delta(delta::Stream),
    Sotw(sotw::Stream),
}

impl Server {
    fn next(&mut self, snapshot: &Snapshot) -> Option<Message> {
        let (kind, nonce, version, resources, removed) = match self {
            Self::Delta(stream) => {
                let r = stream.next_response(snapshot)?;
                (r.kind, r.nonce, r.system_version, r.resources, r.removed)
            }
            Self::Sotw(stream) => {
                let r = stream.next_response(snapshot)?;
                (r.kind, r.nonce, r.version, r.resources, Vec::new())
            }
        };
        let count = resources.len() + removed.len();
        let sent = resources
            .iter()
            .map(|resource| (resource.name.clone(), Some(resource.version.clone())));
        let contents: Contents = sent.chain(removed.into_iter().map(|name| (name, None))).collect();
        // "It is an error for a server to send a single response that contains the same resource name twice."
        assert_eq!(contents.len(), count, "a name twice in one response");
        Some(Message {
            kind,
            nonce,
            version,
            contents,
        })
    }
}

/// What the client knows of one type.
#[derive(Debug, Default)]
struct Cache {
    held: BTreeMap<String, Version>,
    /// Names; `*` among them.
    interest: BTreeSet<String>,
    version: String,
    nonce: String,
    inbox: VecDeque<Message>,
    /// The last response, if it was refused, nothing in it has changed and the client has not asked anew since it was sent.
    refused: Option<Contents>,
    /// Whether the client has asked for something since the last response was sent.
    asked: bool,
    /// Names asked about and not answered yet: that they do not exist may be said at any time.
    questions: BTreeSet<String>,
    /// State of the world: what the last response on this stream named, as far as it is still wanted.
    told: BTreeSet<String>,
}

impl Cache {
    fn wants(&self, name: &str) -> bool {
        self.interest.contains("*") || self.interest.contains(name)
    }
}

struct Client {
    sotw: bool,
    server: Server,
    caches: BTreeMap<ResourceType, Cache>,
    served: BTreeMap<ResourceType, ResourceSet>,
}

impl Client {
    fn new(sotw: bool) -> Self {
        Self {
            sotw,
            server: Self::server(sotw),
            caches: BTreeMap::new(),
            served: BTreeMap::new(),
        }
    }

    fn server(sotw: bool) -> Server {
        if sotw {
            Server::Sotw(sotw::Stream::new())
        } else {
            Server::Delta(delta::Stream::new())
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.served.iter().map(|(kind, set)| (*kind, set.clone())))
    }

    fn listen(&mut self) {
        let snapshot = self.snapshot();
        while let Some(message) = self.server.next(&snapshot) {
            if let (ResourceType::Cluster, Some(endpoints)) =
                (message.kind, self.caches.get_mut(&ResourceType::Endpoints))
            {
                // A changed cluster asks for its endpoints, refused or not.
                endpoints.refused = None;
                endpoints.asked = true;
            }
            let cache = self
                .caches
                .get_mut(&message.kind)
                .expect("only types that were asked for");
            assert!(cache.inbox.is_empty(), "one response at a time");
            assert_ne!(
                cache.refused.as_ref(),
                Some(&message.contents),
                "a refused response again"
            );
            self.check_order(&message);
            let cache = self.caches.get_mut(&message.kind).expect("checked above");
            cache.refused = None;
            cache.asked = false;
            cache.questions.clear();
            cache.told = message.contents.keys().cloned().collect();
            cache.inbox.push_back(message);
        }
    }

    /// Rules 2 and 4 of the crate's documentation, from the client's side.
    fn check_order(&self, message: &Message) {
        let unanswered = |kind: &ResourceType| self.caches.get(kind).is_some_and(|cache| !cache.inbox.is_empty());
        let (cluster, endpoints) = (ResourceType::Cluster, ResourceType::Endpoints);
        if REFERRERS.contains(&message.kind) {
            assert!(!unanswered(&cluster) && !unanswered(&endpoints), "rule 2: {message:?}");
            return;
        }
        if message.kind == ResourceType::Runtime {
            return;
        }
        let cache = &self.caches[&message.kind];
        let removed: Vec<&String> = if !self.sotw {
            let removed = message.contents.iter().filter(|(_, version)| version.is_none());
            removed
                .map(|(name, _)| name)
                .filter(|name| !cache.questions.contains(*name))
                .collect()
        } else if message.kind.full_state() {
            cache
                .told
                .iter()
                .filter(|name| !message.contents.contains_key(*name) && !cache.questions.contains(*name))
                .collect()
        } else {
            return;
        };
        if removed.is_empty() {
            return;
        }
        assert!(
            message.kind == cluster || !unanswered(&cluster),
            "rule 4, clusters unanswered: {message:?}"
        );
        for kind in REFERRERS {
            assert!(!unanswered(&kind), "rule 4, {kind:?} unanswered: {message:?}");
            let Some(cache) = self.caches.get(&kind) else { continue };
            assert!(cache.refused.is_none(), "rule 4, {kind:?} refused: {message:?}");
            for resource in self.served.get(&kind).into_iter().flat_map(ResourceSet::iter) {
                assert!(
                    !cache.wants(&resource.name) || cache.held.get(&resource.name) == Some(&resource.version),
                    "rule 4, {kind:?} {} is not what is served: {message:?}",
                    resource.name
                );
            }
        }
    }

    fn end_opening(&mut self) {
        if let Server::Delta(stream) = &mut self.server {
            stream.end_opening();
        }
        self.listen();
    }

    /// A request without an answer: subscriptions only.
    fn say(&mut self, kind: ResourceType, subscribe: Vec<String>, unsubscribe: Vec<String>) {
        self.request(kind, String::new(), None, subscribe, unsubscribe);
    }

    fn request(
        &mut self,
        kind: ResourceType,
        nonce: String,
        error: Option<String>,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
    ) {
        let cache = self.caches.entry(kind).or_default();
        match &mut self.server {
            Server::Delta(stream) => {
                let request = delta::Request {
                    nonce,
                    error,
                    subscribe,
                    unsubscribe,
                    ..delta::Request::new(kind)
                };
                stream.on_request(request).expect("a request within limits");
            }
            Server::Sotw(stream) => {
                let names = cache.interest.iter().cloned().collect();
                let nonce = cache.nonce.clone();
                stream
                    .on_request(sotw::Request {
                        kind,
                        version: cache.version.clone(),
                        nonce,
                        names,
                        error,
                    })
                    .expect("within limits");
            }
        }
        self.listen();
    }

    fn subscribe(&mut self, kind: ResourceType, name: &str) {
        let cache = self.caches.entry(kind).or_default();
        cache.interest.insert(name.to_owned());
        cache.refused = None;
        cache.asked = true;
        cache.questions.insert(name.to_owned());
        self.say(kind, vec![name.to_owned()], vec![]);
    }

    fn unsubscribe(&mut self, kind: ResourceType, name: &str) {
        let Some(cache) = self.caches.get_mut(&kind) else {
            return;
        };
        if cache.interest.remove(name) {
            let interest = &cache.interest;
            cache
                .held
                .retain(|name, _| interest.contains("*") || interest.contains(name));
            cache
                .told
                .retain(|name| interest.contains("*") || interest.contains(name));
            // Whether it is in the wildcard is answered.
            cache.questions.insert(name.to_owned());
            cache.refused = None;
            cache.asked = true;
            self.say(kind, vec![], vec![name.to_owned()]);
        }
    }

    /// Applies or refuses the response that lies there. A refusing client may have applied a part of it: every other name.
    fn answer(&mut self, kind: ResourceType, refuse: bool) {
        let full = self.sotw && kind.full_state();
        let Some(cache) = self.caches.get_mut(&kind) else {
            return;
        };
        let Some(message) = cache.inbox.pop_front() else { return };
        if full && !refuse {
            cache.held.clear();
        }
        for (place, (name, version)) in message.contents.iter().enumerate() {
            if refuse && place % 2 == 0 {
                continue;
            }
            match version {
                Some(version) if cache.wants(name) => cache.held.insert(name.clone(), version.clone()),
                _ => cache.held.remove(name),
            };
        }
        cache.nonce.clone_from(&message.nonce);
        let served = self.served.get(&kind);
        let unchanged = message.contents.iter().all(|(name, version)| {
            served.and_then(|set| set.get(name)).map(|resource| &resource.version) == version.as_ref()
        });
        cache.refused =
            (refuse && unchanged && !cache.asked && !message.contents.is_empty()).then(|| message.contents.clone());
        if !refuse {
            cache.version = message.version.to_string();
        }
        self.request(
            kind,
            message.nonce,
            refuse.then(|| "refused".to_owned()),
            vec![],
            vec![],
        );
    }

    /// A new stream: the client says all it wants and what it has. No nonce survives.
    fn reconnect(&mut self) {
        self.server = Self::server(self.sotw);
        let kinds: Vec<ResourceType> = self.caches.keys().copied().collect();
        for kind in kinds {
            let cache = self.caches.get_mut(&kind).expect("listed above");
            cache.inbox.clear();
            cache.nonce.clear();
            cache.refused = None;
            cache.told.clear();
            cache.questions = cache
                .interest
                .iter()
                .filter(|name| !cache.held.contains_key(*name))
                .cloned()
                .collect();
            if cache.interest.is_empty() {
                // Silence: an empty list would mean everything.
                self.caches.remove(&kind);
                continue;
            }
            if let Server::Delta(stream) = &mut self.server {
                let request = delta::Request {
                    subscribe: cache.interest.iter().cloned().collect(),
                    initial_versions: cache.held.clone(),
                    ..delta::Request::new(kind)
                };
                stream.on_request(request).expect("a request within limits");
                self.listen();
            } else {
                self.say(kind, vec![], vec![]);
            }
        }
    }

    fn step(&mut self, step: Step) {
        let name = |index: usize| NAMES.get(index).copied().unwrap_or("*");
        match step {
            Step::Serve(kind, contents) => {
                let resource = |(index, content): (usize, u8)| Resource::new(name(index), vec![content]);
                self.serve(kind, ResourceSet::new(contents.into_iter().map(resource)));
                self.listen();
            }
            Step::Subscribe(kind, index) => self.subscribe(kind, name(index)),
            Step::Unsubscribe(kind, index) => self.unsubscribe(kind, name(index)),
            Step::Answer(kind, refuse) => self.answer(kind, refuse),
            Step::Reconnect => self.reconnect(),
            Step::EndOpening => self.end_opening(),
        }
    }

    fn serve(&mut self, kind: ResourceType, set: ResourceSet) {
        if let Some(cache) = self.caches.get_mut(&kind) {
            let version = |name: &str| set.get(name).map(|resource| &resource.version);
            cache
                .refused
                .take_if(|refused| refused.iter().any(|(name, refused)| version(name) != refused.as_ref()));
        }
        self.served.insert(kind, set);
    }

    /// Serves everything anew, so that no refusal stands, then takes a part away; the client accepts all of it.
    fn finish(&mut self) {
        self.end_opening();
        for (content, partial) in [(100_u8, false), (200, true)] {
            for (round, kind) in ResourceType::ALL.into_iter().enumerate() {
                let resources = NAMES
                    .iter()
                    .take(if partial { round } else { NAMES.len() })
                    .map(|name| Resource::new(*name, vec![content]));
                self.serve(kind, ResourceSet::new(resources));
            }
            self.listen();
            self.accept_all();
        }
    }

    fn accept_all(&mut self) {
        for _ in 0..100 {
            let waiting = |kind: &ResourceType| self.caches.get(kind).is_some_and(|cache| !cache.inbox.is_empty());
            let Some(kind) = ResourceType::ALL.into_iter().find(waiting) else {
                return;
            };
            self.answer(kind, false);
        }
        panic!("the server never comes to rest");
    }

    fn check_converged(&self) {
        for (kind, cache) in &self.caches {
            let set = self.served.get(kind).expect("served in the end");
            let wanted: BTreeMap<String, Version> = set
                .iter()
                .filter(|r| cache.wants(&r.name))
                .map(|r| (r.name.clone(), r.version.clone()))
                .collect();
            let mut held = cache.held.clone();
            if self.sotw && !kind.full_state() {
                // "The API provides no mechanism for the server to tell the client that resources have been deleted."
                held.retain(|name, _| set.get(name).is_some());
            }
            assert_eq!(held, wanted, "{kind:?}");
        }
        let reports = match &self.server {
            Server::Delta(stream) => stream.report(),
            Server::Sotw(stream) => stream.report(),
        };
        assert!(reports.iter().all(|report| !report.in_flight), "{reports:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_client_converges(steps in prop::collection::vec(step(), 1..80)) {
        let mut client = Client::new(false);
        steps.into_iter().for_each(|step| client.step(step));
        client.finish();
        client.check_converged();
    }

    #[test]
    fn a_state_of_the_world_client_converges(steps in prop::collection::vec(step(), 1..80)) {
        let mut client = Client::new(true);
        steps.into_iter().for_each(|step| client.step(step));
        client.finish();
        client.check_converged();
    }
}
