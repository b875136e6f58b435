//! The configuration of the filter: what the control plane puts into Envoy's wasm plugin.

use serde::Serialize;
use serde_json::Value;

use super::document::{Document, parse};
use super::limits::{MAX_DOCUMENTS, MAX_FILTER_CONFIG_BYTES, MAX_REVISION_BYTES, MAX_VERSIONS};
use super::name::{self, is_name, is_version};
use super::reader::Node;
use super::unique_keys;
use super::violation::{Violation, Violations, quote};

/// The documents in force and the revision they belong to. Its JSON is the configuration of the wasm plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilterConfig {
    /// Where the documents come from; opaque, for logs and the status page.
    pub revision: String,
    /// The very documents from the store.
    pub documents: Vec<Document>,
    /// What the control plane knows about the workers.
    #[serde(skip_serializing_if = "MeshState::is_empty")]
    pub state: MeshState,
    /// The name, in Envoy's configuration, of the cluster of the control plane; without it, each proxy has the limits of the
    /// whole mesh for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_cluster: Option<String>,
}

/// Which versions cannot take traffic now. Both lists hold route keys, `<model>/<version>`, sorted and each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeshState {
    /// Those without a ready endpoint.
    pub unready: Vec<String>,
    /// Those whose endpoints have no room for shadow traffic.
    pub saturated: Vec<String>,
}

impl MeshState {
    /// Whether every version is ready and none saturated.
    pub fn is_empty(&self) -> bool {
        self.unready.is_empty() && self.saturated.is_empty()
    }
}

impl FilterConfig {
    /// Reads what the control plane wrote. No bytes at all are the empty configuration: the defaults of validation and
    /// no models.
    ///
    /// # Errors
    /// Everything that is wrong; the paths of documents begin with `documents[N]`.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<Violation>> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let mut out = Violations::default();
        if json.len() > MAX_FILTER_CONFIG_BYTES {
            out.add(
                "",
                format!(
                    "is {} bytes of JSON; at most {MAX_FILTER_CONFIG_BYTES} are allowed",
                    json.len()
                ),
            );
            return out.finish(None);
        }
        let config = unique_keys::read(json, &mut out).and_then(|value| read(&value, &mut out));
        out.finish(config)
    }
}

fn read(json: &Value, out: &mut Violations) -> Option<FilterConfig> {
    let root = Node::root(json).object(&["revision", "documents", "state", "sync_cluster"], out)?;
    let revision = root
        .required("revision", out)
        .and_then(|node| name::text(&node, 0..=MAX_REVISION_BYTES, out));
    let documents = root
        .required("documents", out)
        .and_then(|node| read_documents(&node, out));
    let state = root.or_default("state", out, read_state);
    let sync_cluster = root.maybe("sync_cluster", out, |node, out| {
        name::text(node, 1..=MAX_REVISION_BYTES, out)
    });
    Some(FilterConfig {
        revision: revision?,
        documents: documents?,
        state: state?,
        sync_cluster: sync_cluster?,
    })
}

fn read_state(node: &Node<'_>, out: &mut Violations) -> Option<MeshState> {
    let state = node.object(&["unready", "saturated"], out)?;
    let unready = state.or_default("unready", out, read_route_keys);
    let saturated = state.or_default("saturated", out, read_route_keys);
    Some(MeshState {
        unready: unready?,
        saturated: saturated?,
    })
}

fn read_route_keys(node: &Node<'_>, out: &mut Violations) -> Option<Vec<String>> {
    let mut keys = node.list(0..=MAX_DOCUMENTS * MAX_VERSIONS, out, |node, out| {
        let text = node.string(out)?;
        let is_key = text
            .split_once('/')
            .is_some_and(|(model, version)| is_name(model) && is_version(version));
        if !is_key {
            out.add(
                node.path(),
                format!("{} is not a route: use model/version", quote(text)),
            );
        }
        is_key.then(|| text.to_owned())
    })?;
    keys.sort_unstable();
    keys.dedup();
    Some(keys)
}

fn read_documents(node: &Node<'_>, out: &mut Violations) -> Option<Vec<Document>> {
    let elements = node.array(0..=MAX_DOCUMENTS, out)?;
    let mut documents = Vec::with_capacity(elements.len());
    for element in elements {
        match parse(element.value()) {
            Ok(document) => documents.push(document),
            Err(violations) => out.extend(element.path(), violations),
        }
    }
    Some(documents)
}
