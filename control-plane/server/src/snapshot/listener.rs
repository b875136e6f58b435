//! LDS: where proxies take requests from clients, and through which filters these go.

use crate::snapshot::cluster::ads;
use crate::snapshot::endpoint::{LB_NAMESPACE, address};
use crate::snapshot::wire::{any_of, append_entry, append_field, millis, truth, uint};
use crate::snapshot::{BuildOptions, GATEWAY, filter};
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::core::v3::{
    ExtensionConfigSource, Http2ProtocolOptions, HttpProtocolOptions, KeepaliveSettings,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter as network_filter};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::Config as HeaderToMetadata;
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::config::{
    KeyValuePair, Rule, ValueEncode, ValueType,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, InternalAddressConfig, RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Value, value};
use envoy_types::util::pack_any;
use kilocard_policy::headers;
use kilocard_xds::snapshot::Resource;
use prost::{Message, Name};

/// Roomier than any header limit that a policy may set, so that it is the filter that refuses, with a gRPC status that
/// names the header, and not the codec with a bare 431.
const MAX_HEADERS_KB: u32 = 192;
const MAX_HEADERS: u32 = 1000;
const MAX_STREAMS_A_CONNECTION: u32 = 1024;

/// Fields of the access log in their order; names in snake case, values in Envoy's format language.
const ACCESS_LOG: &[(&str, &str)] = &[
    // Left by the wasm filter; Envoy puts `wasm.` before the names of such state.
    ("capture", "%FILTER_STATE(wasm.kilocard.capture:PLAIN)%"),
    ("code", "%RESPONSE_CODE%"),
    ("decision", "%FILTER_STATE(wasm.kilocard.decision:PLAIN)%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("downstream", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration_ms", "%DURATION%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("grpc_status", "%GRPC_STATUS%"),
    ("path", "%REQ(:PATH)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("route", "%REQ(X-KILOCARD-ROUTE)%"),
    ("start", "%START_TIME%"),
    ("upstream", "%UPSTREAM_HOST%"),
];

/// The one listener.
pub fn build(options: &BuildOptions) -> Resource {
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(network_filter::ConfigType::TypedConfig(pack_any(connection_manager(
            options,
        )))),
    };
    let listener = Listener {
        name: GATEWAY.to_owned(),
        address: Some(address(options.gateway)),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    Resource::new(GATEWAY, listener.encode_to_vec())
}

fn connection_manager(options: &BuildOptions) -> HttpConnectionManager {
    let rds = Rds {
        config_source: Some(ads()),
        route_config_name: GATEWAY.to_owned(),
    };
    HttpConnectionManager {
        stat_prefix: GATEWAY.to_owned(),
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![decision_filter(), gpu_wish(), router()],
        // The peer is the client, and no address range is trusted for being private: its x-envoy-* headers are stripped.
        // Envoy trusts 127.0.0.1 all the same; for that the filter strips them too.
        use_remote_address: truth(true),
        internal_address_config: Some(InternalAddressConfig::default()),
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_headers_count: uint(MAX_HEADERS),
            idle_timeout: millis(3_600_000),
            ..HttpProtocolOptions::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: uint(MAX_STREAMS_A_CONNECTION),
            connection_keepalive: Some(KeepaliveSettings {
                interval: millis(30_000),
                timeout: millis(10_000),
                ..KeepaliveSettings::default()
            }),
            ..Http2ProtocolOptions::default()
        }),
        max_request_headers_kb: uint(MAX_HEADERS_KB),
        // Headers must come soon; what follows may be a stream of any length with pauses of any length, and a client that
        // is gone is noticed by the keep-alive above.
        request_headers_timeout: millis(10_000),
        request_timeout: millis(0),
        stream_idle_timeout: millis(0),
        access_log: if options.access_log {
            vec![access_log()]
        } else {
            Vec::new()
        },
        ..HttpConnectionManager::default()
    }
}

/// The wasm filter by ECDS. Without a default: until its configuration has come the listener does not open, since a
/// request that nobody decided must not pass.
fn decision_filter() -> HttpFilter {
    let discovery = ExtensionConfigSource {
        config_source: Some(ads()),
        type_urls: vec![Wasm::type_url()],
        ..ExtensionConfigSource::default()
    };
    HttpFilter {
        name: filter::NAME.to_owned(),
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(discovery)),
        ..HttpFilter::default()
    }
}

/// Hands the GPU tags that the decision asks for, in their order, to the cluster's load balancer: as `fallback_list`, the key
/// that its `FALLBACK_LIST` reads (Envoy's cluster.proto, `LbSubsetMetadataFallbackPolicy`). The header goes no further.
fn gpu_wish() -> HttpFilter {
    let list = KeyValuePair {
        metadata_namespace: LB_NAMESPACE.to_owned(),
        key: "fallback_list".to_owned(),
        r#type: ValueType::ProtobufValue.into(),
        encode: ValueEncode::Base64.into(),
        ..KeyValuePair::default()
    };
    let rule = Rule {
        header: headers::GPU_WISH.to_owned(),
        on_header_present: Some(list),
        remove: true,
        ..Rule::default()
    };
    let config = HeaderToMetadata {
        request_rules: vec![rule],
        ..HeaderToMetadata::default()
    };
    http_filter("envoy.filters.http.header_to_metadata", pack_any(config))
}

pub(super) fn router() -> HttpFilter {
    http_filter("envoy.filters.http.router", pack_any(Router::default()))
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// JSON lines. The format is a protobuf map, hence written by hand: `StdoutAccessLog.log_format = 1`,
/// `SubstitutionFormatString.json_format = 2`, `Struct.fields = 1`.
fn access_log() -> AccessLog {
    let (mut fields, mut format, mut log) = (Vec::new(), Vec::new(), Vec::new());
    for (name, operator) in ACCESS_LOG {
        let value = Value {
            kind: Some(value::Kind::StringValue((*operator).to_owned())),
        };
        append_entry(&mut fields, 1, name, &value.encode_to_vec());
    }
    append_field(&mut format, 2, &fields);
    append_field(&mut log, 1, &format);
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any_of::<StdoutAccessLog>(log))),
        ..AccessLog::default()
    }
}
