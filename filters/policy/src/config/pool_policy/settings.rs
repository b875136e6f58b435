//! How much a pool lets through, and what its connections are like.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::config::limits::{
    CONNECT_TIMEOUT_MS, IDLE_TIMEOUT_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S, POOL_LIMIT, RETRY_PERCENT, STREAMS,
    WINDOW_BYTES,
};
use crate::config::reader::{Node, Object};
use crate::config::violation::Violations;

/// How much may be under way from one proxy to one model version before it refuses at once (Envoy, "Circuit breaking").
/// Envoy counts across its threads without locks, so bursts may pass a limit by a few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct PoolLimits {
    /// Connections to all workers together. One more is always opened to a worker that has none.
    #[cfg_attr(test, schemars(range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub max_connections: u32,
    /// Requests that wait for a connection.
    #[cfg_attr(test, schemars(range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub max_pending_requests: u32,
    /// Requests under way; a stream is one for as long as it lasts.
    #[cfg_attr(test, schemars(range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub max_requests: u32,
    /// Retries under way at once, in percent of the requests under way …
    #[cfg_attr(test, schemars(range(min = *RETRY_PERCENT.start(), max = *RETRY_PERCENT.end())))]
    pub retry_percent: u32,
    /// … or so many, if that is more.
    #[cfg_attr(test, schemars(range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub min_retries: u32,
}

impl Default for PoolLimits {
    /// A guard against collapse, not an admission limit. Retries: a failing fleet must not be finished off by them.
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_pending_requests: 16_384,
            max_requests: 16_384,
            retry_percent: 20,
            min_retries: 16,
        }
    }
}

impl PoolLimits {
    /// What the less urgent requests get beside these where no declared pool takes them: a quarter.
    #[must_use]
    pub fn of_bulk(&self) -> Self {
        let quarter = |limit: u32| (limit / 4).max(1);
        Self {
            max_connections: quarter(self.max_connections),
            max_pending_requests: quarter(self.max_pending_requests),
            max_requests: quarter(self.max_requests),
            ..*self
        }
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let given = node.object(LIMITS, out)?;
        let default = Self::default();
        let mut limit = |name, default| integer(&given, name, (POOL_LIMIT, default), out);
        let max_connections = limit("max_connections", default.max_connections);
        let max_pending_requests = limit("max_pending_requests", default.max_pending_requests);
        let max_requests = limit("max_requests", default.max_requests);
        let min_retries = limit("min_retries", default.min_retries);
        let retry_percent = integer(&given, "retry_percent", (RETRY_PERCENT, default.retry_percent), out);
        Some(Self {
            max_connections: max_connections?,
            max_pending_requests: max_pending_requests?,
            max_requests: max_requests?,
            retry_percent: retry_percent?,
            min_retries: min_retries?,
        })
    }
}

const LIMITS: &[&str] = &[
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "retry_percent",
    "min_retries",
];

/// What the connections of a pool are like. They speak HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct PoolConnections {
    /// How long a connection may take to come up, in milliseconds.
    #[cfg_attr(test, schemars(range(min = *CONNECT_TIMEOUT_MS.start(), max = *CONNECT_TIMEOUT_MS.end())))]
    pub connect_timeout_ms: u32,
    /// After how many seconds without a request a connection is closed.
    #[cfg_attr(test, schemars(range(min = *IDLE_TIMEOUT_S.start(), max = *IDLE_TIMEOUT_S.end())))]
    pub idle_timeout_s: u32,
    /// Streams on one connection; when all are taken, another one is opened. A worker admits 256 whatever is said here.
    #[cfg_attr(test, schemars(range(min = *STREAMS.start(), max = *STREAMS.end())))]
    pub max_concurrent_streams: u32,
    /// Connections to one worker; without it, as many as `max_connections` leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub max_per_worker: Option<u32>,
    /// After how many requests a connection is replaced; without it, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", range(min = *POOL_LIMIT.start(), max = *POOL_LIMIT.end())))]
    pub max_requests_per_connection: Option<u32>,
    /// How much a worker may send on one stream before the proxy has taken it, in bytes; without it, as Envoy has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", range(min = *WINDOW_BYTES.start(), max = *WINDOW_BYTES.end())))]
    pub initial_stream_window_bytes: Option<u32>,
    /// The same of all streams of a connection together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", range(min = *WINDOW_BYTES.start(), max = *WINDOW_BYTES.end())))]
    pub initial_connection_window_bytes: Option<u32>,
    /// How dead connections are found.
    pub keepalive: Keepalive,
}

