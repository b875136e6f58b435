//! Ways to set timeouts and to put endpoints out, side by side.

use std::collections::HashMap;
use std::time::Duration;

use kilocard_latency::sketch::{LogLinear, QuantileSketch};
use kilocard_latency::window::{Epoch, SLOTS};

/// An answer, in time or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) id: usize,
    pub(crate) endpoint: usize,
    pub(crate) took: Duration,
    pub(crate) is_failure: bool,
    /// A timeout had cut it before.
    pub(crate) was_cut: bool,
}

/// A way.
pub(crate) trait Way {
    fn name(&self) -> &'static str;
    /// The part of its requests that an endpoint gets.
    fn share(&self, endpoint: usize) -> f64;
    /// Whether a request may go to an endpoint.
    fn gate(&mut self, endpoint: usize, draw: f64, _now: Duration) -> bool {
        draw < self.share(endpoint)
    }
    /// A request has come.
    fn arrived(&mut self, _now: Duration) {}
    /// An attempt begins; its timeout.
    fn begin(&mut self, id: usize, endpoint: usize, draw: f64, now: Duration) -> Duration;
    /// An attempt is answered, or would have been.
    fn answered(&mut self, answer: &Answer, now: Duration);
    /// An attempt is cut.
    fn timed_out(&mut self, id: usize, endpoint: usize, now: Duration);
    /// Whether a failed attempt is made again. The others have Envoy's `num_retries: 1` and no budget.
    fn retries(&mut self, attempts: u32, _is_answer: bool, _now: Duration) -> bool {
        attempts < 2
    }
    /// A tenth of a second has passed.
    fn tick(&mut self, now: Duration, load: f64);
}

/// A timeout that is set once, well: a third above what one in a thousand takes. Nothing is put out.
pub(crate) struct Static {
    pub(crate) timeout: Duration,
}

impl Way for Static {
    fn name(&self) -> &'static str {
        "static timeout"
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn begin(&mut self, _: usize, _: usize, _: f64, _: Duration) -> Duration {
        self.timeout
    }

    fn answered(&mut self, _: &Answer, _: Duration) {}
    fn timed_out(&mut self, _: usize, _: usize, _: Duration) {}
    fn tick(&mut self, _: Duration, _: f64) {}
}

/// Envoy's outlier detection with its defaults (`envoy.config.cluster.v3.OutlierDetection`) over the same static timeout: 5
/// failures in a row, success rate below the mean by 1.9 standard deviations each 10 s, 30 s times the number of ejections,
/// at most a tenth of the pool or one endpoint. A timeout is a failure, as Envoy counts it.
pub(crate) struct Outlier {
    pub(crate) timeout: Duration,
    hosts: Vec<Host>,
    interval: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    in_a_row: u32,
    answered: u32,
    failed: u32,
    ejections: u32,
    until: Option<Duration>,
}

impl Outlier {
    pub(crate) fn new(endpoints: usize, timeout: Duration) -> Self {
        Self {
            timeout,
            hosts: vec![Host::default(); endpoints],
            interval: 0,
        }
    }

    fn eject(&mut self, endpoint: usize, now: Duration) {
        let out = self.hosts.iter().filter(|host| host.until.is_some()).count();
        let may = out == 0 || (out + 1) * 10 <= self.hosts.len();
        let host = &mut self.hosts[endpoint];
        if may && host.until.is_none() {
            host.ejections += 1;
            host.until = Some(now + Duration::from_secs(30) * host.ejections.min(10));
            host.in_a_row = 0;
        }
    }

    fn end(&mut self, endpoint: usize, is_failure: bool, now: Duration) {
        let host = &mut self.hosts[endpoint];
        host.answered += 1;
        host.failed += u32::from(is_failure);
        host.in_a_row = if is_failure { host.in_a_row + 1 } else { 0 };
        if host.in_a_row >= 5 {
            self.eject(endpoint, now);
        }
    }

    fn by_success_rate(&mut self, now: Duration) {
        let rate = |host: &Host| 1.0 - f64::from(host.failed) / f64::from(host.answered);
        let judged: Vec<_> = (0..self.hosts.len())
            .filter(|at| self.hosts[*at].answered >= 100 && self.hosts[*at].until.is_none())
            .map(|at| (at, rate(&self.hosts[at])))
            .collect();
        if judged.len() >= 5 {
            let mean = judged.iter().map(|(_, rate)| rate).sum::<f64>() / judged.len() as f64;
            let variance = judged.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / judged.len() as f64;
            for (at, rate) in judged {
                if rate < mean - 1.9 * variance.sqrt() {
                    self.eject(at, now);
                }
            }
        }
        for host in &mut self.hosts {
            (host.answered, host.failed) = (0, 0);
            if host.until.is_none() {
                host.ejections = host.ejections.saturating_sub(1);
            }
        }
    }
}

