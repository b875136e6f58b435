//! The xDS transport protocol as pure state machines: state of the world and delta, over opaque bytes.
//!
//! Owns: what a client has been sent, what it acknowledged or refused, what it is owed. Must not know: protobuf, gRPC,
//! sockets, clocks, what a resource means. Source: Envoy's `xds_protocol` specification, quoted where implemented.
//!
//! A transport makes one [`delta::Stream`] or [`sotw::Stream`] for every gRPC stream, hands it each request, and after
//! every request and every new [`snapshot::Snapshot`] asks `next_response` until it says `None`. It may ask as late as it
//! likes: nothing is queued here, so a client that reads slowly is later given the newest state and nothing in between.
//!
//! # Order across types: make before break
//!
//! The spec asks that "CDS updates (if any) must always be pushed first", that endpoints follow clusters, listeners follow
//! both, routes follow listeners, and that "stale CDS clusters and related EDS endpoints (ones no longer being referenced)
//! can then be removed". Types are therefore considered in the order of [`snapshot::ResourceType::ALL`], each with at most
//! one unanswered response, under these rules. A type to which the client has not subscribed never holds up another.
//!
//! 1. Runtime, secrets, clusters and endpoints never wait. In particular endpoints do not wait for the answer to the clusters before them:
//!    Envoy withholds that ACK until all its clusters are warm, and they become warm only by their endpoints.
//! 2. Listeners, routes and extensions wait until clusters and endpoints have been answered. For Envoy the ACK of clusters
//!    then means that they are warm, so a route never names a cluster that cannot take a request yet.
//! 3. Among listeners, routes and extensions a later type waits while an earlier one has something *unsent*, but not for
//!    its answer: a client applies a stream in order, and a listener may need its routes and extensions to become warm.
//! 4. Removals of clusters wait until listeners, routes and extensions are all sent and *accepted*: a client that refused
//!    its new routes still uses the old ones, and the clusters behind them. (State of the world has no removals on the wire:
//!    there a removed cluster simply stays in the responses for as long.) Removals of endpoints wait for the same, and for
//!    the answer to the removal of their clusters. A delta client that brought versions along may use routes that it has
//!    not asked for yet, so there removals also wait until it has asked for all three, or until the transport ends the
//!    opening ([`delta::Stream::end_opening`]). Removals of secrets wait for the same, and until nothing is to be said of
//!    clusters.
//! 5. A NACK counts as an answer for rules 2 and 3, so one bad resource does not freeze the rest.
//!
//! What is removed from a *route* while an extension still leads to it is beyond these rules, since bodies are opaque here:
//! whoever builds snapshots keeps it in them until the extension has changed.
//!
//! An answer to a question goes at once: a name that is subscribed to and does not exist is reported as removed whatever
//! rule 4 says.
//!
//! # Endpoints of a changed cluster, and shared ones
//!
//! "Warming of Cluster is completed only when a new ClusterLoadAssignment response is supplied by management server even
//! though there is no change in endpoints." A response that changes a cluster that the client already has therefore makes
//! the endpoints that it awaits owed again, on both protocols and across a reconnect. So does a new cluster that awaits
//! endpoints of another name ([`snapshot::Resource::awaiting`]) which the client already holds for another cluster: it
//! subscribes to a name once, whatever the number of clusters that share it, and would wait in vain.
//!
//! # Size
//!
//! A delta response is split at a number of bytes ([`delta::MAX_RESPONSE_BYTES`]); the next part goes when the one before it
//! has been answered, and all rules hold for each part: what comes after clusters waits for their last part. State of the
//! world must say everything at once.
//!
//! # Time to live
//!
//! A resource may have a TTL, after which a client that has heard nothing of it drops it. Whoever has a clock calls `refresh`
//! more often than that, upon which a delta client is sent heartbeats: name, version and TTL without the body. One that has
//! dropped the resource all the same, because it or the network was held up for so long, refuses what has no body, and is then
//! sent it. State of the world has no such refusal, so the body goes along each time.
//!
//! # Refusals
//!
//! A NACK refuses a whole response; which of its resources was at fault, and whether the others were applied, is not known.
//! The same combination is never sent again. As soon as one of its members changes, or the client asks again, all members
//! are offered anew; other resources of the type are not affected meanwhile.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod delta;
mod interest;
mod ledger;
mod multiplex;
pub mod report;
pub mod snapshot;
pub mod sotw;
mod substream;

pub use interest::{MAX_NAMES, ProtocolError};
