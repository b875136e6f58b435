//! A server and a client that talk over a network which delays what the client says and reorders it across types, while what is
//! served changes at random. The client follows the spec, refuses at random, reconnects with and without what it holds, and now
//! and then says nonsense. Whatever happens:
//!
//! 1. nothing panics, and the server comes to rest;
//! 2. no response names a resource twice, and none of several resources exceeds the size limit;
//! 3. of each type one response at most is unanswered;
//! 4. a refused response is not repeated while nothing has changed and nothing was asked;
//! 5. heartbeats are of what has a TTL and has been sent;
//! 6. in the end, when it asks for all it wants and accepts all it gets, the client holds what is served.

use super::machine::{Contents, Machine, Request, Response};
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// More responses than this in a row, and the server does not come to rest.
const ROUNDS: usize = 200;

/// Bytes that decide; zeros when they have run out.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn kind(&mut self) -> ResourceType {
        ResourceType::ALL[usize::from(self.byte()) % ResourceType::ALL.len()]
    }

    fn name(&mut self) -> String {
        let index = usize::from(self.byte()) % (NAMES.len() + 1);
        NAMES.get(index).copied().unwrap_or("*").to_owned()
    }

    fn is_over(&self) -> bool {
        self.0.len() == 0
    }
}

/// What the client knows of one type, and what it has said that has not arrived.
#[derive(Default)]
struct Side {
    interest: BTreeSet<String>,
    held: BTreeMap<String, Version>,
    version: String,
    nonce: String,
    inbox: VecDeque<Response>,
    outbox: VecDeque<Request>,
    /// The server has sent this and not been answered.
    unanswered: Option<Response>,
    /// Refused, and nothing has changed or been asked since it was sent.
    refused: Option<Contents>,
    /// Something has been asked since the last response was sent.
    asked: bool,
    /// Names sent on this stream, or brought along.
    sent: BTreeSet<String>,
}

impl Side {
    fn ask(&mut self) {
        (self.refused, self.asked) = (None, true);
    }

    fn wants(&self, name: &str) -> bool {
        self.interest.contains("*") || self.interest.contains(name)
    }
}

struct Conversation {
    delta: bool,
    limit: usize,
    machine: Machine,
    served: BTreeMap<ResourceType, ResourceSet>,
    sides: BTreeMap<ResourceType, Side>,
}

/// Runs a conversation.
pub fn run(data: &[u8]) {
    let mut choices = Choices(data.iter());
    let delta = choices.byte().is_multiple_of(2);
    // From one resource a response to all.
    let limit = 150 + 8 * usize::from(choices.byte());
    let mut conversation = Conversation {
        delta,
        limit,
        machine: Machine::new(delta, limit),
        served: BTreeMap::new(),
        sides: BTreeMap::new(),
    };
    while !choices.is_over() {
        conversation.step(&mut choices);
    }
    conversation.finish();
}

