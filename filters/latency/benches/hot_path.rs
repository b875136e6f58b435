//! What is done for each request, each tick and each flush.
#![allow(missing_docs, reason = "criterion's macros give their functions no documentation")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kilocard_latency::hazard::{Hazard, InFlight};
use kilocard_latency::outcome::Outcome;
use kilocard_latency::pool::{Delta, EndpointId, Pool, Settings};
use kilocard_latency::survival::Survival;
use kilocard_latency::window::{Epoch, Slot};

fn latencies(count: usize) -> Vec<Duration> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..count)
        .map(|_| Duration::from_secs_f64(0.05 * (1.0 - rng.f64()).powf(-0.5)))
        .collect()
}

fn window(count: usize) -> Survival {
    let mut survival = Survival::default();
    latencies(count).iter().for_each(|value| survival.record(*value));
    survival
}

fn request(c: &mut Criterion) {
    let (values, mut survival) = (latencies(1024), Survival::default());
    let mut at = 0;
    c.bench_function("request/record", |b| {
        b.iter(|| {
            at = (at + 1) % values.len();
            survival.record(black_box(values[at]));
        });
    });
    let hazard = Hazard::of(&window(40_000)).unwrap();
    let mut flight = InFlight::begin(Duration::ZERO);
    c.bench_function("tick/advance one request in flight", |b| {
        b.iter(|| {
            flight = InFlight::begin(Duration::ZERO);
            flight.advance(&hazard, black_box(Duration::from_millis(130)))
        });
    });
}

fn pool(c: &mut Criterion) {
    let settings = Settings::default();
    for endpoints in [12, 512] {
        let mut delta = Delta::new(EndpointId(0));
        delta.expected = 1.2;
        delta.end(Outcome::Answered);
        let deltas: Vec<_> = (0..endpoints)
            .map(|id| {
                let mut delta = delta;
                delta.endpoint = EndpointId(id);
                delta
            })
            .collect();
        let mut bytes = Vec::new();
        let mut now = Duration::from_secs(100);
        c.bench_function(
            &format!("tick/read, absorb, step and write {endpoints} endpoints"),
            |b| {
                b.iter(|| {
                    now += Duration::from_millis(100);
                    let mut pool = Pool::from_bytes(&bytes);
                    pool.absorb(&deltas, now, &settings);
                    pool.step(now, &mut || 0.5, &settings);
                    bytes = pool.to_bytes();
                });
            },
        );
    }
}

fn flush(c: &mut Criterion) {
    let now = Duration::from_secs(100);
    let mut part = Slot::new(1, Epoch::at(now));
    part.survival_mut().merge(&window(50));
    let mut whole = Slot::new(1, Epoch::at(now));
    whole.survival_mut().merge(&window(4000));
    let bytes = whole.to_bytes();
    c.bench_function("second/flush 50 requests into a slot of 4,000", |b| {
        b.iter(|| Slot::flush(black_box(&bytes), &part, now));
    });
    let window = window(40_000);
    c.bench_function("half minute/hazard of 40,000", |b| {
        b.iter(|| Hazard::of(black_box(&window)));
    });
}

criterion_group!(benches, request, pool, flush);
criterion_main!(benches);
