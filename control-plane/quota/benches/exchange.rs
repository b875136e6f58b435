//! What one exchange costs in a large mesh: 1,000 proxies, 10,000 keys with leases, each proxy with demand for ten of them and
//! capped leases of all others. With the memory that it takes, as the process's resident set says.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use kilocard_quota::{Authority, Demand, Report, Settings, Share};

const PROXIES: usize = 1000;
const KEYS: usize = 10_000;
const DEMANDS: usize = KEYS / PROXIES;
/// Between two exchanges, so that each proxy reports twice a second.
const STEP: Duration = Duration::from_micros(500);

/// The proxies take every answer over at once and acknowledge it with their next report.
struct Mesh {
    authority: Authority,
    reports: Vec<Report>,
    now: Duration,
    next: usize,
}

impl Mesh {
    fn new(keys_each: usize) -> Self {
        let settings = Settings {
            learning: Duration::ZERO,
            ..Settings::default()
        };
        let demands = |proxy: usize| {
            (0..keys_each)
                .map(|key| Demand {
                    key: Arc::from(format!("tokens-per-tenant/tenant-{}", proxy * keys_each + key)),
                    parts: 800_000,
                })
                .collect()
        };
        let report = |proxy: usize| Report {
            proxy: format!("gateway-{proxy:04}"),
            demands: demands(proxy),
            ..Report::default()
        };
        let mut mesh = Self {
            authority: Authority::new(settings, Duration::ZERO),
            reports: (0..PROXIES).map(report).collect(),
            now: Duration::from_secs(1),
            next: 0,
        };
        // All join before any has demand, then it all begins.
        let wanted: Vec<Vec<Demand>> = mesh
            .reports
            .iter_mut()
            .map(|report| std::mem::take(&mut report.demands))
            .collect();
        mesh.rounds(10);
        for (report, demands) in mesh.reports.iter_mut().zip(wanted) {
            report.demands = demands;
        }
        mesh
    }

    /// One report; leases in the answer.
    fn exchange(&mut self) -> usize {
        self.now += STEP;
        let place = self.next;
        self.next = (place + 1) % PROXIES;
        let report = &mut self.reports[place];
        let grant = self
            .authority
            .exchange(self.now, report)
            .expect("the reports of the bench are well formed");
        report.acknowledged = Some(grant.sequence);
        report.base = grant.base;
        grant.leases.len()
    }

    fn rounds(&mut self, rounds: usize) -> usize {
        (0..rounds * PROXIES).map(|_| self.exchange()).sum()
    }
}

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}

#[allow(clippy::print_stdout)] // It is what the bench is for.
fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    for (name, keys_each) in [
        ("1,000 proxies, no key with leases", 0),
        ("1,000 proxies, 10,000 keys with leases", DEMANDS),
    ] {
        let mut mesh = Mesh::new(keys_each);
        let before = Instant::now();
        let leases = mesh.rounds(5);
        println!(
            "beginning: {leases} leases in {} exchanges, {:?}",
            5 * PROXIES,
            before.elapsed()
        );
        let leases = mesh.rounds(20);
        let managed = mesh.authority.managed_count();
        assert_eq!(managed, keys_each * PROXIES, "measures something else");
        let whole = Share::WHOLE.parts();
        println!(
            "steady: {managed} keys, {} leases an exchange, {} MiB; of {whole} parts of one key {} may be in use",
            leases / (20 * PROXIES),
            resident_mib(),
            mesh.authority.managed().next().map_or(0, |key| key.used_parts),
        );
        group.bench_function(name, |bencher| bencher.iter(|| black_box(mesh.exchange())));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(10));
    targets = exchanges
}
criterion_main!(benches);
