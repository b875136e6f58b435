//! LDS: an API listener a target. No socket stands behind it; it names the routes (gRFC A27, "LDS").

use crate::snapshot::cluster::ads;
use crate::snapshot::listener::router;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, Rds};
use envoy_types::util::pack_any;
use kilocard_xds::snapshot::Resource;
use prost::Message;

/// The listener of a target; its routes have the same name.
pub(super) fn build(target: &str) -> Resource {
    let rds = Rds {
        config_source: Some(ads()),
        route_config_name: target.to_owned(),
    };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        // "The list of HTTP filters must end with a terminal filter" (gRFC A39); it is the one that routes.
        http_filters: vec![router()],
        ..HttpConnectionManager::default()
    };
    let listener = Listener {
        name: target.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(pack_any(manager)),
        }),
        ..Listener::default()
    };
    Resource::new(target, listener.encode_to_vec())
}
