//! A mesh in simulated time: proxies, an authority, and a network between them that loses, delays and repeats.

use crate::process::{Process, THREADS};
use kilocard_quota::{Authority, Grant, Report, Settings};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How bad the network is, and the proxies' threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) repetition: f64,
    pub(crate) max_delay: Duration,
    /// A request that is repeated comes again as late as this.
    pub(crate) max_late: Duration,
    pub(crate) max_lag: Duration,
}

impl Weather {
    pub(crate) const FINE: Self = Self {
        loss: 0.0,
        repetition: 0.0,
        max_delay: Duration::from_millis(2),
        max_late: Duration::ZERO,
        max_lag: Duration::from_millis(5),
    };
}

enum Event {
    /// With the number of the call before, unless another was made since.
    Call(u32, Option<u64>),
    Arrive {
        process: u32,
        call: u64,
        report: Report,
        sent: Duration,
    },
    Answer {
        process: u32,
        call: u64,
        grant: Grant,
        sent: Duration,
    },
    Apply(u32, usize),
    /// A lease ends somewhere.
    Look,
    /// By now every proxy has told the authority what it has.
    Heard(u64),
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) authority: Authority,
    pub(crate) settings: Settings,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) weather: Weather,
    pub(crate) keys: Vec<Arc<str>>,
    pub(crate) random: fastrand::Rng,
    /// The highest sum that was ever in use, of any key.
    pub(crate) most: u64,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: HashMap<u64, Event>,
    numbered: u64,
    born: u32,
    authorities: u64,
}