impl Way for Outlier {
    fn name(&self) -> &'static str {
        "Envoy's outlier detection"
    }

    fn share(&self, endpoint: usize) -> f64 {
        if self.hosts[endpoint].until.is_some() { 0.0 } else { 1.0 }
    }

    fn begin(&mut self, _: usize, _: usize, _: f64, _: Duration) -> Duration {
        self.timeout
    }

    fn answered(&mut self, answer: &Answer, now: Duration) {
        if !answer.was_cut {
            self.end(answer.endpoint, answer.is_failure, now);
        }
    }

    fn timed_out(&mut self, _: usize, endpoint: usize, now: Duration) {
        self.end(endpoint, true, now);
    }

    fn tick(&mut self, now: Duration, _: f64) {
        let interval = now.as_secs() / 10;
        if self.interval != interval {
            self.interval = interval;
            for host in &mut self.hosts {
                host.until = host.until.filter(|until| *until > now);
            }
            self.by_success_rate(now);
        }
    }
}

/// The design's rule to the letter: each half minute `P99.9 × (1 + load factor) + jitter` of the last five minutes, what was
/// cut recorded as having taken just so long; half-open (a tenth) while an endpoint's P99.9 is more than twice its history's
/// mean, read as the mean of its P99.9.
pub(crate) struct Literal {
    timeout: Duration,
    base: Duration,
    slots: Vec<LogLinear>,
    endpoints: Vec<History>,
    epoch: Epoch,
    begun: HashMap<usize, Duration>,
}

#[derive(Clone, Default)]
struct History {
    slots: Vec<LogLinear>,
    sum: f64,
    windows: u32,
    is_half_open: bool,
}

fn slots() -> Vec<LogLinear> {
    (0..SLOTS).map(|_| LogLinear::default()).collect()
}

fn p999(slots: &[LogLinear]) -> Option<Duration> {
    let mut sum = LogLinear::default();
    slots.iter().for_each(|slot| sum.merge(slot));
    sum.quantile(0.999)
}

impl Literal {
    pub(crate) fn new(endpoints: usize, timeout: Duration) -> Self {
        let history = History {
            slots: slots(),
            ..History::default()
        };
        Self {
            timeout,
            base: timeout,
            slots: slots(),
            endpoints: vec![history; endpoints],
            epoch: Epoch::default(),
            begun: HashMap::new(),
        }
    }

    fn record(&mut self, endpoint: usize, took: Duration) {
        let place = self.epoch.place() as usize;
        self.slots[place].record(took, 1);
        self.endpoints[endpoint].slots[place].record(took, 1);
    }
}

impl Way for Literal {
    fn name(&self) -> &'static str {
        "the literal rule"
    }

    fn share(&self, endpoint: usize) -> f64 {
        if self.endpoints[endpoint].is_half_open {
            0.1
        } else {
            1.0
        }
    }

    fn begin(&mut self, id: usize, _: usize, draw: f64, now: Duration) -> Duration {
        self.begun.insert(id, now);
        self.timeout + self.base.mul_f64(0.05 * draw)
    }

    fn answered(&mut self, answer: &Answer, _: Duration) {
        if self.begun.remove(&answer.id).is_some() && !answer.is_failure {
            self.record(answer.endpoint, answer.took);
        }
    }

    fn timed_out(&mut self, id: usize, endpoint: usize, now: Duration) {
        if let Some(begun) = self.begun.remove(&id) {
            self.record(endpoint, now - begun);
        }
    }

    fn tick(&mut self, now: Duration, load: f64) {
        let epoch = Epoch::at(now);
        if epoch == self.epoch {
            return;
        }
        if let Some(found) = p999(&self.slots) {
            self.base = found;
            self.timeout = found.mul_f64(1.0 + load);
        }
        for history in &mut self.endpoints {
            if let Some(found) = p999(&history.slots).map(|found| found.as_secs_f64()) {
                let mean = history.sum / f64::from(history.windows.max(1));
                history.is_half_open = history.windows >= 10 && found > 2.0 * mean;
                history.sum += found;
                history.windows += 1;
            }
        }
        self.epoch = epoch;
        let place = epoch.place() as usize;
        self.slots[place].clear();
        self.endpoints
            .iter_mut()
            .for_each(|history| history.slots[place].clear());
    }
}
