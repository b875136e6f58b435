//! How far one stream is, kept for reports: since when it is behind, and which resources it refused and why.

use super::blame::blame;
use kilocard_registry::report::{NackReport, NodeTypeReport, RefusedResource};
use kilocard_xds::report::{Refusal, TypeReport};
use kilocard_xds::snapshot::ResourceType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Refused resources that a report lists for a type of a node.
const MAX_LISTED: usize = 100;

/// The state of one stream.
#[derive(Debug, Default)]
pub(super) struct Progress {
    types: Vec<TypeReport>,
    behind: BTreeMap<ResourceType, Instant>,
    refused: BTreeMap<ResourceType, Refused>,
}

/// What stands refused of a type, and what was made of the client's words.
#[derive(Debug, Default)]
struct Refused {
    refusals: Vec<Arc<Refusal>>,
    resources: Vec<RefusedResource>,
}

impl Progress {
    /// Takes the machine's state as of now. Costs little unless a refusal comes or goes.
    pub(super) fn update(&mut self, types: Vec<TypeReport>, now: Instant) {
        for report in &types {
            if report.behind {
                self.behind.entry(report.kind).or_insert(now);
            } else {
                self.behind.remove(&report.kind);
            }
            self.update_refused(report);
        }
        self.types = types;
    }

    fn update_refused(&mut self, report: &TypeReport) {
        if report.refused.is_empty() {
            self.refused.remove(&report.kind);
            return;
        }
        let refused = self.refused.entry(report.kind).or_default();
        let known = refused.refusals.iter().map(Arc::as_ptr);
        if !known.eq(report.refused.iter().map(Arc::as_ptr)) {
            refused.refusals.clone_from(&report.refused);
            refused.resources = report.refused.iter().flat_map(|refusal| resources(refusal)).collect();
            refused.resources.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }

    /// How many resources of each type stand refused.
    pub(super) fn refused(&self) -> impl Iterator<Item = (ResourceType, usize)> {
        self.refused
            .iter()
            .map(|(kind, refused)| (*kind, refused.resources.len()))
    }

    /// The types of which the stream lacks something, and since when.
    pub(super) fn behind(&self) -> impl Iterator<Item = (ResourceType, Instant)> {
        self.behind.iter().map(|(kind, since)| (*kind, *since))
    }

    /// What the client said of a resource that it refused; `None` for one that was only refused along with others.
    pub(super) fn reason(&self, kind: ResourceType, name: &str) -> Option<&str> {
        let resources = &self.refused.get(&kind)?.resources;
        let found = resources
            .binary_search_by(|resource| resource.name.as_str().cmp(name))
            .ok()?;
        resources.get(found).map(|resource| resource.reason.as_str())
    }

    /// Sorted by type URL.
    pub(super) fn report(&self, now: Instant) -> Vec<NodeTypeReport> {
        let mut types: Vec<NodeTypeReport> = self.types.iter().map(|report| self.type_report(report, now)).collect();
        types.sort_by(|a, b| a.type_url.cmp(&b.type_url));
        types
    }

    fn type_report(&self, report: &TypeReport, now: Instant) -> NodeTypeReport {
        let since = self.behind.get(&report.kind);
        let behind = since.map(|since| now.saturating_duration_since(*since));
        let refused = self
            .refused
            .get(&report.kind)
            .map(|refused| refused.resources.as_slice());
        let refused = refused.unwrap_or_default();
        NodeTypeReport {
            type_url: report.kind.url().to_owned(),
            acked_version: report.acked_version.as_ref().map(ToString::to_string),
            served_version: report.served_version.as_ref().map(ToString::to_string),
            behind_ms: behind.map(|behind| u64::try_from(behind.as_millis()).unwrap_or(u64::MAX)),
            in_flight: report.in_flight,
            nack: report.nack.as_ref().map(|nack| NackReport {
                version: nack.version.to_string(),
                message: nack.message.clone(),
            }),
            refused: refused.iter().take(MAX_LISTED).cloned().collect(),
            refused_total: refused.len(),
        }
    }
}

fn resources(refusal: &Refusal) -> Vec<RefusedResource> {
    let blamed = blame(&refusal.message, refusal.members.keys().map(String::as_str));
    let resource = |(name, reason): (&str, String)| RefusedResource {
        name: name.to_owned(),
        version: refusal
            .members
            .get(name)
            .and_then(|version| version.as_ref().map(ToString::to_string)),
        reason,
    };
    blamed.into_iter().map(resource).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_xds::snapshot::Version;
    use std::time::Duration;

    fn report(behind: bool, refused: &[Arc<Refusal>]) -> Vec<TypeReport> {
        vec![TypeReport {
            kind: ResourceType::Cluster,
            acked_version: None,
            served_version: Some(Version::from("served")),
            behind,
            in_flight: false,
            nack: None,
            refused: refused.to_vec(),
        }]
    }

    #[test]
    fn how_long_a_stream_is_behind_counts_from_when_it_last_was_not() {
        let (mut progress, begin) = (Progress::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        progress.update(report(true, &[]), at(0));
        progress.update(report(true, &[]), at(5));
        assert_eq!(progress.report(at(7))[0].behind_ms, Some(7000));
        progress.update(report(false, &[]), at(8));
        assert_eq!(progress.report(at(9))[0].behind_ms, None);
        progress.update(report(true, &[]), at(10));
        assert_eq!(progress.report(at(11))[0].behind_ms, Some(1000));
    }

    #[test]
    fn a_refusal_is_shown_for_the_resource_that_it_names_until_it_stands_no_longer() {
        let mut progress = Progress::default();
        let members = [("a", "1"), ("b", "2")].map(|(name, version)| (name.to_owned(), Some(Version::from(version))));
        let refusal = Arc::new(Refusal {
            message: "Error adding/updating cluster(s) b: no type".into(),
            members: members.into(),
        });
        progress.update(report(true, &[Arc::clone(&refusal)]), Instant::now());
        let shown = progress.report(Instant::now());
        let expected = RefusedResource {
            name: "b".into(),
            version: Some("2".into()),
            reason: "no type".into(),
        };
        assert_eq!((&shown[0].refused, shown[0].refused_total), (&vec![expected], 1));
        let cluster = ResourceType::Cluster;
        assert_eq!(
            (progress.reason(cluster, "b"), progress.reason(cluster, "a")),
            (Some("no type"), None)
        );
        assert_eq!(progress.refused().collect::<Vec<_>>(), [(cluster, 1)]);
        progress.update(report(false, &[]), Instant::now());
        assert!(progress.report(Instant::now())[0].refused.is_empty());
    }
}
