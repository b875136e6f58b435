//! Encoding helpers, above all for protobuf maps with a fixed order of entries.
//!
//! Protobuf's encoding of a message is the concatenation of its fields' encodings, and a map is a repeated field of
//! entries `{key = 1; value = 2}` (protobuf encoding guide, "Maps"). So a message is encoded by prost with its map
//! empty, and the entries are appended here, sorted by key.

use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;
use envoy_types::util::pack_any;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, Name};

/// Appends `bytes` as length-delimited field `tag`.
pub(super) fn append_field(buffer: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.extend_from_slice(bytes);
}

/// Appends one entry of the map field `tag`. The caller gives the entries in sorted order.
pub(super) fn append_entry(buffer: &mut Vec<u8>, tag: u32, key: &str, value: &[u8]) {
    let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
    append_field(&mut entry, 1, key.as_bytes());
    append_field(&mut entry, 2, value);
    append_field(buffer, tag, &entry);
}

/// An extension of the unified matcher.
pub(super) fn extension<T: Name + Message>(name: &str, config: T) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(pack_any(config)),
    }
}

/// An `Any` whose value was encoded by hand.
pub(super) fn any_of<T: Name>(value: Vec<u8>) -> Any {
    Any {
        type_url: T::type_url(),
        value,
    }
}

pub(super) const fn millis(millis: i64) -> Option<Duration> {
    // The remainder of a division by 1000, times a million, fits.
    Some(Duration {
        seconds: millis / 1000,
        nanos: ((millis % 1000) * 1_000_000) as i32,
    })
}

pub(super) fn seconds(seconds: u32) -> Option<Duration> {
    Some(Duration {
        seconds: seconds.into(),
        nanos: 0,
    })
}

pub(super) const fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) const fn truth(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}
