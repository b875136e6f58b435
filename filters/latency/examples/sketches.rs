//! Prints what merged sketches are off by, and what they cost: `cargo run -p kilocard-latency --example sketches --release`.
//!
//! The error is against the P99.9 of the very samples: how far that is from the distribution's own is the samples' matter.
#![allow(clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kilocard_latency::sketch::{LogLinear, QuantileSketch, TDigest};

#[allow(dead_code, reason = "the simulation uses all of it")]
#[path = "timeouts/law.rs"]
mod law;

use law::Law;

const PARTS: usize = 40;
const SEEDS: u64 = 20;

fn main() {
    println!("P99.9 of {PARTS} merged parts against the exact one of the same samples; median / most of {SEEDS} seeds");
    println!("law         samples   log-linear error   bytes   t-digest error     bytes");
    for law in Law::ALL {
        for count in [2_000, 20_000, 300_000] {
            let (one, one_bytes) = off::<LogLinear>(law, count);
            let (two, two_bytes) = off::<TDigest>(law, count);
            println!(
                "{:<11} {count:>7}   {one:<18} {one_bytes:>5}   {two:<18} {two_bytes:>5}",
                format!("{law:?}")
            );
        }
    }
    println!("\nCost in nanoseconds: the median of 15 rounds, lognormal");
    println!("sketch       record   merge of two   decode");
    cost::<LogLinear>("log-linear");
    cost::<TDigest>("t-digest");
}

fn samples(law: Law, count: usize, seed: u64) -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|_| Duration::from_secs_f64(law.draw(&mut rng).min(3600.0)))
        .collect()
}

fn off<S: QuantileSketch>(law: Law, count: usize) -> (String, usize) {
    let mut bytes = Vec::new();
    let mut errors: Vec<_> = (0..SEEDS)
        .map(|seed| {
            let mut samples = samples(law, count, seed);
            let mut merged = S::default();
            for part in samples.chunks(count / PARTS) {
                let mut sketch = S::default();
                part.iter().for_each(|sample| sketch.record(*sample, 1));
                merged.merge(&sketch);
            }
            bytes.clear();
            merged.encode(&mut bytes);
            samples.sort_unstable();
            let exact = samples[(count as f64 * 0.999).ceil() as usize - 1].as_secs_f64();
            let found = merged.quantile(0.999).unwrap_or_default().as_secs_f64();
            100.0 * (found / exact - 1.0).abs()
        })
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    (
        format!("{:.2} / {:.2} %", errors[errors.len() / 2], errors[errors.len() - 1]),
        bytes.len(),
    )
}

fn cost<S: QuantileSketch>(name: &str) {
    let samples = samples(Law::Lognormal, 100_000, 1);
    let mut sketch = S::default();
    let record = median(|| {
        sketch = S::default();
        samples.iter().for_each(|sample| sketch.record(black_box(*sample), 1));
        samples.len()
    });
    let mut other = S::default();
    samples.iter().for_each(|sample| other.record(*sample, 1));
    let merge = median(|| {
        (0..1000).for_each(|_| sketch.merge(black_box(&other)));
        1000
    });
    let mut bytes = Vec::new();
    other.encode(&mut bytes);
    let decode = median(|| {
        (0..1000).for_each(|_| drop(black_box(S::decode(black_box(&bytes)))));
        1000
    });
    println!("{name:<12} {record:>6.1}   {merge:>12.0}   {decode:>6.0}");
}

/// Nanoseconds for each of what is done.
fn median(mut does: impl FnMut() -> usize) -> f64 {
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let began = Instant::now();
            let count = does();
            began.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[7]
}
