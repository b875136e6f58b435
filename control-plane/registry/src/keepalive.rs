//! How both ends of a connection find out that the other one is gone: what workers do, and what proxies do where no
//! PoolPolicy says otherwise. The two must agree, or one end closes what the other takes for alive.

use std::time::Duration;

/// Between two HTTP/2 pings, and how long a connection may be idle before the kernel probes it (`TCP_KEEPIDLE`).
pub const INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to a ping may take, and between two probes of the kernel (`TCP_KEEPINTVL`).
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How many probes of the kernel may go unanswered (`TCP_KEEPCNT`).
pub const PROBES: u32 = 3;
