//! The report that the control plane serves at `GET /status` and `kilocard status` shows.

use crate::policy_status::PolicyStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod limits;

pub use limits::{
    LimitedProxyReport, LimitsReport, MemoryReport, SharedKeyReport, SharedKeysReport, SharedPolicyReport,
};

/// The mesh as this control plane sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshReport {
    /// This control plane and its source.
    pub control_plane: ControlPlaneReport,
    /// Policies, each with the verdict on its newest revision; sorted by kind and name.
    pub policies: Vec<PolicyReport>,
    /// Model versions with their endpoints; sorted by model and version.
    pub clusters: Vec<ClusterReport>,
    /// What the replicas of model versions bear, and how many there shall be; sorted by model and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaling: Vec<ScaleReport>,
    /// Limits that the mesh shares, and GPU memory for requests.
    #[serde(default)]
    pub limits: LimitsReport,
    /// What the filters are told of the versions besides the policies.
    #[serde(default)]
    pub filter_state: FilterStateReport,
    /// Records under `workers/` or `devices/` that could not be read, each with its reason.
    pub rejected_records: Vec<RejectedRecord>,
    /// What gRPC's own xDS clients are given.
    #[serde(default)]
    pub proxyless: ProxylessReport,
    /// Connected proxies; sorted by node id.
    pub nodes: Vec<NodeReport>,
    /// Secrets that are served, or cannot be; sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretReport>,
}

/// What the replicas of a model version bear, and how many there shall be. Levels and rates are of the ready replicas whose
/// reports are fresh, and `None` where no such report tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleReport {
    /// Model name.
    pub model: String,
    /// Version name.
    pub version: String,
    /// The ScalePolicy that is for it; `None` if none is, and then nobody says how many there shall be.
    pub policy: Option<String>,
    /// How many replicas there shall be.
    pub desired_replicas: Option<u32>,
    /// Why not more and not fewer.
    pub reason: Option<String>,
    /// Workers that serve it.
    pub replicas: u32,
    /// Those that take requests.
    pub ready_replicas: u32,
    /// Requests per second, of all together.
    pub qps: Option<f64>,
    /// Memory in use, the mean, percent: of the KV cache where there is one, else of the card.
    pub gpu_memory_used_percent: Option<f64>,
    /// That of the fullest, percent.
    pub gpu_memory_used_max_percent: Option<f64>,
    /// Sequences that wait, of all together.
    pub queue: Option<f64>,
    /// What each target of the policy asks for.
    pub metrics: Vec<ScaleMetricReport>,
    /// True when any of its load is simulated.
    pub simulated: bool,
}

/// What a target asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleMetricReport {
    /// `qps`, `gpu_memory_used_percent`, `queue`.
    pub name: String,
    /// What it is; `None` when no replica tells.
    pub value: Option<f64>,
    /// What a replica shall bear.
    pub target: f64,
    /// Ready replicas that did not tell, or not lately.
    pub missing: u32,
    /// Replicas that it asks for; `None` when no replica tells.
    pub replicas: Option<u32>,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReport {
    /// Its name; `*` for the folder as a whole.
    pub name: String,
    /// Content hash of what is served; `None` if nothing is.
    pub version: Option<String>,
    /// Why the newest files are not served.
    pub problem: Option<String>,
}

/// Which versions the filters send nothing to now. Both lists hold `<model>/<version>`, sorted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FilterStateReport {
    /// Those that a policy names and no worker serves: their requests take the fallback that the policy says.
    pub unready: Vec<String>,
    /// Those that get no copies of requests, since none of their workers has memory to spare.
    pub saturated: Vec<String>,
}

/// What clients get that do without a proxy (`xds:///<target>`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProxylessReport {
    /// What they may dial; sorted, `gateway` first.
    pub targets: Vec<String>,
    /// What of the policies in force does not hold for them.
    pub limits: Vec<ProxylessLimit>,
}

/// Something that holds for requests through a proxy and not for those of gRPC's own clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProxylessLimit {
    /// The document, as `RoutingPolicy/minilm`, or the worker.
    pub of: String,
    /// Where in it.
    pub field: String,
    /// What happens instead.
    pub effect: String,
}

