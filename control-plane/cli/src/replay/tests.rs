use super::*;
use kilocard_policy::config::{Document, parse};
use serde_json::{Value, json};

mod limits;

struct Side {
    policy: Policy,
    documents: Vec<Document>,
}

fn side(documents: &[Value]) -> Side {
    let documents: Vec<Document> = documents.iter().map(|document| parse(document).unwrap()).collect();
    let policy = Policy::compile("test", &documents).unwrap();
    Side { policy, documents }
}

fn document(kind: &str, spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
}

fn split(canary: u32) -> Value {
    document(
        "RoutingPolicy",
        &json!({"model": "m", "default": true, "versions": [
        {"version": "v1", "weight": 100 - canary}, {"version": "v2", "weight": canary}]}),
    )
}

/// A captured request with these headers besides what every gRPC request has.
fn captured(headers: &[(&str, &str)]) -> String {
    let usual = [
        (":method", "POST"),
        (":path", "/a.B/C"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let headers: Vec<_> = usual
        .iter()
        .chain(headers)
        .map(|(name, value)| json!([name, value]))
        .collect();
    let random = format!("{:016x}", Key::of(json!(headers).to_string().as_bytes()).digest());
    json!({"v": 1, "stages": "validation+routing", "random": random, "headers": headers}).to_string()
}

fn hashed(value: &str) -> String {
    format!("#{:016x}:{}", Key::of(value.as_bytes()).digest(), value.len())
}

fn replay(old: &Side, new: &Side, log: &str) -> Value {
    let log = Log::of("a.log", Box::new(std::io::Cursor::new(log.to_owned().into_bytes())));
    let report = Replay::new(&old.policy, &new.policy, &new.documents)
        .read(&mut [log])
        .unwrap();
    let json = report.to_json();
    assert!(
        report
            .to_string()
            .contains(&format!("replayed {} captured requests", json["requests"]))
    );
    json
}

#[test]
fn requests_of_hashed_users_fare_as_those_of_the_users_themselves() {
    let (old, new) = (side(&[split(10)]), side(&[split(30)]));
    let users: Vec<String> = (0..500).map(|number| format!("user-{number}")).collect();
    let log: Vec<String> = users
        .iter()
        .flat_map(|user| {
            let line = captured(&[("x-user-id", &hashed(user))]);
            [line.clone(), line]
        })
        .collect();
    let report = replay(&old, &new, &log.join("\n"));
    let version = |side: &Side, user: &String| {
        let request = crate::request::Request::new("/a.B/C", &[("x-user-id".to_owned(), user.clone())]);
        match side
            .policy
            .decide(&kilocard_policy::RequestView::new(&request.pairs()), 0)
            .verdict
        {
            kilocard_policy::Verdict::Route(route) => route.version.to_owned(),
            other => panic!("{other:?}"),
        }
    };
    let moved = users
        .iter()
        .filter(|user| version(&old, user) != version(&new, user))
        .count();
    assert!((60..140).contains(&moved), "{moved}");
    let group = &report["moved"][0];
    assert_eq!((&group["from"], &group["to"]), (&json!("m/v1"), &json!("m/v2")));
    assert_eq!(
        (&group["requests"], &group["users"]),
        (&json!(2 * moved), &json!(moved))
    );
    assert!(group["examples"][0]["user"].as_str().unwrap().starts_with('#'));
    assert_eq!(report["requests"], 1000);
}

#[test]
fn who_would_be_refused_is_told_with_the_reason_and_the_rule() {
    let rule = |action: &str| {
        document(
            "ValidationPolicy",
            &json!({"rules": [
        {"name": "team", "header": "x-sla", "required": true, "action": action}]}),
        )
    };
    let (open, strict, trial) = (
        side(&[split(0)]),
        side(&[split(0), rule("refuse")]),
        side(&[split(0), rule("report")]),
    );
    let log = format!("{}\n{}\n", captured(&[]), captured(&[("x-sla", "gold")]));
    let expected = json!(["RULE_VIOLATED", "a/team", 1]);
    let told = |report: &Value, what: &str| {
        let group = &report[what][0];
        json!([group["reason"], group["rule"], group["requests"]])
    };
    assert_eq!(told(&replay(&open, &strict, &log), "newly_refused"), expected);
    assert_eq!(told(&replay(&strict, &open, &log), "no_longer_refused"), expected);
    let report = replay(&open, &trial, &log);
    assert_eq!(
        (told(&report, "newly_reported"), &report["newly_refused"]),
        (expected, &json!([]))
    );
}

#[test]
fn a_rule_on_a_value_that_was_not_kept_is_told_and_not_guessed() {
    let rule = json!({"rules": [{"name": "team", "header": "x-team", "one_of": ["blue"]}]});
    let (open, strict) = (
        side(&[split(0)]),
        side(&[split(0), document("ValidationPolicy", &rule)]),
    );
    let report = replay(&open, &strict, &captured(&[("x-team", &hashed("red"))]));
    assert_eq!(report["newly_refused"], json!([]));
    assert_eq!(
        report["not_evaluable"][0]["rule"],
        "ValidationPolicy/a: rule team (x-team)"
    );
    let report = replay(&open, &strict, &captured(&[("x-team", "red")]));
    assert_eq!(
        (&report["newly_refused"][0]["requests"], &report["not_evaluable"]),
        (&json!(1), &json!([]))
    );
}

#[test]
fn noise_is_passed_over_and_what_is_malformed_is_named_by_its_line() {
    let policy = side(&[split(0)]);
    let log = format!(
        "[info] hello\n{}\n{{\"capture\":null}}\n{{\"capture\":\"{{\"}}\n{{\"v\":1,\"headers\":5}}\n\n{}",
        captured(&[]),
        captured(&[])
    );
    let report = replay(&policy, &policy, &log);
    assert_eq!((&report["requests"], &report["other_lines"]), (&json!(2), &json!(3)));
    assert_eq!(report["malformed"]["lines"], 2);
    assert_eq!(report["malformed"]["first"][0]["at"], "a.log:4");
    assert_eq!(report["malformed"]["first"][1]["at"], "a.log:5");
}
