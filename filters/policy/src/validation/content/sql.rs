//! Text that breaks out of an SQL statement.
//!
//! The value is cut into tokens and their sequence compared with the shapes of injections, as libinjection does it
//! (N. Galbreath, "New techniques in SQLi obfuscation", 2012), with rules written down instead of learned fingerprints:
//! each names what must stand around a keyword, so that prose with `select`, `or` and apostrophes passes.

mod shape;
mod token;

pub(super) fn is_in(view: &[u8]) -> bool {
    shape::is_in(&token::read(view))
}