impl Conversation {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let op = choices.byte() % 16;
        match op {
            0..3 => self.serve(choices),
            3 => self.subscribe(choices.kind(), choices.name()),
            4 => self.unsubscribe(choices.kind(), &choices.name()),
            5..8 => {
                let (kind, refuse) = (choices.kind(), choices.byte().is_multiple_of(4));
                self.answer(kind, refuse);
            }
            8..12 => self.deliver(choices.kind()),
            12 => self.nonsense(choices),
            13 => self.reconnect(choices.byte().is_multiple_of(2)),
            14 => {
                let snapshot = self.snapshot();
                self.machine.refresh(&snapshot);
                self.listen();
            }
            _ => {
                self.machine.end_opening();
                self.listen();
            }
        }
        self.machine.inspect(&self.snapshot());
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.served.iter().map(|(kind, set)| (*kind, set.clone())))
    }

    fn side(&mut self, kind: ResourceType) -> &mut Side {
        self.sides.entry(kind).or_default()
    }

    fn serve(&mut self, choices: &mut Choices<'_>) {
        let (kind, mask, content) = (choices.kind(), choices.byte(), choices.byte());
        let there = (0..NAMES.len()).filter(|index| mask >> index & 1 == 1);
        let resource = |index: usize| {
            let resource = Resource::new(NAMES[index], vec![content % 4; 1 + usize::from(content) % 40]);
            match mask >> (4 + index % 4) & 1 {
                0 => resource,
                _ => resource.with_ttl(Duration::from_secs(30)),
            }
        };
        self.replace(kind, ResourceSet::new(there.map(resource)));
        self.listen();
    }

    fn replace(&mut self, kind: ResourceType, set: ResourceSet) {
        let version = |name: &str| set.get(name).map(|resource| &resource.version);
        if let Some(side) = self.sides.get_mut(&kind) {
            side.refused
                .take_if(|refused| refused.iter().any(|(name, refused)| version(name) != refused.as_ref()));
        }
        self.served.insert(kind, set);
    }

    /// Takes all that the server has to say.
    fn listen(&mut self) {
        let snapshot = self.snapshot();
        for _ in 0..ROUNDS {
            let Some(response) = self.machine.next(&snapshot) else {
                return;
            };
            self.check(&response, &snapshot);
            if response.kind == ResourceType::Cluster {
                // A changed cluster asks for its endpoints, refused or not.
                let endpoints = self.sides.get_mut(&ResourceType::Endpoints);
                endpoints.into_iter().for_each(Side::ask);
            }
            let side = self.side(response.kind);
            (side.refused, side.asked) = (None, false);
            side.sent.extend(response.contents.keys().cloned());
            side.unanswered = Some(response.clone());
            side.inbox.push_back(response);
        }
        panic!("the server does not come to rest");
    }

    fn check(&self, response: &Response, snapshot: &Snapshot) {
        let side = self.sides.get(&response.kind);
        let side = side.unwrap_or_else(|| panic!("nobody asked for {response:?}"));
        assert!(side.unanswered.is_none(), "law 3: {response:?}");
        assert_ne!(side.refused.as_ref(), Some(&response.contents), "law 4: {response:?}");
        assert!(
            !self.delta || response.contents.len() < 2 || response.bytes <= self.limit,
            "law 2: {response:?} exceeds {}",
            self.limit
        );
        for name in &response.heartbeats {
            let served = snapshot.set(response.kind).and_then(|set| set.get(name));
            assert!(
                served.is_some_and(|resource| resource.ttl.is_some()),
                "law 5: {response:?}"
            );
            assert!(side.sent.contains(name), "law 5: {response:?}");
        }
    }

    fn subscribe(&mut self, kind: ResourceType, name: String) {
        let side = self.side(kind);
        side.interest.insert(name.clone());
        let request = Request {
            subscribe: vec![name],
            ..Request::new(kind)
        };
        self.say(request);
    }

    fn unsubscribe(&mut self, kind: ResourceType, name: &str) {
        let side = self.side(kind);
        if !side.interest.remove(name) {
            return;
        }
        let interest = side.interest.clone();
        side.held
            .retain(|name, _| interest.contains("*") || interest.contains(name));
        let request = Request {
            unsubscribe: vec![name.to_owned()],
            ..Request::new(kind)
        };
        self.say(request);
    }

    /// The request goes off; state of the world names everything, the version and the newest nonce each time.
    fn say(&mut self, mut request: Request) {
        let side = self.side(request.kind);
        request.names = side.interest.iter().cloned().collect();
        request.version.clone_from(&side.version);
        if request.nonce.is_empty() && !matches!(self.machine, Machine::Delta(_)) {
            let side = self.side(request.kind);
            request.nonce.clone_from(&side.nonce);
        }
        let kind = request.kind;
        self.side(kind).outbox.push_back(request);
    }

    /// Applies or refuses the response that came first. Who refuses may have applied a part of it.
    fn answer(&mut self, kind: ResourceType, refuse: bool) {
        let full = !self.delta && kind.full_state();
        let side = self.side(kind);
        let Some(response) = side.inbox.pop_front() else {
            return;
        };
        if full && !refuse {
            side.held.clear();
        }
        for (place, (name, version)) in response.contents.iter().enumerate() {
            if refuse && place % 2 == 0 {
                continue;
            }
            match version {
                Some(version) if side.wants(name) => side.held.insert(name.clone(), version.clone()),
                _ => side.held.remove(name),
            };
        }
        side.nonce.clone_from(&response.nonce);
        if !refuse {
            side.version.clone_from(&response.version);
        }
        let request = Request {
            nonce: response.nonce,
            error: refuse.then(|| "refused".to_owned()),
            ..Request::new(kind)
        };
        self.say(request);
    }

    /// The oldest request of the type arrives.
    fn deliver(&mut self, kind: ResourceType) {
        let Some(request) = self.side(kind).outbox.pop_front() else {
            return;
        };
        self.arrive(request);
    }

    fn arrive(&mut self, request: Request) {
        let served = self.served.get(&request.kind).cloned().unwrap_or_default();
        let delta = self.delta;
        let side = self.side(request.kind);
        let asks = !request.subscribe.is_empty() || !request.unsubscribe.is_empty() || !delta;
        let answered = side.unanswered.take_if(|response| response.nonce == request.nonce);
        if asks {
            // In the state of the world every request may ask for something, so there is less to be said.
            side.ask();
        } else if let Some(response) = answered.filter(|_| request.error.is_some() && !side.asked) {
            let version = |name: &String| served.get(name).map(|resource| resource.version.clone());
            let unchanged = response.contents.iter().all(|(name, sent)| version(name) == *sent);
            side.refused = (unchanged && !response.contents.is_empty()).then_some(response.contents);
        }
        self.machine.take(request);
        self.listen();
    }

    /// What no client should say.
    fn nonsense(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.kind();
        let mut request = Request::new(kind);
        let flags = choices.byte();
        request.nonce = match flags % 4 {
            0 => String::new(),
            1 => "no nonce at all".to_owned(),
            2 => choices.byte().to_string(),
            _ => self.side(kind).nonce.clone(),
        };
        request.error = (flags & 4 != 0).then(|| "é".repeat(usize::from(flags)));
        for _ in 0..choices.byte() % 4 {
            request.subscribe.push(choices.name());
            request.unsubscribe.push(choices.name());
            request.names.push(choices.name());
            request.held.insert(choices.name(), Version::from("made up"));
        }
        if flags & 8 != 0 {
            request.subscribe.push(String::new());
            request.names.push(String::new());
        }
        request.version = if flags & 16 != 0 {
            "made up".to_owned()
        } else {
            String::new()
        };
        let side = self.side(kind);
        side.unanswered.take_if(|response| response.nonce == request.nonce);
        side.ask();
        side.sent.extend(request.held.keys().cloned());
        self.machine.take(request);
        self.listen();
    }

    /// A new stream: what was on its way is lost, and no nonce survives.
    fn reconnect(&mut self, with_versions: bool) {
        self.machine = Machine::new(self.delta, self.limit);
        let kinds: Vec<ResourceType> = self.sides.keys().copied().collect();
        for kind in kinds {
            let side = self.side(kind);
            side.inbox.clear();
            side.outbox.clear();
            side.nonce.clear();
            (side.unanswered, side.refused) = (None, None);
            side.sent = side.held.keys().cloned().collect();
            if side.interest.is_empty() {
                // Silence: an empty list would mean everything.
                self.sides.remove(&kind);
                continue;
            }
            let mut request = Request {
                subscribe: side.interest.iter().cloned().collect(),
                ..Request::new(kind)
            };
            if with_versions {
                request.held.clone_from(&side.held);
            } else {
                side.held.clear();
                side.version.clear();
            }
            self.say(request);
        }
    }

    /// The client asks for all it wants, everything served is new, and the client takes it.
    fn finish(&mut self) {
        let kinds: Vec<ResourceType> = self.sides.keys().copied().collect();
        for kind in &kinds {
            while !self.side(*kind).outbox.is_empty() {
                self.deliver(*kind);
            }
        }
        self.machine.end_opening();
        for kind in &kinds {
            let side = self.side(*kind);
            let interest: Vec<String> = side.interest.iter().cloned().collect();
            // What nonsense has subscribed to is none of the client's.
            let mut all: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
            all.extend(["*".to_owned(), String::new()]);
            all.retain(|name| !interest.contains(name));
            let request = Request {
                subscribe: interest,
                unsubscribe: all,
                ..Request::new(*kind)
            };
            self.say(request);
            self.deliver(*kind);
        }
        for (content, count) in [(100_u8, NAMES.len()), (101, 2)] {
            for kind in ResourceType::ALL {
                let names = NAMES.iter().take(count);
                self.replace(
                    kind,
                    ResourceSet::new(names.map(|name| Resource::new(*name, vec![content]))),
                );
            }
            self.listen();
            self.accept_all(&kinds);
        }
        self.check_converged();
    }

    fn accept_all(&mut self, kinds: &[ResourceType]) {
        for _ in 0..ROUNDS {
            let waiting = kinds.iter().copied().find(|kind| !self.side(*kind).inbox.is_empty());
            let Some(kind) = waiting else { return };
            self.answer(kind, false);
            while !self.side(kind).outbox.is_empty() {
                self.deliver(kind);
            }
        }
        panic!("the server never comes to rest");
    }

    fn check_converged(&self) {
        for (kind, side) in &self.sides {
            let set = self.served.get(kind).cloned().unwrap_or_default();
            let wanted: BTreeMap<&str, &Version> = set
                .iter()
                .filter(|resource| side.wants(&resource.name))
                .map(|resource| (resource.name.as_str(), &resource.version))
                .collect();
            let mut held: BTreeMap<&str, &Version> = side
                .held
                .iter()
                .map(|(name, version)| (name.as_str(), version))
                .collect();
            if !self.delta && !kind.full_state() {
                // "The API provides no mechanism for the server to tell the client that resources have been deleted."
                held.retain(|name, _| set.get(name).is_some());
            }
            assert_eq!(held, wanted, "law 6: {kind:?}");
        }
    }
}
