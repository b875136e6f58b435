//! One state of the mesh in as many editions as there are kinds of clients, and places where they are.
//!
//! Every build makes the edition for proxies that are nowhere. The others are made when the first client asks for one: a mesh
//! without such clients does not pay for them. All are pure functions of the same parts, so replicas agree on each edition as
//! well. Editions for places differ in load assignments only, and share those of versions that nobody serves at any place.

use crate::audience::{Audience, Client};
use crate::model::{Policies, Worker};
use crate::snapshot::placement::{Placed, Placement};
use crate::snapshot::{endpoint, proxyless};
use crate::weights::Weights;
use kilocard_policy::config::MeshState;
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Locality, Split};
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What editions are made from.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) placement: Arc<Placement>,
    pub(super) policies: Arc<Policies>,
    pub(super) workers: Arc<BTreeMap<String, Arc<Worker>>>,
    pub(super) state: Arc<MeshState>,
    pub(super) spills: Spills,
}

/// What goes to other localities, by version and locality.
pub(super) type Spills = BTreeMap<ServedModel, BTreeMap<Locality, Split>>;

/// What goes to other localities now.
pub(super) fn spills(weights: &Weights) -> Spills {
    let mut spills = Spills::new();
    for (served, own, split) in weights.splits() {
        let of_version = spills.entry(served.clone()).or_default();
        of_version.insert(own.clone(), split.clone());
    }
    spills
}

/// A snapshot for each kind of client at each place.
#[derive(Debug, Default)]
pub struct Editions {
    proxies: Arc<Snapshot>,
    /// Where there is any worker, and the zones of those places: who is elsewhere is nowhere.
    places: BTreeSet<Locality>,
    /// Those that were asked for. Each is made once, without holding up who asks for another.
    others: Mutex<BTreeMap<Audience, Arc<OnceLock<Arc<Snapshot>>>>>,
    parts: Parts,
}

impl Editions {
    pub(super) fn new(proxies: Snapshot, parts: Parts) -> Self {
        let workers = parts.placement.values().flat_map(BTreeMap::values);
        let mut places: BTreeSet<Locality> = BTreeSet::new();
        for placed in workers {
            // Of thousands of workers few are at a place of their own.
            if !places.contains(&*placed.locality) {
                places.insert(Locality::clone(&placed.locality));
                places.insert(zone_of(&placed.locality));
            }
        }
        Self {
            proxies: Arc::new(proxies),
            places,
            others: Mutex::default(),
            parts,
        }
    }

    /// What these nodes are served.
    pub fn of(&self, audience: &Audience) -> Arc<Snapshot> {
        let audience = Audience {
            client: audience.client,
            locality: self.place(&audience.locality),
        };
        if audience == Audience::default() {
            return Arc::clone(&self.proxies);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let edition = Arc::clone(others.entry(audience.clone()).or_default());
        drop(others);
        Arc::clone(edition.get_or_init(|| Arc::new(self.make(&audience))))
    }

    /// The place that is told apart from others: names that nodes make up must not multiply editions.
    fn place(&self, locality: &Locality) -> Locality {
        let (exact, zone) = (locality.clone(), zone_of(locality));
        [exact, zone]
            .into_iter()
            .find(|place| self.places.contains(place))
            .unwrap_or_default()
    }

    fn make(&self, audience: &Audience) -> Snapshot {
        let (parts, own) = (&self.parts, &audience.locality);
        match audience.client {
            Client::Grpc => {
                let snapshot = proxyless::build(parts, own).at(self.proxies.revision());
                match self.proxies.noticed_at() {
                    Some(noticed) => snapshot.noticed(noticed),
                    None => snapshot,
                }
            }
            Client::Envoy => {
                let endpoints = parts
                    .placement
                    .iter()
                    .map(|(served, placed)| self.endpoints(served, placed, own));
                let endpoints = ResourceSet::new(endpoints);
                Snapshot::clone(&self.proxies).with(ResourceType::Endpoints, endpoints)
            }
        }
    }

    fn endpoints(&self, served: &ServedModel, placed: &BTreeMap<String, Placed>, own: &Locality) -> Arc<Resource> {
        let is_somewhere = |placed: &Placed| *placed.locality != Locality::default();
        let everywhere = self.proxies.set(ResourceType::Endpoints);
        let everywhere = everywhere.and_then(|set| set.get(&crate::snapshot::placement::route_key(served)));
        match everywhere {
            Some(shared) if !placed.values().any(is_somewhere) => Arc::clone(shared),
            _ => Arc::new(endpoint::build(served, placed, own, self.parts.split(served, own))),
        }
    }

    /// The percents that go elsewhere, of each locality of a version that sends anything.
    pub(crate) fn away(&self) -> impl Iterator<Item = u32> {
        self.parts
            .spills
            .values()
            .flat_map(BTreeMap::values)
            .map(|split| split.away)
    }

    /// Content hash. That of the edition for proxies that are nowhere, whose filter holds all policies: what changes an
    /// edition for other clients changes it too, but for [`Editions::is`].
    pub fn version(&self) -> Version {
        self.proxies.version()
    }

    /// Whether no client would be served anything else. Where workers are, and what spills over, only shows in editions for
    /// places.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.version() == other.version()
            && self.parts.spills == other.parts.spills
            && self.places == other.places
            && self.localities().eq(other.localities())
    }

