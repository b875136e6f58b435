//! The limiting stage: how much of what may go through, decided over state that all threads of a proxy share.
//!
//! - [`gcra`]: one limit, a pure function of one number.
//! - [`key`]: whose limit it is. [`set`]: how the state of some keys lies in one value of the store.
//! - [`charges`]: which limits a request takes from.
//! - [`table`]: a policy, compiled. [`limiter`]: several limits at once, all or none, by compare-and-swap.
//! - [`refusal`]: what the client is told.

pub mod charges;
pub mod gcra;
pub mod key;
pub mod limiter;
pub mod refusal;
pub mod set;
pub mod table;

pub use charges::Charges;
pub use gcra::Denied;
pub use key::{Fingerprint, Subject};
pub use limiter::{Charge, Moment, Obstacle, Outcome, Settlement, Store, admit, settle};
pub use refusal::Limited;
pub use table::{Cost, Table};
