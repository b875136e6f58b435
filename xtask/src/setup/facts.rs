//! What the machine has: the only part of planning that looks around. It changes nothing and takes well under a second.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{answer, is_program, on_path};
use crate::setup::fetch;
use crate::setup::plan::{DEBIAN_WASM, Facts, Privilege, Tool, Want, WasmFacts, WasmToolchain};
use crate::setup::wasm;
use crate::workspace::Workspace;

/// The oldest Envoy that has the wasm failure policy FAIL_RELOAD.
const ENVOY_AT_LEAST: (u32, u32) = (1, 33);
/// The oldest etcd whose watch and lease behaviour is tested.
const ETCD_AT_LEAST: (u32, u32) = (3, 4);

/// Looks at the machine, as far as `want` asks.
pub(crate) fn gather(workspace: &Workspace, want: Want) -> anyhow::Result<Facts> {
    let tools = workspace.tools();
    let apt = on_path("apt-get").is_some();
    let mut facts = Facts {
        privilege: Privilege::Root,
        apt,
        listed: BTreeSet::new(),
        python: on_path("python3").is_some(),
        pip: false,
        protoc: !want.protoc || protoc().is_some(),
        protoc_includes: !want.protoc || protoc().is_some_and(|path| has_well_known_protos(&path)),
        etcd: Tool::Missing,
        envoy: Tool::Missing,
        envoy_wheel_fits: cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")),
        model: true,
        grpcio: true,
        wasm: wasm_facts(want)?,
        checks: !want.checks || checks(workspace),
    };
    if want.runtime {
        facts.etcd = etcd(&tools);
        facts.envoy = envoy(&tools)?;
        facts.model = fetch::complete(&fetch::minilm()?.folder(&tools), &fetch::minilm()?.source);
    }
    if want.clients {
        facts.grpcio = fetch::complete(&fetch::grpcio()?.folder(&tools), &fetch::grpcio()?.source);
    }
    // The rest costs a process each, and matters only when something has to be fetched.
    let envoy_missing = want.runtime && !matches!(facts.envoy, Tool::Ours(_));
    let wheels_missing = envoy_missing || !facts.model || !facts.grpcio;
    if wheels_missing {
        facts.pip = fetch::python_with_pip().is_some();
    }
    let debian_wasm_asked = want.wasm && !(facts.wasm.target && facts.wasm.forced.is_none());
    let etcd_missing = want.runtime && facts.etcd == Tool::Missing;
    let pip_missing = wheels_missing && !facts.pip;
    if etcd_missing || pip_missing || debian_wasm_asked || !facts.protoc || !facts.protoc_includes {
        facts.privilege = privilege();
        if apt {
            facts.listed = listed_packages();
        }
    }
    Ok(facts)
}

/// protoc as prost's build scripts look for it: `PROTOC`, else the path.
pub(crate) fn protoc() -> Option<PathBuf> {
    match std::env::var_os("PROTOC") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| is_program(path)),
        None => on_path("protoc"),
    }
}

/// protoc looks for its own protos in `../include`, seen from where the program really lies.
fn has_well_known_protos(protoc: &Path) -> bool {
    let has = |folder: &Path| folder.join("google/protobuf/timestamp.proto").is_file();
    let beside = protoc
        .canonicalize()
        .ok()
        .and_then(|real| Some(real.parent()?.parent()?.join("include")));
    let named = std::env::var_os("PROTOC_INCLUDE").map(PathBuf::from);
    [beside, named, Some(PathBuf::from("/usr/include"))]
        .into_iter()
        .flatten()
        .any(|folder| has(&folder))
}

fn etcd(tools: &Path) -> Tool {
    let usable = |path: &Path| {
        let text = answer(Command::new(path).arg("--version")).unwrap_or_default();
        version(&text).filter(|found| *found >= ETCD_AT_LEAST).ok_or(text)
    };
    if let Some(named) = std::env::var_os("KILOCARD_ETCD_BIN") {
        return named_by_user(Path::new(&named), usable);
    }
    let ours = tools.join(fetch::ETCD_FOLDER);
    if fetch::complete(&ours, fetch::ETCD_PACKAGE) {
        return Tool::Ours(ours.join("etcd"));
    }
    on_path("etcd")
        .filter(|path| usable(path).is_ok())
        .map_or(Tool::Missing, Tool::Found)
}

