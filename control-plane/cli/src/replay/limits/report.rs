//! What a replay found of limits.

use crate::table::Table;
use kilocard_policy::limit::Limited;
use kilocard_policy::limit::rehearsal::Trial;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// Most keys of a limit that are told apart; requests of others are counted together.
const TOLD_APART: usize = 100_000;
/// Most keys of a limit that are shown.
const SHOWN: usize = 5;
/// A sample is worth little where so few requests of it fill a burst.
const THIN: u64 = 10;
/// All requests, in parts per million.
const WHOLE: u32 = 1_000_000;
/// What no capture tells.
const UNKNOWN: &str = "not in captures, so not told: tokens used in the end (counted as reserved: what the client allows, else the \
    model's default), GPU time, GPU memory, how the mesh divides a limit (all proxies are taken for one), and who would \
    ask again";

/// A limit that was met, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Limit {
    /// `tenants.requests`
    label: String,
    how: How,
    /// Whether it only counts.
    is_shadow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    UsedUp,
    AboveBurst,
}

/// The limits that a request met, each with the key.
#[derive(Debug, Default)]
pub(super) struct Met(Vec<(Limit, String, u64)>);

impl Met {
    pub(super) fn of(trial: Trial<'_>) -> Self {
        let met = |limited: Limited<'_>, is_shadow: bool| {
            let how = match limited.retry_after {
                Some(_) => How::UsedUp,
                None => How::AboveBurst,
            };
            let label = limited.label();
            (Limit { label, how, is_shadow }, limited.key, limited.limit.burst)
        };
        let counted = trial.counted.into_iter().map(|limited| met(limited, true));
        Self(
            trial
                .refused
                .map(|limited| met(limited, false))
                .into_iter()
                .chain(counted)
                .collect(),
        )
    }

    fn is_refused(&self) -> bool {
        self.0.iter().any(|(limit, ..)| !limit.is_shadow)
    }
}

/// Requests, by the policies compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    now: u64,
    then: u64,
}

impl Count {
    fn add(&mut self, is_new: bool) {
        let side = if is_new { &mut self.then } else { &mut self.now };
        *side += 1;
    }
}

/// What became of the requests that met a limit.
#[derive(Debug, Default)]
struct Fate {
    all: Count,
    keys: HashMap<String, Count>,
    /// Of keys that are not told apart.
    others: Count,
    burst: u64,
}

impl Fate {
    fn add(&mut self, key: &str, is_new: bool) {
        self.all.add(is_new);
        // Only a key that is new has to be copied.
        let count = if self.keys.contains_key(key) || self.keys.len() >= TOLD_APART {
            self.keys.get_mut(key).unwrap_or(&mut self.others)
        } else {
            self.keys.entry(key.to_owned()).or_default()
        };
        count.add(is_new);
    }

    /// The keys of most refusals first.
    fn largest_first(&self) -> Vec<(&str, Count)> {
        let mut keys: Vec<_> = self.keys.iter().map(|(key, count)| (key.as_str(), *count)).collect();
        keys.sort_by(|(one, a), (other, b)| {
            let most = |count: &Count| (count.now.max(count.then), count.then);
            most(b).cmp(&most(a)).then_with(|| one.cmp(other))
        });
        keys
    }
}

/// What a replay found of limits.
#[derive(Debug, Default)]
pub(in crate::replay) struct LimitsReport {
    /// Requests that came to them.
    pub(super) requests: u64,
    /// Captured without a time.
    pub(super) untimed: u64,
    /// Captured by a filter without limits.
    pub(super) elsewhere: u64,
    /// So far behind others that their times could not be kept to.
    pub(super) late: u64,
    span: Option<(Duration, Duration)>,
    /// The least part of the requests that was captured, parts per million.
    sample: Option<u32>,
    refused: Count,
    newly: u64,
    no_longer: u64,
    fates: BTreeMap<Limit, Fate>,
}

impl LimitsReport {
    /// The next requests came at this time, out of such a sample.
    pub(super) fn at(&mut self, time: Duration, sample: u32) {
        self.span = Some((self.span.map_or(time, |(first, _)| first), time));
        self.sample = Some(self.sample.map_or(sample, |least| least.min(sample)));
    }

    /// What a request met by the old policy and by the new one.
    pub(super) fn asked(&mut self, old: &Met, new: &Met) {
        for (met, is_new) in [(old, false), (new, true)] {
            if met.is_refused() {
                self.refused.add(is_new);
            }
            for (limit, key, burst) in &met.0 {
                let fate = match self.fates.get_mut(limit) {
                    Some(fate) => fate,
                    None => self.fates.entry(limit.clone()).or_default(),
                };
                fate.burst = *burst;
                fate.add(key, is_new);
            }
        }
        self.newly += u64::from(new.is_refused() && !old.is_refused());
        self.no_longer += u64::from(old.is_refused() && !new.is_refused());
    }