/// The control plane itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ControlPlaneReport {
    /// Release of the binary.
    pub version: String,
    /// Whether etcd answers now; when not, the last good state is being served.
    pub etcd_connected: bool,
    /// Newest etcd revision seen.
    pub etcd_revision: i64,
    /// Content hash of the served snapshot.
    pub snapshot_version: String,
    /// What is served rests on.
    #[serde(default)]
    pub source: SourceReport,
    /// Which replica does what must be done by one.
    #[serde(default)]
    pub election: ElectionReport,
}

/// The election among the replicas, as the reporting one sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ElectionReport {
    /// The reporting replica.
    pub replica: String,
    /// Whether it leads.
    pub leads: bool,
    /// Who leads; `None` while that is open or not known, and for a folder, where each replica writes for itself.
    pub leader: Option<String>,
}

/// What the mesh that is served rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceReport {
    /// `etcd` or `folder`.
    #[serde(default)]
    pub kind: String,
    /// `source`: what the source says, or last said; `disk`: what an earlier process left, since the source has not
    /// answered yet; `nothing`, also of a control plane that is too old to say.
    pub serving: String,
    /// Of what is served from disk.
    #[serde(default)]
    pub saved: Option<SavedReport>,
    /// Workers that stay in the mesh though their records are gone.
    #[serde(default)]
    pub hold: Option<HoldReport>,
}

/// The last good state on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SavedReport {
    /// When its source last confirmed it, milliseconds since 1970.
    pub saved_unix_ms: u64,
    /// Its revision.
    pub revision: i64,
}

/// Workers that are held after many vanished at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HoldReport {
    /// When it began, milliseconds since 1970.
    pub since_unix_ms: u64,
    /// When it ends at the latest.
    pub until_unix_ms: u64,
    /// Why, and what ends it.
    pub reason: String,
    /// Who is held; sorted.
    pub workers: Vec<String>,
}

/// A policy and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReport {
    /// For example `RoutingPolicy`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The verdict.
    #[serde(flatten)]
    pub status: PolicyStatus,
}

/// A model version: one Envoy cluster, and one more for each declared pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterReport {
    /// Model name.
    pub model: String,
    /// Version name.
    pub version: String,
    /// The pools of its requests: the built-in ones, then those declared, by name.
    #[serde(default)]
    pub pools: Vec<String>,
    /// Where its endpoints are and what spills over; empty when nobody says where they are. Sorted by zone and rack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<LocalityReport>,
    /// Sorted by worker id.
    pub endpoints: Vec<EndpointReport>,
}

/// The endpoints of a cluster in one zone, or in one rack of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocalityReport {
    /// The zone.
    pub zone: String,
    /// The rack, where racks count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rack: String,
    /// What those that take requests can bear, on the scale of the cards.
    pub capacity: f64,
    /// The fraction of it that is in use; `None` when no report tells.
    pub busy: Option<f64>,
    /// How many percent of the requests of the proxies there go elsewhere.
    pub away_percent: u32,
    /// Where they go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<SpillReport>,
}

/// Where requests of a locality go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpillReport {
    /// The zone.
    pub zone: String,
    /// The rack, where racks count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rack: String,
    /// How many percent of all requests.
    pub percent: u32,
}

/// A worker within a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointReport {
    /// Worker id.
    pub worker: String,
    /// `IP:port`.
    pub address: String,
    /// Its zone; empty if nobody says, or where zones make no difference.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Its rack, where racks count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rack: String,
    /// Load-balancing weight pushed to Envoy. A drained endpoint keeps it, and is marked so that Envoy sends nothing new.
    pub weight: u32,
    /// Where the weight comes from.
    pub factors: WeightFactors,
    /// What requests for a GPU may choose it by: `any`, `gpu0`, `memory-high`, `gpu0:high`, `class/<name>`, …
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Why an endpoint weighs what it weighs: `target = capacity × product of the factors`, and the weight follows the target
/// slowly upwards, fast downwards, on a grid (`docs/weights.md`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightFactors {
    /// The card as the inventory names it; `cpu` for none.
    pub card: String,
    /// Relative capacity expected of such a card.
    pub card_prior: f64,
    /// Relative capacity that is counted with: the prior, or what was measured once there is enough of it.
    #[serde(default)]
    pub capacity: f64,
    /// What the capacity is multiplied by, each in `[0,1]`; those that are 1 included.
    #[serde(default)]
    pub factors: Vec<FactorReport>,
    /// Where the weight is heading.
    #[serde(default)]
    pub target: f64,
    /// The weight as it is now, before it is put on the grid.
    #[serde(default)]
    pub smoothed: f64,
    /// Age of the load report, by the control plane's clock; `None` when there has been none.
    #[serde(default)]
    pub telemetry_age_ms: Option<u64>,
    /// True when the report is older than it was promised to get: the weight goes to the card's prior.
    #[serde(default)]
    pub telemetry_stale: bool,
    /// How far a slow start is, in `[0,1)`; `None` when there is none.
    #[serde(default)]
    pub slow_start: Option<f64>,
    /// Why it gets no new requests, if it gets none.
    #[serde(default)]
    pub drained: Option<DrainReport>,
    /// Why it ought to be drained and is not: others could not bear it.
    #[serde(default)]
    pub held: Option<DrainReport>,
    /// True when card or telemetry are simulated.
    pub simulated: bool,
}

