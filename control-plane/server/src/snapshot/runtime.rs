//! RTDS: the proxies' runtime, as the MeshPolicy says it.

use crate::model::Policies;
use crate::snapshot::wire::{append_entry, append_field};
use envoy_types::pb::google::protobuf::{Value, value};
use kilocard_policy::config::{Runtime, RuntimeValue, Spec};
use kilocard_xds::snapshot::Resource;
use prost::Message;
use std::time::Duration;

/// Name of the layer that bootstraps ask for.
pub const LAYER: &str = "kilocard";

/// The one layer. It is there even if it is empty: a starting Envoy asks for it first and waits for an answer.
///
/// A map, hence written by hand: `Runtime.name = 1`, `Runtime.layer = 2`, `Struct.fields = 1`.
pub fn build(policies: &Policies, ttl: Option<Duration>) -> Resource {
    let (mut layer, mut body) = (Vec::new(), Vec::new());
    // The section stands in one document at most; keys are sorted.
    for (key, value) in policies
        .values()
        .filter_map(|policy| section(policy.document.spec()))
        .flatten()
    {
        append_entry(&mut layer, 1, key, &encode(value));
    }
    append_field(&mut body, 1, LAYER.as_bytes());
    append_field(&mut body, 2, &layer);
    let resource = Resource::new(LAYER, body);
    match ttl {
        Some(ttl) => resource.with_ttl(ttl),
        None => resource,
    }
}

fn section(spec: &Spec) -> Option<&Runtime> {
    match spec {
        Spec::Mesh(policy) => policy.runtime.as_ref(),
        _ => None,
    }
}

fn encode(value: &RuntimeValue) -> Vec<u8> {
    let kind = match value {
        RuntimeValue::Flag(flag) => value::Kind::BoolValue(*flag),
        // Validation takes what JSON can say; beyond the range of doubles there is nothing.
        RuntimeValue::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or_default()),
        RuntimeValue::Text(text) => value::Kind::StringValue(text.clone()),
    };
    Value { kind: Some(kind) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::policies;
    use envoy_types::pb::envoy::service::runtime::v3 as pb;
    use serde_json::json;

    #[test]
    fn the_layer_holds_what_the_mesh_policy_says_and_is_there_without_one() {
        let mesh = json!({
            "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
            "spec": {"runtime": {"b.flag": true, "a.number": 12.5, "c.text": "x"}},
        });
        let layer = build(&policies(&[mesh]), None);
        let decoded = pb::Runtime::decode(layer.body.clone()).unwrap();
        let fields = decoded.layer.unwrap().fields;
        let kind = |key: &str| fields.get(key).and_then(|value| value.kind.clone());
        assert_eq!((decoded.name.as_str(), fields.len()), (LAYER, 3));
        assert_eq!(kind("b.flag"), Some(value::Kind::BoolValue(true)));
        assert_eq!(kind("a.number"), Some(value::Kind::NumberValue(12.5)));
        assert_eq!(kind("c.text"), Some(value::Kind::StringValue("x".into())));
        let empty = build(&policies(&[]), Some(Duration::from_secs(30)));
        assert!(
            pb::Runtime::decode(empty.body.clone())
                .unwrap()
                .layer
                .unwrap()
                .fields
                .is_empty()
        );
        assert_eq!(empty.ttl, Some(Duration::from_secs(30)));
    }
}
