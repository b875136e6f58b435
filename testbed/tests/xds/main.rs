//! The xDS protocol on real Envoy: what the golden transcripts of `kilocard-xds` cannot show.

mod changes;
mod runtime;
mod scene;
mod secrets;
