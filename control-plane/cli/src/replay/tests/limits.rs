use super::*;
use kilocard_policy::headers::X_TENANT_ID;
use std::fmt::Write as _;

/// One request a second of each key, with such a burst.
fn limit(name: &str, spec: &Value) -> Value {
    let mut document = document("RateLimitPolicy", spec);
    document["metadata"]["name"] = json!(name);
    document
}

fn of_tenants(rate: u32, burst: u32) -> Value {
    limit(
        "tenants",
        &json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": rate, "burst": burst}]}),
    )
}

/// A request of a tenant, so many milliseconds after the first, out of a sample of so many percent.
fn at(ms: u64, tenant: &str, percent: f64, more: &[(&str, &str)]) -> String {
    let tenant = hashed(tenant);
    let headers = [&[(X_TENANT_ID, tenant.as_str())], more].concat();
    let mut line: Value = serde_json::from_str(&captured(&headers)).unwrap();
    line["time_us"] = json!(1_700_000_000_000_000_u64 + ms * 1000);
    line["percent"] = json!(percent);
    line.to_string()
}

fn digest(tenant: &str) -> String {
    format!("tenant=#{:016x}", Key::of(tenant.as_bytes()).digest())
}

#[test]
fn who_would_be_limited_is_told_by_limit_and_key_now_and_then() {
    let (old, new) = (side(&[split(0), of_tenants(1, 8)]), side(&[split(0), of_tenants(1, 2)]));
    let of_acme = (0..10).map(|number| at(number, "acme", 100.0, &[]));
    let of_beta = (0..3).map(|number| at(number, "beta", 100.0, &[]));
    let log: Vec<_> = of_acme.chain(of_beta).collect();
    let told = replay(&old, &new, &log.join("\n"))["limits"].take();
    assert_eq!(told["requests"], 13);
    assert_eq!(told["refused"], json!({"now": 2, "then": 9}));
    assert_eq!(
        (&told["newly_refused"], &told["no_longer_refused"]),
        (&json!(7), &json!(0))
    );
    let limit = &told["limits"][0];
    assert_eq!(
        (&limit["limit"], &limit["outcome"]),
        (&json!("tenants.requests"), &json!("used_up"))
    );
    assert_eq!(
        limit["keys"],
        json!([{"key": digest("acme"), "now": 2, "then": 8}, {"key": digest("beta"), "now": 0, "then": 1}])
    );
    assert_eq!(
        (&told["from"], &told["to"]),
        (&json!("2023-11-14T22:13:20Z"), &json!("2023-11-14T22:13:20Z"))
    );
}

#[test]
fn requests_are_asked_for_in_the_order_in_which_they_came_and_not_in_that_of_the_log() {
    let (old, new) = (side(&[split(0)]), side(&[split(0), of_tenants(1, 1)]));
    // One a second: all pass if they are taken in order.
    let mut log: Vec<_> = (0..50).map(|second| at(second * 1000, "acme", 100.0, &[])).collect();
    log.reverse();
    let told = replay(&old, &new, &log.join("\n"))["limits"].take();
    assert_eq!(
        (&told["refused"]["then"], &told["out_of_order"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn what_costs_more_than_the_burst_is_told_apart_and_so_is_what_only_counts() {
    let tokens = |shadow: bool| {
        let spec = json!({"limits": [{"unit": "tokens", "rate": 10, "burst": 100}], "shadow": shadow});
        side(&[split(0), limit("tokens", &spec)])
    };
    let log: Vec<_> = ["50", "60", "1000"]
        .map(|most| at(0, "acme", 100.0, &[("x-max-tokens", most)]))
        .to_vec();
    let told = replay(&tokens(true), &tokens(false), &log.join("\n"));
    let outcome = |limit: &Value| json!([limit["outcome"], limit["only_counts"], limit["requests"]]);
    let limits: Vec<_> = told["limits"]["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(outcome)
        .collect();
    assert_eq!(
        limits,
        [
            json!(["used_up", false, {"now": 0, "then": 1}]),
            json!(["used_up", true, {"now": 1, "then": 0}]),
            json!(["cost_above_burst", false, {"now": 0, "then": 1}]),
            json!(["cost_above_burst", true, {"now": 1, "then": 0}]),
        ]
    );
    assert_eq!(told["limits"]["refused"], json!({"now": 0, "then": 2}));
}

#[test]
fn what_has_no_time_is_left_out_and_counted_and_a_thin_sample_is_called_so() {
    let (old, new) = (side(&[split(0)]), side(&[split(0), of_tenants(10, 20)]));
    let mut log = captured(&[(X_TENANT_ID, &hashed("acme"))]);
    for _ in 0..20 {
        let _ = write!(log, "\n{}", at(0, "acme", 1.0, &[]));
    }
    let told = replay(&old, &new, &log)["limits"].take();
    assert_eq!(
        (&told["requests"], &told["without_time"], &told["sample_percent"]),
        (&json!(20), &json!(1), &json!(1.0))
    );
    assert_eq!(told["limits"][0]["small_sample"], true);
}

#[test]
fn without_limits_nothing_is_said_of_them_and_keys_are_not_listed_without_end() {
    let open = side(&[split(0)]);
    let strict = side(&[split(0), of_tenants(1, 1)]);
    let tenants = (0..40).flat_map(|number| {
        let line = at(0, &format!("tenant-{number}"), 100.0, &[]);
        [line.clone(), line]
    });
    let log = tenants.collect::<Vec<_>>().join("\n");
    assert_eq!(replay(&open, &open, &log)["limits"], Value::Null);
    let input = Log::of("a.log", Box::new(std::io::Cursor::new(log.into_bytes())));
    let report = Replay::new(&open.policy, &strict.policy, &strict.documents)
        .read(&mut [input])
        .unwrap();
    assert_eq!(report.newly_refused(), 40);
    let text = report.to_string();
    assert!(
        text.contains("refused by limits: 0 now, 40 then; 40 newly, 0 no longer"),
        "{text}"
    );
    assert!(text.contains("40 in all") && text.contains("and 35 more"), "{text}");
    assert_eq!(text.matches("tenant=#").count(), 5, "{text}");
}
