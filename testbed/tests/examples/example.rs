//! An example as it is shipped, but for ports and for where the modules lie.

use anyhow::{Context, Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::install::Install;
use kilocard_testbed::raw::{self, Reply};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// How the examples name the folder of the modules.
const MODULES: &str = "target/wasm32-wasip1/wasm/";

/// The text of an example.
pub(crate) fn text(name: &str) -> Result<String> {
    let path = Install::locate()?.root.join("envoy").join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The example with the modules where this run has them.
pub(crate) fn with_modules(name: &str) -> Result<String> {
    let folder = Install::locate()?.filter.with_file_name("");
    Ok(text(name)?.replace(MODULES, &folder.display().to_string()))
}

/// A running example, with upstreams in the places of its clusters' endpoints.
pub(crate) struct Running {
    pub(crate) envoy: StaticEnvoy,
    _dir: tempfile::TempDir,
}

impl Running {
    /// Starts `text`, in which each of the ports is this upstream's.
    pub(crate) async fn start(text: &str, upstreams: &[(u16, &Upstream)]) -> Result<Self> {
        let mut config: Value = serde_norway::from_str(text)?;
        for (port, upstream) in upstreams {
            let found = readdress(&mut config, *port, upstream.address().port());
            ensure!(found == 1, "{found} endpoints have port {port}");
        }
        for pointer in [
            "/admin/address/socket_address/port_value",
            "/static_resources/listeners/0/address/socket_address/port_value",
        ] {
            *config
                .pointer_mut(pointer)
                .with_context(|| format!("{pointer} is not in the example"))? = json!(0);
        }
        let dir = tempfile::tempdir()?;
        let envoy = StaticEnvoy::start(&Install::locate()?, dir.path(), "example", &config).await?;
        Ok(Self { envoy, _dir: dir })
    }

    /// Calls through it.
    pub(crate) async fn call(&self, headers: &[(&str, &[u8])]) -> Result<Reply> {
        raw::call(self.envoy.address(), "ServerReady", headers, &ServerReadyRequest {}).await
    }
}

/// Gives every `port_value` of `from` another one; how many there were.
fn readdress(value: &mut Value, from: u16, to: u16) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter_mut()
            .map(|(key, value)| {
                if key == "port_value" && *value == json!(from) {
                    *value = json!(to);
                    return 1;
                }
                readdress(value, from, to)
            })
            .sum(),
        Value::Array(values) => values.iter_mut().map(|value| readdress(value, from, to)).sum(),
        _ => 0,
    }
}

/// Writes a file the way a reader sees the old one or the new one.
pub(crate) fn replace_whole(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)?;
    Ok(())
}
