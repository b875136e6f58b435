//! How many retries there may be, by how many first attempts there were.

use std::time::Duration;

use super::Settings;
use crate::codec::Reader;

const FORM: u8 = 1;
/// Seconds that are remembered.
const SECONDS: usize = 10;
/// Bytes of an encoding.
pub const BUDGET_BYTES: usize = 9 + SECONDS * 8;

/// First attempts and retries of the last ten seconds, second by second; of one caller and model, or of whatever shares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Of the last second that anything happened in.
    second: u64,
    seconds: [Second; SECONDS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    firsts: u32,
    retries: u32,
}

impl Budget {
    /// Counts first attempts.
    pub fn first_attempts(&mut self, count: u32, now: Duration) {
        if let Some(second) = self.at(now) {
            second.firsts = second.firsts.saturating_add(count);
        }
    }

    /// Takes a retry out of the budget, if there is one left.
    pub fn take(&mut self, now: Duration, settings: &Settings) -> bool {
        self.turn(now);
        let sum = |part: fn(&Second) -> u32| self.seconds.iter().map(|s| u64::from(part(s))).sum::<u64>();
        let earned = sum(|second| second.firsts) as f64 * settings.ratio.max(0.0);
        let allowed = earned.max(settings.floor.into()).min(settings.cap.into());
        let may = sum(|second| second.retries) as f64 + 1.0 <= allowed;
        if may && let Some(second) = self.at(now) {
            second.retries = second.retries.saturating_add(1);
        }
        may
    }

    fn at(&mut self, now: Duration) -> Option<&mut Second> {
        self.turn(now);
        self.seconds.get_mut((self.second % SECONDS as u64) as usize)
    }

    /// Forgets the seconds that are over. A clock that goes back by more than they are begins anew.
    fn turn(&mut self, now: Duration) {
        let now = now.as_secs();
        let is_known =
            now.saturating_add(SECONDS as u64) > self.second && now < self.second.saturating_add(SECONDS as u64);
        if !is_known {
            self.seconds = Default::default();
            self.second = now;
        }
        while self.second < now {
            self.second += 1;
            if let Some(second) = self.seconds.get_mut((self.second % SECONDS as u64) as usize) {
                *second = Second::default();
            }
        }
    }

    /// For the store: form u8, second u64, and first attempts u32 and retries u32 of each of ten seconds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.second.to_le_bytes());
        for second in self.seconds {
            bytes.extend(second.firsts.to_le_bytes());
            bytes.extend(second.retries.to_le_bytes());
        }
        bytes
    }

    /// Of such bytes; of others, one in which nothing has happened.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of_form(bytes, FORM)?;
        let mut budget = Self {
            second: reader.u64()?,
            ..Self::default()
        };
        for second in &mut budget.seconds {
            *second = Second {
                firsts: reader.u32()?,
                retries: reader.u32()?,
            };
        }
        reader.is_empty().then_some(budget)
    }
}