impl WeightFactors {
    /// The value of a factor; 1 for one that is not there.
    pub fn factor(&self, name: &str) -> f64 {
        let found = self.factors.iter().find(|factor| factor.name == name);
        found.map_or(1.0, |factor| factor.value)
    }
}

/// One factor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FactorReport {
    /// `memory`, `queue`, `thermal`, `errors`, `nvlink`, `rdma`, `suspect`.
    pub name: String,
    /// In `[0,1]`.
    pub value: f64,
    /// Why it is not 1, in a few words; empty when it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A fault for which an endpoint is, or ought to be, drained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainReport {
    /// Stable: `xid_fatal`, `ecc_uncorrectable`, `row_remap_failure`, `not_serving`, `rdma_lost`.
    pub code: String,
    /// What was seen, in a few words.
    pub text: String,
    /// For how long, by the control plane's clock.
    pub since_ms: u64,
    /// What has to happen before it takes requests again.
    pub returns: String,
}

/// A record that is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedRecord {
    /// etcd key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// A proxy with an open xDS stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReport {
    /// Envoy's node id.
    pub id: String,
    /// `delta` or `sotw`; followed by the type for a stream of one type, as in `delta Secret`.
    pub protocol: String,
    /// `envoy`, or `grpc` for a client without a proxy.
    #[serde(default)]
    pub client: String,
    /// Where it says that it runs; empty if it does not say.
    #[serde(default)]
    pub zone: String,
    /// The rack within it (Envoy's sub-zone); empty if it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rack: String,
    /// Envoy's node cluster: the fleet that it says it belongs to.
    #[serde(default)]
    pub cluster: String,
    /// Where it connected from.
    #[serde(default)]
    pub address: Option<String>,
    /// Seconds since it connected.
    #[serde(default)]
    pub connected_s: u64,
    /// What it subscribed to, by type; sorted by type URL.
    pub types: Vec<NodeTypeReport>,
}

/// How far a proxy is with one resource type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTypeReport {
    /// xDS type URL.
    pub type_url: String,
    /// What the proxy has accepted: the served version if it has all of that which concerns it, else the version of the last
    /// response that it accepted.
    pub acked_version: Option<String>,
    /// What is served of the type. A proxy that is up to date has accepted this.
    #[serde(default)]
    pub served_version: Option<String>,
    /// For how many milliseconds it has not been up to date; `None` if it is.
    #[serde(default)]
    pub behind_ms: Option<u64>,
    /// Whether a response is under way that it has not answered.
    pub in_flight: bool,
    /// Its last refusal, cleared by the next ACK.
    pub nack: Option<NackReport>,
    /// Resources that it refused, and which have not changed since: it goes on with what it had. At most 100, sorted by name.
    #[serde(default)]
    pub refused: Vec<RefusedResource>,
    /// How many there are.
    #[serde(default)]
    pub refused_total: usize,
}

/// A resource that a proxy refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedResource {
    /// Its name.
    pub name: String,
    /// The version that was refused; `None` if what it refused was the removal.
    pub version: Option<String>,
    /// The proxy's own words: what it says of this resource, or all that it said if it names none.
    pub reason: String,
}

/// A refusal by a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NackReport {
    /// Version that was refused.
    pub version: String,
    /// The proxy's own words.
    pub message: String,
}
