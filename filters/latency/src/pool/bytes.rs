//! A pool as a value of the store.

use std::time::Duration;

use super::endpoint::Flags;
use super::{Endpoint, EndpointId, MAX_ENDPOINTS, Pool};
use crate::breaker::{Breaker, Probes, Reason, State};
use crate::codec::Reader;
use crate::detector::Detector;
use crate::sketch::micros;

const FORM: u8 = 1;
const HEAD: usize = 19;
/// Bytes of one endpoint.
pub const ENDPOINT_BYTES: usize = 8 + 4 + 8 + 16 + 4 + 1 + 16 + Detector::BYTES + 6 + 24;
/// The most bytes of a pool.
pub const MAX_BYTES: usize = HEAD + MAX_ENDPOINTS * ENDPOINT_BYTES;

const IS_BROKEN: u8 = 1;
const IS_NOT_SERVING: u8 = 2;
const IS_SLOW: u8 = 4;
const IS_SUSPECT: u8 = 8;

impl Pool {
    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.endpoints.len() * ENDPOINT_BYTES);
        bytes.push(FORM);
        bytes.extend((self.endpoints.len() as u16).to_le_bytes());
        put_time(&mut bytes, self.stepped);
        put_time(&mut bytes, self.shared.unwrap_or(Duration::from_micros(u64::MAX)));
        self.endpoints.iter().for_each(|endpoint| endpoint.put(&mut bytes));
        bytes
    }

    /// Of such bytes; of others, an empty pool.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of_form(bytes, FORM)?;
        let length = usize::from(reader.u16()?);
        let stepped = time(&mut reader)?;
        let shared = time(&mut reader)?;
        if length > MAX_ENDPOINTS || reader.rest().len() != length * ENDPOINT_BYTES {
            return None;
        }
        let endpoints = (0..length).map(|_| Endpoint::read(&mut reader));
        Some(Self {
            endpoints: endpoints.collect::<Option<_>>()?,
            stepped,
            shared: (micros(shared) != u64::MAX).then_some(shared),
        })
    }
}

impl Endpoint {
    fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.id.0.to_le_bytes());
        into.extend(self.capacity.to_le_bytes());
        put_time(into, self.seen);
        into.extend(self.expected.to_le_bytes());
        into.extend(self.answered.to_le_bytes());
        into.extend(self.failed.to_le_bytes());
        into.extend(self.probes.passed.to_le_bytes());
        into.extend(self.probes.failed.to_le_bytes());
        into.push(self.flags.bits());
        put_time(into, self.connection_error);
        put_time(into, self.heartbeat);
        self.detector.put(into);
        let Breaker {
            state,
            reason,
            stage,
            successes,
            leases,
            attempts,
            since,
            until,
            probed,
        } = self.breaker;
        into.extend([state.code(), reason.code(), stage, successes, leases, attempts]);
        [since, until, probed].into_iter().for_each(|at| put_time(into, at));
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: EndpointId(reader.u64()?),
            capacity: reader.u32()?.max(1),
            seen: time(reader)?,
            expected: reader.u64()?,
            answered: reader.u32()?,
            failed: reader.u32()?,
            probes: Probes {
                passed: reader.u16()?,
                failed: reader.u16()?,
            },
            flags: Flags::of_bits(reader.u8()?),
            connection_error: time(reader)?,
            heartbeat: time(reader)?,
            detector: Detector::read(reader)?,
            breaker: Breaker {
                state: State::of_code(reader.u8()?)?,
                reason: Reason::of_code(reader.u8()?)?,
                stage: reader.u8()?,
                successes: reader.u8()?,
                leases: reader.u8()?,
                attempts: reader.u8()?,
                since: time(reader)?,
                until: time(reader)?,
                probed: time(reader)?,
            },
        })
    }
}

impl Flags {
    fn bits(self) -> u8 {
        let bit = |is_set: bool, bit| if is_set { bit } else { 0 };
        bit(self.is_broken, IS_BROKEN)
            | bit(self.is_not_serving, IS_NOT_SERVING)
            | bit(self.is_slow, IS_SLOW)
            | bit(self.is_suspect, IS_SUSPECT)
    }

    fn of_bits(bits: u8) -> Self {
        Self {
            is_broken: bits & IS_BROKEN != 0,
            is_not_serving: bits & IS_NOT_SERVING != 0,
            is_slow: bits & IS_SLOW != 0,
            is_suspect: bits & IS_SUSPECT != 0,
        }
    }
}

impl State {
    fn code(self) -> u8 {
        self as u8
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Closed, Self::Derated, Self::Open, Self::HalfOpen]
            .get(usize::from(code))
            .copied()
    }
}

fn put_time(into: &mut Vec<u8>, at: Duration) {
    into.extend(micros(at).to_le_bytes());
}

fn time(reader: &mut Reader<'_>) -> Option<Duration> {
    reader.u64().map(Duration::from_micros)
}