impl Default for PoolConnections {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 1000,
            idle_timeout_s: 3600,
            max_concurrent_streams: 256,
            max_per_worker: None,
            max_requests_per_connection: None,
            initial_stream_window_bytes: None,
            initial_connection_window_bytes: None,
            keepalive: Keepalive::default(),
        }
    }
}

/// Pings on an HTTP/2 connection, and the kernel's probes below it. Workers ping at the default's interval, so that neither
/// end, nor what stands between them, takes the other for gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct Keepalive {
    /// A ping after so many seconds; a probe of the kernel after so many without traffic.
    #[cfg_attr(test, schemars(range(min = *KEEPALIVE_INTERVAL_S.start(), max = *KEEPALIVE_INTERVAL_S.end())))]
    pub interval_s: u32,
    /// How long the answer may take, in seconds; less than the interval.
    #[cfg_attr(test, schemars(range(min = *KEEPALIVE_TIMEOUT_S.start(), max = *KEEPALIVE_TIMEOUT_S.end())))]
    pub timeout_s: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval_s: 30,
            timeout_s: 10,
        }
    }
}

impl Keepalive {
    fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let given = node.object(&["interval_s", "timeout_s"], out)?;
        let default = Self::default();
        let interval = integer(&given, "interval_s", (KEEPALIVE_INTERVAL_S, default.interval_s), out);
        let timeout = integer(&given, "timeout_s", (KEEPALIVE_TIMEOUT_S, default.timeout_s), out);
        let (interval_s, timeout_s) = (interval?, timeout?);
        if timeout_s >= interval_s {
            let message = format!("is {timeout_s}, and must be less than interval_s, {interval_s}");
            out.add(format!("{}.timeout_s", given.path()), message);
            return None;
        }
        Some(Self { interval_s, timeout_s })
    }
}

const CONNECTIONS: &[&str] = &[
    "connect_timeout_ms",
    "idle_timeout_s",
    "max_concurrent_streams",
    "max_per_worker",
    "max_requests_per_connection",
    "initial_stream_window_bytes",
    "initial_connection_window_bytes",
    "keepalive",
];

impl PoolConnections {
    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let given = node.object(CONNECTIONS, out)?;
        let default = Self::default();
        let connect = (CONNECT_TIMEOUT_MS, default.connect_timeout_ms);
        let connect_timeout_ms = integer(&given, "connect_timeout_ms", connect, out);
        let idle_timeout_s = integer(&given, "idle_timeout_s", (IDLE_TIMEOUT_S, default.idle_timeout_s), out);
        let streams = (STREAMS, default.max_concurrent_streams);
        let max_concurrent_streams = integer(&given, "max_concurrent_streams", streams, out);
        let mut maybe = |name, range| given.maybe(name, out, |node, out| node.integer(range, out));
        let max_per_worker = maybe("max_per_worker", POOL_LIMIT);
        let max_requests_per_connection = maybe("max_requests_per_connection", POOL_LIMIT);
        let of_stream = maybe("initial_stream_window_bytes", WINDOW_BYTES);
        let of_connection = maybe("initial_connection_window_bytes", WINDOW_BYTES);
        let keepalive = given.or_default("keepalive", out, Keepalive::read);
        if let (Some(Some(stream)), Some(Some(connection))) = (of_stream, of_connection)
            && connection < stream
        {
            let message =
                format!("is {connection}, less than initial_stream_window_bytes, {stream}: no stream could use it");
            out.add(format!("{}.initial_connection_window_bytes", given.path()), message);
        }
        Some(Self {
            connect_timeout_ms: connect_timeout_ms?,
            idle_timeout_s: idle_timeout_s?,
            max_concurrent_streams: max_concurrent_streams?,
            max_per_worker: max_per_worker?,
            max_requests_per_connection: max_requests_per_connection?,
            initial_stream_window_bytes: of_stream?,
            initial_connection_window_bytes: of_connection?,
            keepalive: keepalive?,
        })
    }
}

fn integer(
    given: &Object<'_>,
    name: &'static str,
    (range, default): (RangeInclusive<u32>, u32),
    out: &mut Violations,
) -> Option<u32> {
    let value = given.maybe(name, out, |node, out| node.integer(range, out))?;
    Some(value.unwrap_or(default))
}