    fn localities(&self) -> impl Iterator<Item = &Arc<Locality>> {
        let workers = self.parts.placement.values().flat_map(BTreeMap::values);
        workers.map(|placed| &placed.locality)
    }
}

impl Parts {
    /// What goes elsewhere of the requests for a version that proxies in `own` have.
    pub(super) fn split(&self, served: &ServedModel, own: &Locality) -> Option<&Split> {
        self.spills.get(served)?.get(own)
    }
}

fn zone_of(locality: &Locality) -> Locality {
    Locality {
        zone: locality.zone.clone(),
        rack: String::new(),
    }
}

/// The same for all proxies, and nothing for others.
impl From<Snapshot> for Editions {
    fn from(proxies: Snapshot) -> Self {
        Self::new(proxies, Parts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mesh;
    use crate::snapshot::Builder;
    use crate::snapshot::tests::{mesh, options};
    use crate::weights::SharedWeights;
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use kilocard_registry::telemetry::XidEvent;
    use prost::Message;
    use std::time::Instant;

    fn locality(zone: &str, rack: &str) -> Locality {
        Locality {
            zone: zone.to_owned(),
            rack: rack.to_owned(),
        }
    }

    fn audience(client: Client, zone: &str) -> Audience {
        Audience {
            client,
            locality: locality(zone, "r1"),
        }
    }

    /// `a` in zone `x` and `b` in `y`, both of `minilm/v1`; `other/v9` is served by `b` only.
    fn in_zones() -> Mesh {
        let mut mesh = mesh();
        for (worker, zone) in [("a", "x"), ("b", "y")] {
            move_to(&mut mesh, worker, zone);
        }
        mesh
    }

    fn move_to(mesh: &mut Mesh, worker: &str, zone: &str) {
        let worker = Arc::make_mut(Arc::make_mut(&mut mesh.workers).get_mut(worker).unwrap());
        worker.locality = Some(locality(zone, "r7"));
    }

    fn editions(builder: &mut Builder, mesh: &Mesh) -> Editions {
        let proxies = builder.build(mesh, Instant::now());
        builder.editions(proxies, mesh)
    }

    fn of(mesh: &Mesh) -> Editions {
        editions(&mut Builder::new(options(), SharedWeights::default()), mesh)
    }

    /// `(zone, priority, weight, endpoints)` of a version as this client is told.
    fn told(editions: &Editions, audience: &Audience, version: &str) -> Vec<(String, u32, u32, usize)> {
        let snapshot = editions.of(audience);
        let resource = snapshot.set(ResourceType::Endpoints).unwrap().get(version).unwrap();
        let assignment = ClusterLoadAssignment::decode(resource.body.as_ref()).unwrap();
        let localities = assignment.endpoints.into_iter();
        localities
            .map(|group| {
                let weight = group.load_balancing_weight.map_or(0, |weight| weight.value);
                let zone = group.locality.map(|locality| locality.zone).unwrap_or_default();
                (zone, group.priority, weight, group.lb_endpoints.len())
            })
            .collect()
    }

    fn row(zone: &str, priority: u32, weight: u32, endpoints: usize) -> (String, u32, u32, usize) {
        (zone.to_owned(), priority, weight, endpoints)
    }

    #[test]
    fn each_zone_is_told_of_its_own_workers_first_and_all_else_is_shared() {
        let editions = of(&in_zones());
        let here = audience(Client::Envoy, "x");
        assert_eq!(
            told(&editions, &here, "minilm/v1"),
            [row("x", 0, 1, 1), row("y", 1, 1, 1)]
        );
        assert_eq!(told(&editions, &here, "other/v9"), [row("y", 0, 1, 1)]);
        let (own, nowhere) = (editions.of(&here), editions.of(&Audience::default()));
        for kind in [ResourceType::Cluster, ResourceType::Extension, ResourceType::Route] {
            assert_eq!(own.set(kind), nowhere.set(kind));
        }
        assert_eq!(told(&editions, &Audience::default(), "minilm/v1"), [row("", 0, 1, 2)]);
        // v2 is nobody's: the very resource.
        let empty = |snapshot: &Snapshot| {
            let set = snapshot.set(ResourceType::Endpoints).unwrap();
            Arc::clone(set.get("minilm/v2").unwrap())
        };
        assert!(Arc::ptr_eq(&empty(&own), &empty(&nowhere)));
        assert!(
            Arc::ptr_eq(&own, &editions.of(&audience(Client::Envoy, "x"))),
            "made once"
        );
    }

    #[test]
    fn places_that_only_a_node_names_are_nowhere() {
        let editions = of(&in_zones());
        let invented = editions.of(&audience(Client::Envoy, "invented"));
        assert!(Arc::ptr_eq(&invented, &editions.of(&Audience::default())));
    }

    #[test]
    fn grpc_clients_get_the_same_order_without_a_gap_where_all_are_drained() {
        let mut mesh = in_zones();
        let here = audience(Client::Grpc, "x");
        assert_eq!(
            told(&of(&mesh), &here, "minilm/v1"),
            [row("x", 0, 400, 1), row("y", 1, 101, 1)]
        );
        let worker = Arc::make_mut(Arc::make_mut(&mut mesh.workers).get_mut("a").unwrap());
        let mut telemetry = kilocard_registry::worker::Telemetry::default();
        telemetry.gpu.xids = vec![XidEvent { code: 79, at_ms: 0 }];
        worker.telemetry = Some(telemetry);
        assert_eq!(told(&of(&mesh), &here, "minilm/v1"), [row("y", 0, 101, 1)]);
    }

    #[test]
    fn a_worker_that_is_elsewhere_now_is_news_though_proxies_that_are_nowhere_see_no_difference() {
        let mut mesh = in_zones();
        let mut builder = Builder::new(options(), SharedWeights::default());
        let first = editions(&mut builder, &mesh);
        assert!(first.is(&editions(&mut builder, &mesh)));
        move_to(&mut mesh, "a", "y");
        let second = editions(&mut builder, &mesh);
        assert_eq!(first.version(), second.version());
        assert!(!first.is(&second));
        let here = audience(Client::Envoy, "x");
        assert_eq!(
            told(&second, &here, "minilm/v1"),
            [row("", 0, 1, 2)],
            "nobody is in x any more"
        );
    }

    #[test]
    fn what_spills_over_is_told_in_the_zone_that_sends_it_only() {
        let mesh = in_zones();
        let mut editions = of(&mesh);
        let split = Split {
            away: 20,
            to: BTreeMap::from([(locality("y", ""), 20)]),
        };
        let served = ServedModel {
            model: "minilm".to_owned(),
            version: "v1".to_owned(),
        };
        let unsplit = of(&mesh);
        editions.parts.spills = BTreeMap::from([(served, BTreeMap::from([(locality("x", ""), split)]))]);
        assert!(!editions.is(&unsplit));
        assert_eq!(editions.away().collect::<Vec<_>>(), [20]);
        let (here, there) = (audience(Client::Envoy, "x"), audience(Client::Envoy, "y"));
        assert_eq!(
            told(&editions, &here, "minilm/v1"),
            [row("x", 0, 80_000, 1), row("y", 0, 20_000, 1)]
        );
        assert_eq!(
            told(&editions, &there, "minilm/v1"),
            told(&unsplit, &there, "minilm/v1")
        );
        let grpc = audience(Client::Grpc, "x");
        assert_eq!(
            told(&editions, &grpc, "minilm/v1"),
            [row("x", 0, 80_000, 1), row("y", 0, 20_000, 1)]
        );
    }
}
