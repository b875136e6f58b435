//! The limiting stage: how much of what may go through, decided over state that all threads of a proxy share.
//!
//! - [`gcra`]: one limit, a pure function of one number.
//! - [`key`]: whose limit it is. [`set`]: how the state of some keys lies in one value of the store.
//! - [`charges`]: which limits a request takes from.
//! - [`table`]: a policy, compiled. [`limiter`]: several limits at once, all or none, by compare-and-swap.
//! - [`demand`]: what is asked of the limits that proxies share.
//! - [`estimate`]: what a request will take, and has taken.
//! - [`frames`]: how many messages an answer has.
//! - [`memory`]: GPU memory, reserved and given back. [`learned`]: what requests turn out to need.
//! - [`refusal`]: what the client is told.
//! - [`rehearsal`]: what limits would have made of recorded requests.

pub mod charges;
pub mod demand;
pub mod estimate;
pub mod frames;
pub mod gcra;
pub mod key;
pub mod learned;
pub mod limiter;
pub mod memory;
pub mod refusal;
pub mod rehearsal;
pub mod set;
pub mod table;

pub use charges::Charges;
pub use demand::Demands;
pub use estimate::CostModel;
pub use gcra::Denied;
pub use key::{Fingerprint, Subject};
pub use limiter::{Charge, Left, Moment, Obstacle, Outcome, Receipt, Settlement, Store, admit, grant, look, settle};
pub use refusal::Limited;
pub use rehearsal::Rehearsal;
pub use table::{Cost, Table};