fn envoy(tools: &Path) -> anyhow::Result<Tool> {
    let usable = |path: &Path| {
        let text = answer(Command::new(path).arg("--version")).unwrap_or_default();
        // `envoy  version: <sha>/1.40.0/Clean/RELEASE/BoringSSL`
        let said = text.split_once("version:").and_then(|(_, rest)| version(rest));
        said.filter(|found| *found >= ENVOY_AT_LEAST).ok_or(text)
    };
    if let Some(named) = std::env::var_os("KILOCARD_ENVOY") {
        return Ok(named_by_user(Path::new(&named), usable));
    }
    let wheel = fetch::envoy()?;
    let ours = wheel.folder(tools);
    if fetch::complete(&ours, &wheel.source) {
        return Ok(Tool::Ours(ours.join("envoy")));
    }
    Ok(on_path("envoy")
        .filter(|path| usable(path).is_ok())
        .map_or(Tool::Missing, Tool::Found))
}

/// A program that the environment names is used as it is, or refused with what it says of its version.
fn named_by_user(path: &Path, usable: impl Fn(&Path) -> Result<(u32, u32), String>) -> Tool {
    match (usable(path), std::path::absolute(path)) {
        (Ok(_), Ok(absolute)) => Tool::Ours(absolute),
        (Err(text), Ok(_)) if !text.is_empty() => Tool::Unusable(format!(
            "{} says: {}",
            path.display(),
            text.lines().next().unwrap_or_default()
        )),
        _ => Tool::Unusable(format!("{} does not run", path.display())),
    }
}

/// The first `major.minor` in a text, as in `etcd Version: 3.4.23`.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| c.is_whitespace() || c == '/').find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

fn wasm_facts(want: Want) -> anyhow::Result<WasmFacts> {
    let forced = match std::env::var("KILOCARD_WASM_TOOLCHAIN").as_deref() {
        Ok("debian") => Some(WasmToolchain::Debian),
        Ok("rust") => Some(WasmToolchain::Rust),
        Ok("") | Err(_) => None,
        Ok(other) => anyhow::bail!("KILOCARD_WASM_TOOLCHAIN is {other:?}: say \"rust\" or \"debian\", or unset it"),
    };
    let target = want.wasm && wasm::target_installed();
    let mut facts = WasmFacts {
        forced,
        target,
        rustup: on_path("rustup").is_some(),
        debian: BTreeSet::new(),
        linker: false,
    };
    if want.wasm && (!target || forced == Some(WasmToolchain::Debian)) {
        facts.linker = wasm::rust_lld().is_some();
        facts.debian = installed_packages();
    }
    Ok(facts)
}

fn checks(workspace: &Workspace) -> bool {
    ["fmt", "clippy"]
        .iter()
        .all(|name| answer(workspace.cargo().args([name, "--version"])).is_some())
}

fn privilege() -> Privilege {
    if answer(Command::new("id").arg("-u")).as_deref() == Some("0") {
        Privilege::Root
    } else if answer(Command::new("sudo").args(["-n", "true"])).is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

fn listed_packages() -> BTreeSet<String> {
    let asked = [
        "protobuf-compiler",
        "libprotobuf-dev",
        "python3",
        "python3-pip",
        "etcd-server",
    ];
    let text = answer(Command::new("apt-cache").arg("madison").args(asked).args(DEBIAN_WASM)).unwrap_or_default();
    text.lines()
        .filter_map(|line| Some(line.split('|').next()?.trim().to_owned()))
        .collect()
}

fn installed_packages() -> BTreeSet<&'static str> {
    // dpkg-query fails when one of them is unknown, and still prints the others.
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(DEBIAN_WASM)
        .output();
    let text = query
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let installed = |name: &&str| text.lines().any(|line| line == format!("{name} installed"));
    DEBIAN_WASM.into_iter().filter(installed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let envoy = "envoy  version: 51ab7f2e0c/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(version(envoy), Some((1, 40)));
        assert_eq!(version("etcd Version: 3.4.23\nGit SHA: Not provided"), Some((3, 4)));
        assert_eq!(version("no number here"), None);
    }

    #[test]
    fn protoc_beside_its_include_folder_has_the_well_known_protos() {
        let folder = tempfile::tempdir().unwrap();
        let protos = folder.path().join("include/google/protobuf");
        std::fs::create_dir_all(&protos).unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        std::fs::write(folder.path().join("bin/protoc"), "").unwrap();
        std::fs::write(protos.join("timestamp.proto"), "").unwrap();
        assert!(has_well_known_protos(&folder.path().join("bin/protoc")));
    }
}
