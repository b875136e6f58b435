//! A simulated GPU: it shares its speed among the requests that it holds in its slots, as continuous batching does, and
//! queues the rest in order.

use crate::moment::Moment;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// A request on its way through the cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// When it came to its gateway.
    pub arrived: Moment,
    /// Which gateway that was.
    pub gateway: usize,
    /// How much it takes: seconds of a card of speed 1 that does nothing else.
    pub work: f64,
}

/// A job in a slot. Every job in a slot gets the same attention, so all that differs is when it had enough of it.
#[derive(Clone, Copy, Debug)]
struct Running {
    /// The card's attention per job at which this one is finished.
    until: f64,
    /// Order of arrival at the card, for jobs that finish at once.
    order: u64,
    job: Job,
}

impl Ord for Running {
    /// The largest is the first to finish: `BinaryHeap` gives the largest.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .until
            .total_cmp(&self.until)
            .then_with(|| other.order.cmp(&self.order))
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Running {}

/// What a card has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    /// Work finished or under way, in seconds of a card of speed 1.
    pub work: f64,
    /// Seconds in which it had something to do.
    pub busy_s: f64,
    /// Requests finished.
    pub requests: u64,
}

/// A card with its slots and its queue.
#[derive(Debug)]
pub struct Card {
    speed: f64,
    slots: usize,
    running: BinaryHeap<Running>,
    waiting: VecDeque<Job>,
    attention: f64,
    order: u64,
    since: Moment,
    generation: u64,
    done: Done,
}

impl Card {
    /// An idle card that does `speed` seconds of work a second, on at most `slots` requests at once.
    pub fn new(speed: f64, slots: usize) -> Self {
        Self {
            speed,
            slots: slots.max(1),
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            attention: 0.0,
            order: 0,
            since: Moment::default(),
            generation: 0,
            done: Done::default(),
        }
    }

    /// Takes a request.
    pub fn take(&mut self, now: Moment, job: Job) {
        self.advance(now);
        if self.running.len() < self.slots {
            self.start(job);
        } else {
            self.waiting.push_back(job);
        }
        self.generation += 1;
    }

    /// The next completion if nothing else happens, and the generation that it holds for: whatever happens to the card makes
    /// a new one.
    pub fn next_completion(&self) -> Option<(Moment, u64)> {
        let first = self.running.peek().filter(|_| self.speed > 0.0)?;
        let left = (first.until - self.attention).max(0.0) * self.running.len() as f64 / self.speed;
        Some((self.since.after_secs(left), self.generation))
    }

    /// Finishes the request that [`Self::next_completion`] foretold; `None` if that is not how it came.
    pub fn complete(&mut self, now: Moment, generation: u64) -> Option<Job> {
        if generation != self.generation {
            return None;
        }
        self.advance(now);
        let finished = self.running.pop()?;
        self.attention = self.attention.max(finished.until);
        self.done.requests += 1;
        if let Some(next) = self.waiting.pop_front() {
            self.start(next);
        }
        if self.running.is_empty() {
            self.attention = 0.0;
        }
        self.generation += 1;
        Some(finished.job)
    }

    /// Runs at another speed from now on.
    pub fn set_speed(&mut self, now: Moment, speed: f64) {
        self.advance(now);
        self.speed = speed;
        self.generation += 1;
    }

    /// Loses everything that it holds.
    pub fn lose_all(&mut self, now: Moment) -> Vec<Job> {
        self.advance(now);
        self.generation += 1;
        self.attention = 0.0;
        let running = self.running.drain().map(|running| running.job);
        running.chain(self.waiting.drain(..)).collect()
    }

    /// Requests in slots.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Most requests in slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// What it has done until now.
    pub fn done(&mut self, now: Moment) -> Done {
        self.advance(now);
        self.done
    }

    fn start(&mut self, job: Job) {
        self.order += 1;
        self.running.push(Running {
            until: self.attention + job.work,
            order: self.order,
            job,
        });
    }

    fn advance(&mut self, now: Moment) {
        let passed = now - self.since;
        self.since = self.since.max(now);
        if !self.running.is_empty() && self.speed > 0.0 {
            let work = passed * self.speed;
            self.attention += work / self.running.len() as f64;
            self.done.work += work;
            self.done.busy_s += passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(work: f64) -> Job {
        Job {
            arrived: Moment::default(),
            gateway: 0,
            work,
        }
    }

    fn finish(card: &mut Card) -> (f64, Job) {
        let (at, generation) = card.next_completion().unwrap();
        (at.as_secs(), card.complete(at, generation).unwrap())
    }

    #[test]
    fn requests_in_slots_share_the_speed_and_the_others_wait() {
        let mut card = Card::new(2.0, 2);
        for work in [1.0, 3.0, 1.0] {
            card.take(Moment::default(), job(work));
        }
        assert_eq!((card.running(), card.waiting()), (2, 1));
        // Two at speed 1 each: the first has its second of work at 1 s. Then the third starts beside the second, which has
        // two to go: they end at 2 s and 2.5 s.
        let ends: Vec<f64> = (0..3).map(|_| finish(&mut card).0).collect();
        for (end, expected) in ends.iter().zip([1.0, 2.0, 2.5]) {
            assert!((end - expected).abs() < 1e-6, "{ends:?}");
        }
        let done = card.done(Moment::at_secs(9.0));
        assert!((done.work - 5.0).abs() < 1e-6 && (done.busy_s - 2.5).abs() < 1e-6 && done.requests == 3);
    }

    #[test]
    fn a_slower_card_takes_longer_for_what_is_left() {
        let mut card = Card::new(1.0, 8);
        card.take(Moment::default(), job(2.0));
        card.set_speed(Moment::at_secs(1.0), 0.25);
        assert!((finish(&mut card).0 - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_completion_that_was_foretold_before_a_change_is_void() {
        let mut card = Card::new(1.0, 8);
        card.take(Moment::default(), job(1.0));
        let (at, generation) = card.next_completion().unwrap();
        card.take(Moment::at_secs(0.5), job(1.0));
        assert_eq!(card.complete(at, generation), None);
        assert_eq!(card.lose_all(at).len(), 2);
        assert_eq!(card.next_completion(), None);
    }
}
