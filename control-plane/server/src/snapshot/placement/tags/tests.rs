use super::*;
use crate::snapshot::tests::{policies, worker};
use kilocard_registry::worker::Telemetry;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A mesh with these cards, as `(node, pci, record)`, and these classes.
fn mesh(cards: &[(&str, &str, Value)], classes: &Value) -> Mesh {
    let document = json!({
        "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"gpu_classes": classes},
    });
    let devices = cards.iter().map(|(node, pci, record)| {
        let record: DeviceRecord = serde_json::from_value(record.clone()).unwrap();
        (id(node, pci), Arc::new(record))
    });
    Mesh {
        devices: Arc::new(devices.collect::<BTreeMap<_, _>>()),
        policies: policies(&[document]),
        ..Mesh::default()
    }
}

fn id(node: &str, pci: &str) -> DeviceId {
    DeviceId {
        node: node.to_owned(),
        pci: pci.to_owned(),
    }
}

fn tags_of(mesh: &Mesh, device: Option<DeviceId>, telemetry: Option<Telemetry>) -> Vec<String> {
    let (_, mut worker) = worker("w", 8001, &[("minilm", "v1")], None);
    let worker = Arc::make_mut(&mut worker);
    (worker.device, worker.telemetry) = (device, telemetry);
    let mut tags = tags(mesh, worker, &classes(mesh)).to_vec();
    tags.sort();
    tags
}

fn h100() -> Value {
    json!({"model": "NVIDIA H100 80GB HBM3", "memory_gb": 79.6, "arch": "hopper", "nvlink": true, "zone": "eu-1a"})
}

fn class_names(card: &Value, select: &Value) -> usize {
    let mesh = mesh(&[("n", "0", card.clone())], &json!([{"name": "c", "select": select}]));
    let tags = tags_of(&mesh, Some(id("n", "0")), None);
    tags.iter().filter(|tag| *tag == "class/c").count()
}

#[test]
fn a_worker_on_the_cpu_is_for_whoever_takes_any() {
    assert_eq!(tags_of(&Mesh::default(), None, None), ["any"]);
}

#[test]
fn a_card_has_its_place_on_the_node_its_tiers_of_memory_and_its_classes() {
    let classes = json!([
        {"name": "hopper-nvlink", "select": {"archs": ["hopper"], "nvlink": true}},
        {"name": "ampere", "select": {"archs": ["ampere"]}},
        {"name": "at-least-16gb", "select": {"min_memory_gb": 16}},
    ]);
    let mesh = mesh(&[("n", "0000:1b:00.0", h100())], &classes);
    assert_eq!(
        tags_of(&mesh, Some(id("n", "0000:1b:00.0")), None),
        [
            "any",
            "class/at-least-16gb",
            "class/hopper-nvlink",
            "gpu0",
            "gpu0:high",
            "gpu0:low",
            "gpu0:medium",
            "memory-high",
            "memory-low",
            "memory-medium",
        ]
    );
}

#[test]
fn cards_are_numbered_by_their_addresses_numbers_on_each_node_by_itself() {
    let cards = [
        ("m", "0000:01:00.0", h100()),
        ("n", "0000:3b:00.0", h100()),
        ("n", "0000:0a:00.0", h100()),
        ("n", "00000000:1B:00.0", h100()),
        ("o", "0000:00:00.0", h100()),
    ];
    let mesh = mesh(&cards, &json!([]));
    for (pci, gpu) in [
        ("0000:0a:00.0", "gpu0"),
        ("00000000:1B:00.0", "gpu1"),
        ("0000:3b:00.0", "gpu2"),
    ] {
        let tags = tags_of(&mesh, Some(id("n", pci)), None);
        assert!(tags.iter().any(|tag| tag == gpu), "{pci}: {tags:?}");
    }
}

#[test]
fn a_tier_counts_memory_as_cards_are_sold() {
    // What NVML reports of a T4 of 16 GB and an A100 of 40 GB.
    for (gib, highest) in [(15.0, "memory-medium"), (39.59, "memory-high"), (14.0, "memory-low")] {
        let card = json!({"model": "a card", "memory_gb": gib});
        let mesh = mesh(&[("n", "0", card)], &json!([]));
        let tags = tags_of(&mesh, Some(id("n", "0")), None);
        let tiers = ["memory-high", "memory-medium", "memory-low"];
        let found = tiers.iter().find(|tier| tags.iter().any(|tag| tag == **tier));
        assert_eq!(found, Some(&highest), "{gib} GiB: {tags:?}");
    }
}

#[test]
fn a_card_that_the_inventory_lacks_is_judged_by_its_telemetry_and_is_of_no_class() {
    let telemetry = |free| Telemetry {
        memory_total_bytes: 24 << 30,
        memory_free_bytes: free,
        ..Telemetry::default()
    };
    let mesh = mesh(&[], &json!([{"name": "c", "select": {"min_memory_gb": 1}}]));
    let unlisted = || Some(id("n", "0"));
    assert_eq!(tags_of(&mesh, unlisted(), None), ["any", "memory-low"]);
    assert_eq!(
        tags_of(&mesh, unlisted(), Some(telemetry(0))),
        ["any", "memory-low", "memory-medium"]
    );
    let contradicting = telemetry(u64::MAX);
    assert_eq!(tags_of(&mesh, unlisted(), Some(contradicting)), ["any", "memory-low"]);
}

#[test]
fn a_card_is_in_a_class_when_all_holds_that_the_class_wants() {
    for (select, expected) in [
        (json!({"products": ["h100"]}), 1),
        (json!({"products": ["a100", "h100"]}), 1),
        (json!({"products": ["h10"]}), 0),
        (json!({"products": ["h100-80gb"]}), 1),
        (json!({"products": ["80gb-h100"]}), 0),
        (json!({"archs": ["hopper", "ampere"]}), 1),
        (json!({"archs": ["ampere"]}), 0),
        (json!({"min_memory_gb": 80}), 1),
        (json!({"min_memory_gb": 96}), 0),
        (json!({"nvlink": false}), 0),
        (json!({"zones": ["eu-1a"]}), 1),
        (json!({"zones": ["eu-1b"]}), 0),
        (json!({"products": ["h100"], "zones": ["eu-1b"]}), 0),
    ] {
        assert_eq!(class_names(&h100(), &select), expected, "{select}");
    }
    let bare = json!({"model": "NVIDIA H100", "memory_gb": 80});
    for select in [json!({"archs": ["hopper"]}), json!({"zones": ["eu-1a"]})] {
        assert_eq!(
            class_names(&bare, &select),
            0,
            "what the inventory does not say is not so"
        );
    }
}
