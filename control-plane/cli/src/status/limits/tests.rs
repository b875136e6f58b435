use super::*;
use serde_json::{Value, json};

fn report(more: &Value) -> LimitsReport {
    let mut report = serde_json::to_value(LimitsReport::default()).unwrap();
    for (name, value) in more.as_object().unwrap() {
        report[name] = value.clone();
    }
    serde_json::from_value(report).unwrap()
}

fn shown(report: &LimitsReport) -> String {
    let mut text = String::new();
    render(&mut text, report, &ElectionReport::default());
    text
}

fn key(name: &str) -> Value {
    json!({"key": name, "demand_percent": 180.0, "used_percent": 100.0, "largest_share_percent": 62.0,
        "smallest_share_percent": 2.04})
}

fn proxy(name: &str, base: f64, unacknowledged: usize, silent: bool) -> Value {
    json!({"proxy": name, "base_percent": base, "leases": 2, "unacknowledged": unacknowledged, "reported_ms_ago": 312,
        "silent": silent})
}

#[test]
fn who_has_how_much_of_a_shared_limit_is_shown() {
    let keys: Vec<Value> = (0..10).map(|number| key(&format!("tenant=t{number}"))).collect();
    let text = shown(&report(&json!({
        "divided_here": true, "learning": true, "proxies_total": 4, "proxies_waiting": 1, "proxies_silent": 1,
        "policies": [{"policy": "tenants", "limits": ["100 requests a second, at most 200 at once"],
            "keys": {"total": 40, "largest": keys}}],
        "proxies": [proxy("a", 25.0, 0, false), proxy("b", 25.0, 3, false), proxy("c", 0.0, 0, false), proxy("d", 25.0, 0, true)],
    })));
    for expected in [
        "divided among 4 proxies; 1 WAITING for their first share; 1 SILENT, their base share is held for them; LEARNING",
        "tenants  100 requests a second, at most 200 at once  40",
        "tenants  tenant=t0      180.0%  100.0%  2.0% to 62.0%",
        "tenants  … and 35 more",
        "a      25.0%       2       312 ms ago  up to date",
        "b      25.0%       2       312 ms ago  3 not acknowledged",
        "c      0.0%        2       312 ms ago  WAITING for a share",
        "d      25.0%       2       312 ms ago  SILENT",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert_eq!(text.matches("tenant=t").count(), KEYS, "{text}");
}

#[test]
fn a_replica_that_does_not_divide_says_who_does() {
    let election = ElectionReport {
        leader: Some("replica-2".to_owned()),
        ..ElectionReport::default()
    };
    let mut text = String::new();
    let limits =
        report(&json!({"policies": [{"policy": "tenants", "limits": [], "keys": {"total": 0, "largest": []}}]}));
    render(&mut text, &limits, &election);
    assert!(text.contains("divided by the replica that leads (replica-2)"), "{text}");
}

#[test]
fn memory_is_shown_by_version_and_none_that_nobody_reports_of_late() {
    let version = |version: &str, capacity: u64| {
        json!({"model": "m", "version": version, "endpoints": 2, "capacity_bytes": capacity, "free_bytes": capacity / 4,
            "largest_free_bytes": capacity / 8, "age_ms": 412})
    };
    let text = shown(&report(&json!({"memory": [version("v1", 8 << 30), version("v2", 0)]})));
    assert!(text.contains("m/v1     2          8192 MiB"), "{text}");
    assert!(text.contains("2048 MiB (25.0%)  1024 MiB     412 ms"), "{text}");
    assert!(text.contains("m/v2     2          NO FRESH REPORT"), "{text}");
    assert!(!text.contains("LIMITS OF THE MESH"), "{text}");
}

#[test]
fn a_mesh_without_limits_has_no_such_section_and_a_large_one_is_cut() {
    assert_eq!(shown(&LimitsReport::default()), "");
    let proxies: Vec<Value> = (0..100)
        .map(|number| proxy(&format!("p{number}"), 1.0, 0, false))
        .collect();
    let text = shown(&report(
        &json!({"divided_here": true, "proxies_total": 3000, "proxies": proxies}),
    ));
    assert!(text.contains("… and 2,980 more: `-o json` shows more"), "{text}");
    assert_eq!(text.matches("up to date").count(), UNASKED, "{text}");
}
