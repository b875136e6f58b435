//! What the worker counts of its own load, for its load report. Counters only grow; a report is made from the difference of
//! two readings.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The counters.
#[derive(Debug, Default)]
pub struct Meter {
    in_flight: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    tokens: AtomicU64,
    compute_nanos: AtomicU64,
}

/// A request, from its arrival until this is dropped, however it ends.
#[derive(Debug)]
pub struct InFlight<'m>(&'m Meter);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub ended: u64,
    /// Those that failed by the worker's fault.
    pub failed: u64,
    /// Tokens computed, padding left out.
    pub tokens: u64,
    /// Time in which the backends computed, summed over versions.
    pub compute: Duration,
}

impl Meter {
    /// A request arrives.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// A request ended so.
    pub fn ended(&self, code: tonic::Code) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if is_own_fault(code) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A batch was computed.
    pub fn computed(&self, tokens: usize, took: Duration) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.compute_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Requests that are in the worker now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        Totals {
            ended: self.ended.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            compute: Duration::from_nanos(self.compute_nanos.load(Ordering::Relaxed)),
        }
    }
}

/// What says that the worker, and neither the caller nor the load, is at fault.
fn is_own_fault(code: tonic::Code) -> bool {
    use tonic::Code;
    matches!(
        code,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unavailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_in_flight_until_it_is_dropped() {
        let meter = Meter::default();
        let (first, second) = (meter.enter(), meter.enter());
        assert_eq!(meter.in_flight(), 2);
        drop(first);
        drop(second);
        assert_eq!(meter.in_flight(), 0);
    }

    #[test]
    fn only_the_workers_own_faults_are_failures() {
        let meter = Meter::default();
        for code in [
            tonic::Code::Ok,
            tonic::Code::InvalidArgument,
            tonic::Code::ResourceExhausted,
            tonic::Code::Internal,
        ] {
            meter.ended(code);
        }
        meter.computed(7, Duration::from_millis(3));
        let expected = Totals {
            ended: 4,
            failed: 1,
            tokens: 7,
            compute: Duration::from_millis(3),
        };
        assert_eq!(meter.totals(), expected);
    }
}