    /// How many requests limits refuse that they did not before.
    pub(in crate::replay) fn newly_refused(&self) -> u64 {
        self.newly
    }

    /// The part of the requests that was captured, if it was not all.
    fn percent(&self) -> Option<f64> {
        self.sample
            .filter(|sample| *sample < WHOLE)
            .map(|sample| f64::from(sample) / 10_000.0)
    }

    /// Whether so few captured requests fill a burst that what is told is mostly chance.
    fn is_thin(&self, fate: &Fate) -> bool {
        let sample = u64::from(self.sample.unwrap_or(WHOLE));
        sample < u64::from(WHOLE) && fate.burst.saturating_mul(sample) / u64::from(WHOLE) < THIN
    }

    /// For `--output json`.
    pub(in crate::replay) fn to_json(&self) -> Value {
        let time = |time: Duration| humantime::format_rfc3339_seconds(UNIX_EPOCH + time).to_string();
        let count = |count: Count| json!({"now": count.now, "then": count.then});
        let fate = |(limit, fate): (&Limit, &Fate)| {
            let key = |(key, of): &(&str, Count)| json!({"key": key, "now": of.now, "then": of.then});
            let keys = fate.largest_first();
            json!({
                "limit": limit.label, "outcome": limit.how.label(), "only_counts": limit.is_shadow,
                "requests": count(fate.all), "small_sample": self.is_thin(fate),
                "keys": keys.iter().take(SHOWN).map(key).collect::<Value>(),
                "more_keys": keys.len().saturating_sub(SHOWN), "of_keys_not_told_apart": count(fate.others),
            })
        };
        json!({
            "requests": self.requests, "without_time": self.untimed, "without_limits": self.elsewhere,
            "out_of_order": self.late, "sample_percent": self.percent().unwrap_or(100.0),
            "from": self.span.map(|(first, _)| time(first)), "to": self.span.map(|(_, last)| time(last)),
            "refused": count(self.refused), "newly_refused": self.newly, "no_longer_refused": self.no_longer,
            "limits": self.fates.iter().map(fate).collect::<Value>(),
            "not_known": UNKNOWN,
        })
    }

    fn tell_what_was_asked(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = self.span.map_or(String::new(), |(first, last)| {
            let whole = last.saturating_sub(first);
            let whole = match whole.as_secs() {
                0 => Duration::from_millis(u64::from(whole.subsec_millis()).max(1)),
                seconds => Duration::from_secs(seconds),
            };
            format!(", within {}", humantime::format_duration(whole))
        });
        writeln!(f, "limits: asked by {} of them{over}", self.requests)?;
        if let Some(percent) = self.percent() {
            writeln!(
                f,
                "  they are a sample, of {percent}% where it is least: limits were held to the same part of rate and burst"
            )?;
        }
        for (count, what) in [
            (
                self.untimed,
                "captured without a time (by an older filter) and left out",
            ),
            (self.elsewhere, "captured by a filter without limits and left out"),
            (
                self.late,
                "too far out of order in the log: taken for as late as what was before them",
            ),
        ] {
            if count > 0 {
                writeln!(f, "  {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl How {
    fn label(self) -> &'static str {
        match self {
            Self::UsedUp => "used_up",
            Self::AboveBurst => "cost_above_burst",
        }
    }
}

impl Limit {
    fn worded(&self) -> String {
        let how = match self.how {
            How::UsedUp => "",
            How::AboveBurst => ", cost above burst",
        };
        let shadow = if self.is_shadow { " (only counts)" } else { "" };
        format!("{}{how}{shadow}", self.label)
    }
}

impl fmt::Display for LimitsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell_what_was_asked(f)?;
        let Count { now, then } = self.refused;
        writeln!(
            f,
            "  refused by limits: {now} now, {then} then; {} newly, {} no longer",
            self.newly, self.no_longer
        )?;
        if !self.fates.is_empty() {
            let mut table = Table::new(&["LIMIT", "KEY", "NOW", "THEN"]).indented(2);
            for (limit, fate) in &self.fates {
                let keys = fate.largest_first();
                let of = |count: Count| [count.now.to_string(), count.then.to_string()];
                let [now, then] = of(fate.all);
                let thin = if self.is_thin(fate) {
                    " (a small sample: mostly chance)"
                } else {
                    ""
                };
                table.row([
                    format!("{}{thin}", limit.worded()),
                    format!("{} in all", keys.len()),
                    now,
                    then,
                ]);
                for (key, count) in keys.iter().take(SHOWN) {
                    let [now, then] = of(*count);
                    let key = if key.is_empty() { "everybody" } else { key };
                    table.row([String::new(), key.to_owned(), now, then]);
                }
                if keys.len() > SHOWN {
                    table.row([String::new(), format!("and {} more", keys.len() - SHOWN)]);
                }
            }
            write!(f, "{table}")?;
        }
        writeln!(f, "  {UNKNOWN}")
    }
}
