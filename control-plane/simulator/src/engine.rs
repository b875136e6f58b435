//! The event loop: arrivals, completions, faults, reports, ticks and pushes in order of time.

use crate::balancer::{Balancer, View};
use crate::card::{Card, Job};
use crate::chance::stream;
use crate::control::{Control, Report};
use crate::moment::Moment;
use crate::record::{Record, Recorder};
use crate::scenario::{Change, Scenario, TICK};
use crate::sensor::Sensor;
use crate::workload::{Arrival, Workload};
use fastrand::Rng;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

/// How often a gateway picks for one request before it gives up, as the mesh's routes say.
const ATTEMPTS: usize = 3;

/// What is compared.
pub struct Contender<'a> {
    /// Makes a thread's balancer, given the thread's random number.
    pub balancer: &'a dyn Fn(u32) -> Box<dyn Balancer>,
    /// What tells the gateways.
    pub control: Box<dyn Control>,
}

/// Runs the scenario to the last answer. `progress` is told the time now and then.
pub fn run(scenario: &Scenario, contender: Contender<'_>, seed: u64, progress: &mut dyn FnMut(Moment)) -> Record {
    let mut simulation = Simulation::new(scenario, contender, seed);
    let mut told = 0;
    while let Some(Reverse(Scheduled { at, event, .. })) = simulation.events.pop() {
        if at.steps(TICK) != told {
            told = at.steps(TICK);
            progress(at);
        }
        simulation.happen(at, event);
    }
    simulation.recorder.finish()
}

#[derive(Debug)]
enum Event {
    Arrive(Arrival),
    Complete { card: usize, generation: u64 },
    Change { card: usize, change: Change },
    Read { card: usize },
    Report(Box<Report>),
    Tick,
    Push { gateway: usize, view: Rc<View> },
}

