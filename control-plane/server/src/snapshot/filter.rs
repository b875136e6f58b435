//! ECDS: the wasm filter that decides each request, with the policies in force as its configuration.

use crate::model::Policies;
use crate::snapshot::BuildOptions;
use crate::snapshot::wire::millis;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, DataSource, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, ReloadConfig, VmConfig};
use envoy_types::pb::google::protobuf::{Any, StringValue};
use envoy_types::util::pack_any;
use kilocard_policy::config::{Document, FilterConfig, LimitScope, MeshState, Spec};
use kilocard_xds::snapshot::{Resource, Version};
use prost::Message;
use std::path::{Path, PathBuf};

/// Name of the filter in the listener and of its ECDS resource.
pub const NAME: &str = "kilocard-gateway";

/// First bytes of a wasm module: `\0asm` and version 1 (WebAssembly core specification, "Binary Format, Modules").
const WASM_MAGIC: &[u8] = b"\0asm\x01\0\0\0";

/// How proxies get at the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// Within the resource: proxies need no files.
    Inline,
    /// As a path that each proxy reads itself: smaller pushes, but the file must be there on each proxy's machine.
    Path,
}

/// The wasm module, read once.
#[derive(Clone, Debug)]
pub struct FilterModule {
    code: data_source::Specifier,
    vm_id: String,
}

/// Why a file cannot serve as the filter.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It cannot be read.
    #[error("cannot read the filter {path}: {source}; `cargo xtask wasm` builds it")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{0} is not a wasm module (it must begin with \"\\0asm\" and version 1)")]
    NotWasm(PathBuf),
    /// The path cannot be given to proxies.
    #[error("{0}: a filter that is delivered by path needs an absolute path in UTF-8")]
    Path(PathBuf),
}

impl FilterModule {
    /// Reads the module. Its hash becomes part of the VM's id, so that a new module gets new VMs and an unchanged one
    /// keeps those that run.
    ///
    /// # Errors
    /// [`ModuleError`] if there is no such module.
    pub fn load(path: &Path, delivery: Delivery) -> Result<Self, ModuleError> {
        let bytes = std::fs::read(path).map_err(|source| ModuleError::Read {
            path: path.to_owned(),
            source,
        })?;
        if !bytes.starts_with(WASM_MAGIC) {
            return Err(ModuleError::NotWasm(path.to_owned()));
        }
        let vm_id = format!("{NAME}-{}", Version::of(&bytes));
        let code = match delivery {
            Delivery::Inline => data_source::Specifier::InlineBytes(bytes),
            Delivery::Path => {
                let text = path.to_str().filter(|_| path.is_absolute());
                data_source::Specifier::Filename(text.ok_or_else(|| ModuleError::Path(path.to_owned()))?.to_owned())
            }
        };
        Ok(Self { code, vm_id })
    }

    /// Id of the VMs that run this module: its name and content hash.
    pub fn vm_id(&self) -> &str {
        &self.vm_id
    }
}

/// The filter with the policies in force.
pub fn build(policies: &Policies, state: &MeshState, options: &BuildOptions) -> Resource {
    let module = &options.filter;
    let code = DataSource {
        specifier: Some(module.code.clone()),
        ..DataSource::default()
    };
    let vm = VmConfig {
        vm_id: module.vm_id.clone(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(AsyncDataSource {
            specifier: Some(async_data_source::Specifier::Local(code)),
        }),
        ..VmConfig::default()
    };
    let plugin = PluginConfig {
        name: NAME.to_owned(),
        root_id: NAME.to_owned(),
        vm: Some(Vm::VmConfig(vm)),
        configuration: Some(any_string(configuration(policies, state, &options.sync_cluster))),
        // A trap costs one request; the next one finds a new VM. The default would refuse everything from then on.
        failure_policy: FailurePolicy::FailReload.into(),
        reload_config: Some(ReloadConfig {
            backoff: Some(BackoffStrategy {
                base_interval: millis(1000),
                max_interval: None,
            }),
        }),
        ..PluginConfig::default()
    };
    let extension = TypedExtensionConfig {
        name: NAME.to_owned(),
        typed_config: Some(pack_any(Wasm { config: Some(plugin) })),
    };
    Resource::new(NAME, extension.encode_to_vec())
}

/// The policies as the filter parses them. Their revision is a content hash: documents that are rewritten without a
/// change are no reason to configure a filter anew. The state of the versions is no part of it: it changes without anybody
/// having changed a policy.
fn configuration(policies: &Policies, state: &MeshState, sync_cluster: &str) -> String {
    let documents: Vec<Document> = policies
        .values()
        .filter(|policy| policy.document.kind().is_for_filters())
        .map(|policy| Document::clone(&policy.document))
        .collect();
    let revision = Version::of(json(&documents).as_bytes()).to_string();
    let state = state.clone();
    let is_synced = documents.iter().any(needs_channel);
    json(&FilterConfig {
        sync_cluster: is_synced.then(|| sync_cluster.to_owned()),
        revision,
        documents,
        state,
    })
}

/// Whether filters need the control plane to enforce it.
fn needs_channel(document: &Document) -> bool {
    match document.spec() {
        Spec::RateLimit(limits) => limits.scope == LimitScope::Mesh,
        Spec::Admission(admission) => admission.memory.is_some(),
        _ => false,
    }
}

/// Policy documents hold strings, numbers and lists: encoding them cannot fail. Were it to, the filter would refuse what
/// is no JSON, and proxies would keep their last configuration. (An empty one it would take, as "no policies".)
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("cannot be encoded: {error}"))
}

fn any_string(value: String) -> Any {
    Any {
        type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
        value: string_value(value),
    }
}

fn string_value(value: String) -> Vec<u8> {
    StringValue { value }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Name;

    #[test]
    fn a_file_that_is_no_wasm_module_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        assert!(matches!(
            FilterModule::load(&path, Delivery::Inline),
            Err(ModuleError::Read { .. })
        ));
        std::fs::write(&path, "#!/bin/sh").unwrap();
        assert!(matches!(
            FilterModule::load(&path, Delivery::Inline),
            Err(ModuleError::NotWasm(_))
        ));
        assert!(Wasm::type_url().ends_with("filters.http.wasm.v3.Wasm"));
    }

    #[test]
    fn another_module_runs_in_other_vms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let vm_id = |body: &[u8]| {
            std::fs::write(&path, [WASM_MAGIC, body].concat()).unwrap();
            FilterModule::load(&path, Delivery::Path).unwrap().vm_id().to_owned()
        };
        assert_ne!(vm_id(b"1"), vm_id(b"2"));
        assert_eq!(vm_id(b"1"), vm_id(b"1"));
    }
}