impl World {
    pub(crate) fn new(settings: Settings, weather: Weather, keys: usize, seed: u64) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            now,
            authority: Authority::new(
                Settings {
                    learning: Duration::ZERO,
                    ..settings.clone()
                },
                now,
            ),
            settings,
            processes: BTreeMap::new(),
            weather,
            keys: (0..keys).map(|key| format!("limit/{key}").into()).collect(),
            random: fastrand::Rng::with_seed(seed),
            most: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            numbered: 0,
            born: 0,
            authorities: 1,
        }
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.numbered += 1;
        self.queue.push(Reverse((self.now + after, self.numbered)));
        self.events.insert(self.numbered, event);
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }

    /// A process of a node of its own.
    pub(crate) fn join(&mut self) -> u32 {
        self.start(format!("node-{}", self.born + 1))
    }

    fn start(&mut self, node: String) -> u32 {
        self.born += 1;
        self.processes
            .insert(self.born, Process::new(format!("proxy-{}", self.born), node));
        let first = self.up_to(Duration::from_millis(500));
        self.at(first, Event::Call(self.born, None));
        self.born
    }

    /// It ends without a word.
    pub(crate) fn kill(&mut self, process: u32) {
        self.processes.remove(&process);
    }

    /// It ends without a word, and another is started in its place.
    pub(crate) fn restart(&mut self, process: u32) -> Option<u32> {
        let ended = self.processes.remove(&process)?;
        Some(self.start(ended.node))
    }

    /// It ends with a word that may be lost.
    pub(crate) fn leave(&mut self, process: u32) {
        if let Some(ended) = self.processes.remove(&process) {
            let delay = self.up_to(self.weather.max_delay);
            if self.random.f64() >= self.weather.loss {
                let (report, sent) = (ended.report(true), self.now);
                self.at(
                    delay,
                    Event::Arrive {
                        process,
                        call: 0,
                        report,
                        sent,
                    },
                );
            }
        }
    }

    /// The authority is lost with all that it knew, and another begins. That every proxy that has something finds it while it
    /// learns is what the law then rests on.
    pub(crate) fn replace_authority(&mut self) {
        self.authorities += 1;
        let settings = Settings {
            first_sequence: self.authorities * 1_000_000_000,
            ..self.settings.clone()
        };
        let last_word = settings.learning.saturating_sub(Duration::from_millis(1));
        self.authority = Authority::new(settings, self.now);
        self.at(last_word, Event::Heard(self.authorities));
    }

    /// Asks for so much of a key, in parts per million.
    pub(crate) fn demand(&mut self, process: u32, key: usize, parts: u32) {
        let key = Arc::clone(&self.keys[key]);
        if let Some(process) = self.processes.get_mut(&process) {
            process.demands.insert(key, parts);
        }
    }

    pub(crate) fn share(&self, process: u32, key: usize) -> u32 {
        self.processes
            .get(&process)
            .map_or(0, |process| process.share(&self.keys[key], self.now))
    }

    pub(crate) fn sum(&self, key: &str) -> u64 {
        let shares = self.processes.values().map(|process| process.share(key, self.now));
        shares.map(u64::from).sum()
    }

    /// Lets time pass; after every event what all may be using is compared with the whole.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, number))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
            self.look();
        }
        self.now = end;
        self.look();
    }

    fn look(&mut self) {
        for key in self.keys.iter().map(|key| &**key).chain(["a key that nobody asks for"]) {
            let sum = self.sum(key);
            self.most = self.most.max(sum);
            assert!(sum <= 1_000_000, "{sum} parts of {key} are in use at {:?}", self.now);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call(process, before) => {
                if self
                    .processes
                    .get(&process)
                    .is_some_and(|process| process.last_call == before)
                {
                    self.call(process);
                }
            }
            Event::Arrive {
                process,
                call,
                report,
                sent,
            } => {
                let answer = self.authority.exchange(self.now, &report);
                let delay = self.up_to(self.weather.max_delay);
                if let Ok(grant) = answer
                    && self.passes(process)
                {
                    self.at(
                        delay,
                        Event::Answer {
                            process,
                            call,
                            grant,
                            sent,
                        },
                    );
                }
            }
            Event::Answer {
                process,
                call,
                grant,
                sent,
            } => self.answer(process, call, grant, sent),
            Event::Apply(process, thread) => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.apply(thread);
                }
            }
            Event::Look => {}
            Event::Heard(authority) if authority == self.authorities => {
                for process in self.processes.values() {
                    // What is answered is lost.
                    drop(self.authority.exchange(self.now, &process.report(false)));
                }
            }
            Event::Heard(_) => {}
        }
    }

    fn passes(&mut self, process: u32) -> bool {
        let reachable = self.processes.get(&process).is_some_and(|process| !process.is_cut_off);
        reachable && self.random.f64() >= self.weather.loss
    }

    fn call(&mut self, id: u32) {
        self.numbered += 1;
        let (call, sent) = (self.numbered, self.now);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        (process.call, process.last_call) = (Some(call), Some(call));
        let report = process.report(false);
        // Until an answer says otherwise.
        self.at(Duration::from_millis(500), Event::Call(id, Some(call)));
        if self.passes(id) {
            let (report, delay) = (report.clone(), self.up_to(self.weather.max_delay));
            self.at(
                delay,
                Event::Arrive {
                    process: id,
                    call,
                    report,
                    sent,
                },
            );
        }
        if self.random.f64() < self.weather.repetition {
            let late = self.up_to(self.weather.max_late);
            self.at(
                late,
                Event::Arrive {
                    process: id,
                    call,
                    report,
                    sent,
                },
            );
        }
    }

    fn answer(&mut self, id: u32, call: u64, grant: Grant, sent: Duration) {
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.call == Some(call)) else {
            return;
        };
        let (ttl, next) = (grant.ttl, sent + grant.next_report);
        process.receive(grant, sent, self.now);
        self.at(next.saturating_sub(self.now), Event::Call(id, Some(call)));
        for thread in 0..THREADS {
            let lag = self.up_to(self.weather.max_lag);
            self.at(lag, Event::Apply(id, thread));
        }
        self.at((sent + ttl).saturating_sub(self.now), Event::Look);
        self.at(2 * ttl, Event::Look);
    }
}
