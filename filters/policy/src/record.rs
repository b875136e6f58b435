//! The decision record: what was decided about a request, on one short line for a response header and the access log.
//!
//! `v=1 rule=gold bucket=4917 version=minilm/v1 why=STICKY gpu=hopper-nvlink fallback=v2>v1 rev=ab12cd34`. Parts that a
//! request does not have are left out. No part holds a blank, so the line splits at blanks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::decision::{Decision, RefusalReason, RouteReason, Verdict};

#[cfg(test)]
mod tests;

/// Longest record, in bytes. What explains least is left out of a longer one: class, pool, fallback and rule, in this order.
pub const MAX_RECORD_BYTES: usize = 256;

/// What was decided about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The routing rule that matched; of a refused request, the validation rule that it violates, as `policy/rule`.
    pub rule: Option<Cow<'a, str>>,
    /// Where in 0..10 000 it fell.
    pub bucket: Option<u16>,
    /// `<model>/<version>` that serves it; of a refused request, the one that it was to go to.
    pub version: Option<Cow<'a, str>>,
    /// Why this version, or the one that it stands in for.
    pub why: Option<RouteReason>,
    /// The class or affinity of the GPU.
    pub gpu: Option<Cow<'a, str>>,
    /// The pool, if it is not the default one.
    pub pool: Option<Cow<'a, str>>,
    /// The version that was not ready and the one that serves.
    pub fallback: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// Why it was refused.
    pub refused: Option<RefusalReason>,
    /// The limit that it met, as `policy.unit`.
    pub limit: Option<Cow<'a, str>>,
    /// Of the policies, shortened by [`short_revision`].
    pub revision: Cow<'a, str>,
}

impl<'a> Record<'a> {
    /// The record of a decision under the policies of this revision.
    pub fn of(revision: &'a str, decision: &'a Decision<'_>) -> Self {
        let record = Self {
            revision: short_revision(revision),
            ..Self::default()
        };
        match &decision.verdict {
            Verdict::Pass => record,
            Verdict::Route(route) => Self {
                rule: route.rule.map(Cow::Borrowed),
                bucket: route.bucket,
                version: Some(Cow::Borrowed(route.route_key)),
                why: Some(route.reason),
                gpu: route.gpu.as_ref().map(|wish| Cow::Borrowed(&*wish.label)),
                pool: route.pool.map(Cow::Borrowed),
                fallback: route
                    .instead_of
                    .map(|wanted| (Cow::Borrowed(wanted), Cow::Borrowed(route.version))),
                ..record
            },
            Verdict::Refuse(refusal) => {
                let violated = refusal.violations.first().and_then(|violation| violation.rule);
                let reached = refusal.reached;
                let version = |model: &str| reached.version.map(|version| Cow::Owned(format!("{model}/{version}")));
                Self {
                    rule: violated
                        .map(|rule| Cow::Owned(format!("{}/{}", rule.policy, rule.name)))
                        .or(reached.rule.map(Cow::Borrowed)),
                    bucket: reached.bucket,
                    version: reached.model.and_then(version),
                    refused: Some(refusal.reason),
                    limit: refusal.limited.as_ref().map(|limited| Cow::Owned(limited.label())),
                    ..record
                }
            }
        }
    }

    /// The same as names and values: what an error's details carry.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        self.parts()
            .into_iter()
            .filter(|(name, _)| *name != "v")
            .map(|(name, value)| (name.to_owned(), value.into_owned()))
            .collect()
    }

    /// Reads a line that [`Display`](fmt::Display) wrote; parts of a later release are skipped.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(line: &'a str) -> Result<Self, String> {
        let mut parts = line.split(' ');
        if parts.next() != Some("v=1") {
            return Err("a record of this release begins with v=1".to_owned());
        }
        let mut record = Self::default();
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not name=value"))?;
            record
                .set(name, value)
                .ok_or_else(|| format!("{part:?} has no value of {name}"))?;
        }
        Ok(record)
    }

    fn set(&mut self, name: &str, value: &'a str) -> Option<()> {
        match name {
            "rule" => self.rule = Some(Cow::Borrowed(value)),
            "bucket" => self.bucket = Some(value.parse().ok()?),
            "version" => self.version = Some(Cow::Borrowed(value)),
            "why" => self.why = Some(find(RouteReason::ALL, RouteReason::label, value)?),
            "gpu" => self.gpu = Some(Cow::Borrowed(value)),
            "pool" => self.pool = Some(Cow::Borrowed(value)),
            "fallback" => {
                let (from, to) = value.split_once('>')?;
                self.fallback = Some((Cow::Borrowed(from), Cow::Borrowed(to)));
            }
            "refused" => self.refused = Some(find(RefusalReason::ALL, RefusalReason::label, value)?),
            "limit" => self.limit = Some(Cow::Borrowed(value)),
            "rev" => self.revision = Cow::Borrowed(value),
            _ => {}
        }
        Some(())
    }

    fn parts(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let fallback = self.fallback.as_ref();
        let parts = [
            ("v", Some(Cow::Borrowed("1"))),
            ("rule", self.rule.as_deref().map(Cow::Borrowed)),
            ("bucket", self.bucket.map(|bucket| Cow::Owned(bucket.to_string()))),
            ("version", self.version.as_deref().map(Cow::Borrowed)),
            ("why", self.why.map(|why| Cow::Borrowed(why.label()))),
            ("gpu", self.gpu.as_deref().map(Cow::Borrowed)),
            ("pool", self.pool.as_deref().map(Cow::Borrowed)),
            (
                "fallback",
                fallback.map(|(from, to)| Cow::Owned(format!("{from}>{to}"))),
            ),
            ("refused", self.refused.map(|reason| Cow::Borrowed(reason.label()))),
            ("limit", self.limit.as_deref().map(Cow::Borrowed)),
            (
                "rev",
                Some(Cow::Borrowed(&*self.revision)).filter(|revision| !revision.is_empty()),
            ),
        ];
        parts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.parts();
        let length = |parts: &[(&str, Cow<'_, str>)]| -> usize {
            parts.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
        };
        for least in ["gpu", "pool", "fallback", "rule"] {
            if length(&parts) > MAX_RECORD_BYTES {
                parts.retain(|(name, _)| *name != least);
            }
        }
        for (index, (name, value)) in parts.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{name}={value}")?;
        }
        Ok(())
    }
}

/// A revision as it stands in records: itself if it is short and plain, else eight digits of its hash.
pub fn short_revision(revision: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if revision.len() <= 16 && revision.bytes().all(is_plain) {
        return Cow::Borrowed(revision);
    }
    Cow::Owned(format!("{:08x}", xxh3_64(revision.as_bytes()) >> 32))
}

fn find<T: Copy>(all: &[T], label: fn(T) -> &'static str, wanted: &str) -> Option<T> {
    all.iter().copied().find(|candidate| label(*candidate) == wanted)
}