#[derive(Debug)]
struct Scheduled {
    at: Moment,
    order: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then_with(|| self.order.cmp(&other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

struct Gateway {
    threads: Vec<Box<dyn Balancer>>,
    in_flight: Vec<u32>,
    view: Rc<View>,
}

struct Site {
    card: Card,
    sensor: Sensor,
    alive: bool,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    events: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    workload: Workload,
    sites: Vec<Site>,
    members: Vec<bool>,
    gateways: Vec<Gateway>,
    control: Box<dyn Control>,
    picks: Rng,
    noise: Rng,
    under_way: usize,
    recorder: Recorder,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, contender: Contender<'_>, seed: u64) -> Self {
        let cards = scenario.cards.len();
        let mut starts = stream(seed, 2);
        let gateway = |_| Gateway {
            threads: (0..scenario.threads)
                .map(|_| (contender.balancer)(starts.u32(..)))
                .collect(),
            in_flight: vec![0; cards],
            view: Rc::default(),
        };
        let gateways = (0..scenario.gateways).map(gateway).collect();
        let members: Vec<bool> = (0..cards).map(|card| scenario.is_there_at_first(card)).collect();
        let site = |(spec, alive): (&crate::scenario::CardSpec, &bool)| Site {
            card: Card::new(spec.speed, spec.slots),
            sensor: Sensor::default(),
            alive: *alive,
        };
        let mut simulation = Self {
            scenario,
            events: BinaryHeap::new(),
            order: 0,
            workload: Workload::new(scenario, seed),
            sites: scenario.cards.iter().zip(&members).map(site).collect(),
            members,
            gateways,
            control: contender.control,
            picks: stream(seed, 3),
            noise: stream(seed, 4),
            under_way: 0,
            recorder: Recorder::new(scenario),
        };
        simulation.begin();
        simulation
    }

    fn begin(&mut self) {
        for (at, card, change) in self.scenario.changes() {
            self.schedule(at, Event::Change { card, change });
        }
        let cards = self.sites.len();
        for card in 0..cards {
            // Cards report in turn, not all at once.
            let part = (card + 1) as f64 / cards as f64;
            let first = Moment::at(self.scenario.telemetry.interval.mul_f64(part));
            self.schedule(first, Event::Read { card });
        }
        // Gateways know the mesh before the first request.
        if let Some(view) = self.control.tick(Moment::default(), &self.members) {
            let view = Rc::new(view);
            for gateway in 0..self.gateways.len() {
                self.push(gateway, Rc::clone(&view));
            }
        }
        self.schedule(Moment::at(TICK), Event::Tick);
        self.schedule_arrival();
    }

    fn schedule(&mut self, at: Moment, event: Event) {
        let order = self.order;
        self.order += 1;
        self.events.push(Reverse(Scheduled { at, order, event }));
    }

    fn schedule_arrival(&mut self) {
        if let Some(arrival) = self.workload.next()
            && arrival.at < self.scenario.end()
        {
            self.under_way += 1;
            self.schedule(arrival.at, Event::Arrive(arrival));
        }
    }

    fn schedule_completion(&mut self, card: usize) {
        let next = self.sites.get(card).and_then(|site| site.card.next_completion());
        if let Some((at, generation)) = next {
            self.schedule(at, Event::Complete { card, generation });
        }
    }

    fn happen(&mut self, now: Moment, event: Event) {
        match event {
            Event::Arrive(arrival) => {
                self.schedule_arrival();
                self.arrive(now, arrival);
            }
            Event::Complete { card, generation } => self.complete(now, card, generation),
            Event::Change { card, change } => self.change(now, card, change),
            Event::Read { card } => self.read(now, card),
            Event::Report(report) => self.control.report(now, &report),
            Event::Tick => self.tick(now),
            Event::Push { gateway, view } => self.push(gateway, view),
        }
    }

    fn arrive(&mut self, now: Moment, arrival: Arrival) {
        self.recorder
            .roll(now, self.gateways.iter().map(|gateway| gateway.view.as_ref()));
        self.recorder.arrived(now);
        for _ in 0..ATTEMPTS {
            let Some(card) = self.pick(arrival) else { break };
            if !self.sites.get(card).is_some_and(|site| site.alive) {
                self.recorder.refused(now);
                continue;
            }
            self.recorder.sent(now, arrival.gateway, card);
            let job = Job {
                arrived: now,
                gateway: arrival.gateway,
                work: arrival.work,
            };
            if let Some(site) = self.sites.get_mut(card) {
                site.card.take(now, job);
            }
            self.count_in_flight(arrival.gateway, card, 1);
            self.schedule_completion(card);
            return;
        }
        self.under_way -= 1;
        self.recorder.failed(now);
    }

    fn pick(&mut self, arrival: Arrival) -> Option<usize> {
        let gateway = self.gateways.get_mut(arrival.gateway)?;
        let balancer = gateway.threads.get_mut(arrival.thread)?;
        balancer.pick(&gateway.in_flight, &mut self.picks)
    }

    fn count_in_flight(&mut self, gateway: usize, card: usize, change: i32) {
        let gateway = self.gateways.get_mut(gateway);
        if let Some(count) = gateway.and_then(|gateway| gateway.in_flight.get_mut(card)) {
            *count = count.saturating_add_signed(change);
        }
    }

    fn complete(&mut self, now: Moment, card: usize, generation: u64) {
        let site = self.sites.get_mut(card);
        if let Some(job) = site.and_then(|site| site.card.complete(now, generation)) {
            self.under_way -= 1;
            self.count_in_flight(job.gateway, card, -1);
            self.recorder.answered(job.arrived, now);
            self.schedule_completion(card);
        }
    }

    fn change(&mut self, now: Moment, index: usize, change: Change) {
        let speed = self.scenario.cards.get(index).map_or(0.0, |spec| spec.speed);
        let Some(site) = self.sites.get_mut(index) else { return };
        match change {
            Change::Speed(factor) => {
                site.card.set_speed(now, speed * factor);
                site.sensor.set_clock(now, factor);
                self.schedule_completion(index);
            }
            Change::Fail => {
                site.alive = false;
                for job in site.card.lose_all(now) {
                    self.under_way -= 1;
                    self.count_in_flight(job.gateway, index, -1);
                    self.recorder.failed(job.arrived);
                }
            }
            Change::Member(is_member) => {
                site.alive = is_member;
                if let Some(member) = self.members.get_mut(index) {
                    *member = is_member;
                }
            }
        }
    }

    /// Reports and ticks end with the last request: without requests there is nothing to balance.
    fn goes_on(&self, now: Moment) -> bool {
        self.under_way > 0 || now < self.scenario.end()
    }

    fn read(&mut self, now: Moment, card: usize) {
        if !self.goes_on(now) {
            return;
        }
        let spec = &self.scenario.telemetry;
        let (interval, delivered) = (spec.interval, now.after(spec.delay));
        let is_lost = spec.outage.is_some_and(|(from, lasts)| {
            let from = self.scenario.begin().after(from);
            from <= delivered && delivered < from.after(lasts)
        });
        let is_member = self.members.get(card).copied().unwrap_or_default();
        if let Some(site) = self.sites.get_mut(card) {
            let failed = !site.alive;
            let reading = site.sensor.read(now, &mut site.card, spec.noise, &mut self.noise);
            let report = Report {
                card,
                failed,
                ..reading
            };
            if is_member && !is_lost {
                self.schedule(delivered, Event::Report(Box::new(report)));
            }
        }
        self.schedule(now.after(interval), Event::Read { card });
    }

    fn tick(&mut self, now: Moment) {
        if !self.goes_on(now) {
            return;
        }
        if let Some(view) = self.control.tick(now, &self.members) {
            self.recorder.pushed(now);
            let view = Rc::new(view);
            for gateway in 0..self.gateways.len() {
                let delay = self.scenario.push_delay.mul_f64(0.5 + self.picks.f64() / 2.0);
                let view = Rc::clone(&view);
                self.schedule(now.after(delay), Event::Push { gateway, view });
            }
        }
        self.schedule(now.after(TICK), Event::Tick);
    }

    fn push(&mut self, gateway: usize, view: Rc<View>) {
        if let Some(gateway) = self.gateways.get_mut(gateway) {
            for balancer in &mut gateway.threads {
                balancer.update(&view, &gateway.in_flight);
            }
            gateway.view = view;
        }
    }
}

#[cfg(test)]
mod tests;
