//! GPU classes and affinities as Envoy's load balancer wants them: an ordered list of subsets of endpoints, of which the
//! first one that has a healthy endpoint serves the request.
//!
//! The list travels in a request header as a `google.protobuf.Value` in base64, which Envoy's header-to-metadata filter
//! turns into the `fallback_list` of the subset load balancer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::config::{GpuClass, Otherwise};
use crate::decision::GpuWish;

/// The key of the endpoints' metadata under `envoy.lb`.
const KEY: &str = "gpu";
/// What every endpoint has under it.
const ANY: &str = "any";

/// A class, ready to be wished for.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    name: String,
    subset: String,
}

impl Class {
    pub(crate) fn compile(class: &GpuClass) -> Self {
        let classes = std::iter::once(&class.name).chain(&class.fallback);
        let mut tags: Vec<_> = classes.map(|name| format!("class/{name}")).collect();
        if class.otherwise == Otherwise::Any {
            tags.push(ANY.to_owned());
        }
        Self {
            name: class.name.clone(),
            subset: subset(tags),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn wish(&self) -> GpuWish<'_> {
        GpuWish {
            label: Cow::Borrowed(&self.name),
            subset: Cow::Borrowed(&self.subset),
        }
    }
}

/// What an affinity asks for that has passed its grammar: `gpu0`, `any`, and either with `:high`, `:medium` or `:low`.
/// First the very device with so much memory, then any with so much, then any. `None` if that is any at all.
pub(crate) fn affinity(value: &[u8]) -> Option<GpuWish<'static>> {
    let text = std::str::from_utf8(value).ok()?;
    let (device, memory) = match text.split_once(':') {
        Some((device, memory)) => (device, Some(memory)),
        None => (text, None),
    };
    let mut tags = Vec::with_capacity(3);
    if device != ANY {
        tags.push(text.to_owned());
    }
    tags.extend(memory.map(|memory| format!("memory-{memory}")));
    if tags.is_empty() {
        return None;
    }
    tags.push(ANY.to_owned());
    Some(GpuWish {
        label: Cow::Owned(text.to_owned()),
        subset: Cow::Owned(subset(tags)),
    })
}

fn subset(tags: Vec<String>) -> String {
    let one = |tag| {
        let fields = [(KEY.to_owned(), value(Kind::StringValue(tag)))];
        value(Kind::StructValue(Struct {
            fields: fields.into_iter().collect(),
        }))
    };
    let values = tags.into_iter().map(one).collect();
    STANDARD.encode(value(Kind::ListValue(ListValue { values })).encode_to_vec())
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags of a wish, in order.
    fn tags(wish: &GpuWish<'_>) -> Vec<String> {
        let bytes = STANDARD.decode(wish.subset.as_bytes()).unwrap();
        let Some(Kind::ListValue(list)) = Value::decode(bytes.as_slice()).unwrap().kind else {
            panic!("it is a list");
        };
        let tag = |value: Value| match value.kind {
            Some(Kind::StructValue(mut subset)) => match subset.fields.remove(KEY).and_then(|tag| tag.kind) {
                Some(Kind::StringValue(tag)) => tag,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        list.values.into_iter().map(tag).collect()
    }

    #[test]
    fn an_affinity_asks_for_the_device_then_its_memory_then_any() {
        let asked = |value: &[u8]| affinity(value).map(|wish| tags(&wish));
        assert_eq!(asked(b"gpu0:high").unwrap(), ["gpu0:high", "memory-high", "any"]);
        assert_eq!(asked(b"gpu12").unwrap(), ["gpu12", "any"]);
        assert_eq!(asked(b"any:low").unwrap(), ["memory-low", "any"]);
        assert_eq!(asked(b"any"), None);
    }

    #[test]
    fn the_bytes_are_those_of_the_protobuf_specification() {
        // list_value { values { struct_value { fields { key: "gpu" value { string_value: "gpu0" } } } } … "any" }
        let expected = b"\x32\x26\
            \x0a\x12\x2a\x10\x0a\x0e\x0a\x03gpu\x12\x07\x1a\x05gpu12\
            \x0a\x10\x2a\x0e\x0a\x0c\x0a\x03gpu\x12\x05\x1a\x03any";
        assert_eq!(
            STANDARD.decode(affinity(b"gpu12").unwrap().subset.as_bytes()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_class_asks_for_itself_then_its_fallbacks_then_any_unless_told_otherwise() {
        let classes = |otherwise: &str| {
            let document = crate::fixtures::document(&serde_json::json!({
                "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
                "spec": {"gpu_classes": [
                    {"name": "hopper", "select": {"archs": ["hopper"]}, "fallback": ["ampere"], "otherwise": otherwise},
                    {"name": "ampere", "select": {"archs": ["ampere"]}},
                ]},
            }));
            let crate::config::Spec::Mesh(mesh) = document.spec() else {
                panic!("it is a MeshPolicy");
            };
            Class::compile(&mesh.gpu_classes.as_ref().unwrap()[0])
        };
        assert_eq!(tags(&classes("any").wish()), ["class/hopper", "class/ampere", "any"]);
        assert_eq!(tags(&classes("unavailable").wish()), ["class/hopper", "class/ampere"]);
    }
}
