//! What one exchange costs, by how many proxies and keys with leases there are; each key is in demand at one proxy, and all
//! others have a lease of it that holds them down. With the memory that it takes, as the process's resident set says. The last
//! case is ten times as large as [`Settings::max_holds`] allows.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use kilocard_quota::{Authority, Demand, Report, Settings};

/// Proxies, and keys in demand at each.
const CASES: [(usize, usize); 4] = [(1000, 0), (10, 100), (100, 25), (1000, 10)];
/// Between two reports of a proxy.
const INTERVAL: Duration = Duration::from_millis(500);

/// The proxies take every answer over at once and acknowledge it with their next report.
struct Mesh {
    authority: Authority,
    reports: Vec<Report>,
    now: Duration,
    next: usize,
}

impl Mesh {
    fn new(proxies: usize, keys_each: usize) -> Self {
        let settings = Settings {
            learning: Duration::ZERO,
            max_holds: usize::MAX,
            max_leases: usize::MAX,
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
            reports: (0..proxies).map(report).collect(),
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
        self.now += INTERVAL / self.reports.len() as u32;
        let place = self.next;
        self.next = (place + 1) % self.reports.len();
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
        (0..rounds * self.reports.len()).map(|_| self.exchange()).sum()
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
    for (proxies, keys_each) in CASES {
        let name = format!("{proxies} proxies, {} keys", proxies * keys_each);
        let mut mesh = Mesh::new(proxies, keys_each);
        let before = Instant::now();
        let leases = mesh.rounds(5);
        println!(
            "{name}: begins with {leases} leases in {} exchanges, {:?}",
            5 * proxies,
            before.elapsed()
        );
        let leases = mesh.rounds(20) / (20 * proxies);
        let managed = mesh.authority.managed_count();
        assert_eq!(managed, keys_each * proxies, "measures something else");
        println!(
            "{name}: goes on with {leases} leases an exchange, {} MiB",
            resident_mib()
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
