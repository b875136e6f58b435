//! Divides limits that hold for a whole mesh among its proxies, so that what they may use together never exceeds the limit.
//! Pure: no clock, no I/O, no randomness; the time is an argument, a [`Duration`](std::time::Duration) since any fixed moment.
//!
//! Every proxy has a base share of every limit, for good. Where some proxy wants more of one key than that, all proxies get
//! leases of this key, which end: higher where the demand is, lower elsewhere. The law is that at every moment, for every
//! key, the shares that the proxies may be using sum up to at most the whole. So who is to have more waits until the others
//! have acknowledged that they have less (`docs/adr/0017-leases.md` says why it holds, and what it cannot hold against).
//!
//! - [`Report`] and [`Grant`]: what a proxy says, what it is answered, and how it counts the time of a [`Lease`].
//! - [`division`]: who ought to have how much.
//! - [`Authority`]: who may have how much now.
//!
//! After Google's Doorman (youtube/doorman, `doc/design.md`): leases, safe capacity, learning mode.

mod authority;
pub mod division;
mod hold;
mod key;
mod moment;
mod proxy;
mod report;
mod settings;
mod share;
mod standing;

pub use authority::Authority;
pub use report::{Demand, Grant, Lease, MAX_DEMAND_PARTS, MAX_KEY_BYTES, MAX_NAME_BYTES, Report, ReportError};
pub use settings::Settings;
pub use share::Share;
pub use standing::{Counters, ManagedKey, Standing};
