//! A filter alone in an Envoy.

use anyhow::{Result, ensure};
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::{StaticMesh, all_to_v1};
use serde_json::{Value, json};

/// One of the modules that are shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Gateway,
    Validation,
    Routing,
}

impl Filter {
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::Validation, Self::Routing];

    /// Root id, and the module's file name.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Gateway => ("kilocard-gateway", "kilocard_gateway"),
            Self::Validation => ("header-validation", "kilocard_header_validation"),
            Self::Routing => ("model-routing", "kilocard_model_routing"),
        }
    }

    /// Whether every bad header is refused, and not only those that it reads.
    pub(crate) fn validates(self) -> bool {
        self != Self::Routing
    }

    /// The filter before v1 and v2, with these documents besides the routing policy. What it leaves undecided goes to v1.
    pub(crate) async fn start(self, documents: &[Value]) -> Result<StaticMesh> {
        let (root_id, module) = self.names();
        let mut all = vec![all_to_v1()];
        all.extend_from_slice(documents);
        let plugin = Plugin::new(root_id, module, &json!(all));
        StaticMesh::start(&[plugin], config::everything("minilm/v1")).await
    }

    /// # Errors
    /// If the filter trapped, or failed at a request.
    pub(crate) async fn check_unharmed(self, mesh: &mut StaticMesh) -> Result<()> {
        mesh.envoy.check()?;
        let (root_id, _) = self.names();
        let stats = mesh.envoy.admin().stats("wasm").await?;
        let harm = |name: &str| name.starts_with(&format!("wasm.{root_id}.vm_reload")) || name.ends_with(".HOST_ERROR");
        for (name, value) in stats.iter().filter(|(name, _)| harm(name)) {
            ensure!(*value == 0, "{name} is {value}");
        }
        let log = mesh.envoy.log()?;
        ensure!(!log.contains("wasm_fail_stream") && !log.contains("panicked"), "{log}");
        let reply = mesh.call(&[]).await?;
        ensure!(reply.grpc_status == Some(0), "a good request is answered {reply:?}");
        Ok(())
    }
}

/// A ValidationPolicy.
pub(crate) fn validation(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "default"}, "spec": spec})
}

/// A MeshPolicy.
pub(crate) fn mesh_policy(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"}, "spec": spec})
}
