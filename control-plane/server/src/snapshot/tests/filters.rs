//! What filters are told, and when they are told anew.

use super::*;

fn filter_state(snapshot: &Snapshot) -> MeshState {
    let extension: TypedExtensionConfig = decode(snapshot, ResourceType::Extension, filter::NAME);
    let wasm = Wasm::decode(extension.typed_config.unwrap().value.as_slice()).unwrap();
    let configuration = wasm.config.unwrap().configuration.unwrap();
    let configuration = String::decode(configuration.value.as_slice()).unwrap();
    FilterConfig::parse(configuration.as_bytes()).unwrap().state
}

#[test]
fn what_is_not_for_filters_does_not_reach_them_and_configures_none_anew() {
    let (mut builder, now, mut mesh) = (
        Builder::new(options(), SharedWeights::default()),
        Instant::now(),
        mesh(),
    );
    let filter = |snapshot: &Snapshot| snapshot.set(ResourceType::Extension).unwrap().version().clone();
    let before = builder.build(&mesh, now);
    let weights = json!({
        "api_version": "kilocard/v1", "kind": "WeightPolicy", "metadata": {"name": "w"},
        "spec": {"slow_start": {"over_ms": 0}},
    });
    let with_weights = policies(&[weights]);
    Arc::make_mut(&mut mesh.policies).extend((*with_weights).clone());
    assert_eq!(mesh.policies.len(), 2);
    assert_eq!(filter(&builder.build(&mesh, now)), filter(&before));
}

#[test]
fn the_filter_gets_the_documents_in_force() {
    let extension: TypedExtensionConfig = decode(&build(&mesh(), &options()), ResourceType::Extension, filter::NAME);
    let plugin = Wasm::decode(extension.typed_config.as_ref().unwrap().value.as_slice())
        .unwrap()
        .config
        .unwrap();
    let configuration = String::decode(plugin.configuration.as_ref().unwrap().value.as_slice()).unwrap();
    let parsed = FilterConfig::parse(configuration.as_bytes()).unwrap();
    assert_eq!(parsed.documents.len(), 1);
    assert_eq!(parsed.state.unready, ["minilm/v2"]);
    insta::assert_snapshot!(format!("{}\n{configuration}", compact(&plugin)));
}

#[test]
fn documents_that_are_rewritten_unchanged_do_not_configure_the_filter_anew() {
    let (before, options) = (mesh(), options());
    let mut after = before.clone();
    Arc::make_mut(&mut after.policies)
        .values_mut()
        .for_each(|policy| policy.revision += 1);
    assert_eq!(build(&before, &options), build(&after, &options));
}

#[test]
fn only_a_version_that_becomes_ready_or_unready_configures_the_filter_anew() {
    let (mut builder, now, first) = (
        Builder::new(options(), SharedWeights::default()),
        Instant::now(),
        mesh(),
    );
    let filter = |snapshot: &Snapshot| snapshot.set(ResourceType::Extension).unwrap().version().clone();
    let before = builder.build(&first, now);
    assert_eq!(filter_state(&before).unready, ["minilm/v2"]);

    let mut busier = first.clone();
    Arc::make_mut(Arc::make_mut(&mut busier.workers).get_mut("b").unwrap()).telemetry = None;
    let (id, another) = worker("c", 8003, &[("minilm", "v1")], None);
    Arc::make_mut(&mut busier.workers).insert(id, another);
    let same = builder.build(&busier, now);
    assert_eq!(filter(&same), filter(&before));

    let (id, canary) = worker("d", 8004, &[("minilm", "v2")], None);
    Arc::make_mut(&mut busier.workers).insert(id, canary);
    let ready = builder.build(&busier, now);
    assert_ne!(filter(&ready), filter(&before));
    assert!(filter_state(&ready).is_empty());
}

#[test]
fn a_version_that_loses_its_last_worker_is_unready_before_its_endpoint_goes() {
    let (mut builder, now, mut mesh) = (
        Builder::new(options(), SharedWeights::default()),
        Instant::now(),
        mesh(),
    );
    builder.build(&mesh, now);
    mesh.workers = Arc::default();
    let soon = builder.build(&mesh, now);
    assert_eq!(filter_state(&soon).unready, ["minilm/v1", "minilm/v2"]);
    let endpoints = |snapshot: &Snapshot| {
        let assignment: ClusterLoadAssignment = decode(snapshot, ResourceType::Endpoints, "minilm/v1");
        assignment
            .endpoints
            .first()
            .map_or(0, |locality| locality.lb_endpoints.len())
    };
    assert_eq!(endpoints(&soon), 2);
    let later = builder.build(&mesh, builder.due().unwrap());
    assert_eq!(endpoints(&later), 0);
    assert_eq!(filter_state(&later), filter_state(&soon));
}
