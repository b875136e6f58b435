//! The xDS protocol on real Envoy: what the golden transcripts of `kilocard-xds` cannot show.

mod changes;
mod refusals;
mod relay;
mod runtime;
mod scene;
mod secrets;
