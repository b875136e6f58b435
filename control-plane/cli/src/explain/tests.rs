use super::*;
use kilocard_policy::Policy;
use kilocard_policy::config::parse;

pub(crate) fn in_force() -> InForce {
    let documents = [
        json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"}, "spec": {
            "model": "minilm", "default": true, "canary_override": ["anyone"],
            "versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]}}),
        json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "bert"}, "spec": {
            "model": "bert", "versions": [{"version": "v7", "weight": 100}]}}),
    ]
    .map(|document| parse(&document).unwrap());
    let policy = Policy::compile("test", &documents).unwrap();
    InForce {
        policy,
        documents: documents.to_vec(),
        source: "test".into(),
        warnings: Vec::new(),
    }
}

fn ask(given: &[(&str, &str)], random: Option<u64>) -> Outcome {
    let given: Vec<(String, String)> = given.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    explain(&in_force(), &Request::new("/a.B/C", &given), random)
}

#[test]
fn what_every_grpc_request_has_is_filled_in_and_shown_but_not_over_what_was_given() {
    let outcome = ask(&[("x-model", "bert"), (":method", "GET")], None);
    assert!(
        outcome.text.contains("content-type: application/grpc   (filled in)"),
        "{}",
        outcome.text
    );
    assert!(outcome.text.contains(":method: GET\n"), "{}", outcome.text);
    assert!(!outcome.text.contains(":method: POST"), "{}", outcome.text);
    assert_eq!(outcome.data["decision"]["action"], "refuse");
}

#[test]
fn a_pin_is_explained_by_the_header_that_made_it() {
    let outcome = ask(
        &[("x-model", "minilm"), ("x-model-version", "v2"), ("x-user-id", "ada")],
        None,
    );
    assert_eq!(outcome.data["decision"]["route_key"], "minilm/v2");
    assert_eq!(outcome.data["decision"]["reason"], "PINNED");
    assert_eq!(outcome.data["shares"], json!([]));
    assert!(outcome.text.contains("forwarded to minilm/v2"), "{}", outcome.text);
}

#[test]
fn a_cohort_is_explained_by_its_bucket_and_the_division_of_buckets() {
    let outcome = ask(&[("x-user-id", "ada")], None);
    assert_eq!(outcome.data["decision"]["reason"], "STICKY");
    let bucket = outcome.data["decision"]["bucket"].as_u64().unwrap();
    let expected = if bucket < 1000 { "minilm/v2" } else { "minilm/v1" };
    assert_eq!(outcome.data["decision"]["route_key"], expected);
    assert!(
        outcome
            .text
            .contains(&format!("falls into bucket {bucket}; v2 has buckets 0 to 999 (10%)")),
        "{}",
        outcome.text
    );
    let record = format!("v=1 bucket={bucket} version={expected} why=STICKY rev=test");
    assert_eq!(outcome.data["record"], record);
    assert!(
        outcome.text.contains("the default: no x-model was given"),
        "{}",
        outcome.text
    );
}

#[test]
fn without_a_user_the_draw_is_described_and_not_pretended() {
    let outcome = ask(&[("x-model", "minilm")], None);
    assert!(
        outcome
            .text
            .contains("forwarded at random: minilm/v2 10%, minilm/v1 90%"),
        "{}",
        outcome.text
    );
    assert_eq!(outcome.data["decision"]["version"], Value::Null);
    assert_eq!(outcome.data["record"], Value::Null);
    assert_eq!(outcome.data["shares"][0]["percent"], 10.0);
}

#[test]
fn a_given_random_number_decides_the_draw() {
    for (random, version) in [(0, "v2"), (u64::MAX, "v1")] {
        let outcome = ask(&[("x-model", "minilm")], Some(random));
        assert_eq!(outcome.data["decision"]["version"], version);
        assert_eq!(outcome.data["decision"]["reason"], "WEIGHTED");
    }
}

#[test]
fn a_canary_weight_in_the_request_shows_in_the_division() {
    let outcome = ask(&[("x-model", "minilm"), ("x-canary-weight", "25")], None);
    assert!(
        outcome.text.contains("minilm/v2 25%, minilm/v1 75%"),
        "{}",
        outcome.text
    );
    assert!(outcome.text.contains("that of x-canary-weight"), "{}", outcome.text);
}

#[test]
fn a_refusal_names_stage_status_field_and_message() {
    let outcome = ask(&[("x-model", "minilm"), ("x-canary-weight", "101")], None);
    assert_eq!(outcome.data["stages"][0]["result"], "refused");
    assert_eq!(outcome.data["stages"][1]["result"], "not_run");
    let decision = &outcome.data["decision"];
    assert_eq!(
        (&decision["grpc_status"], &decision["grpc_code"]),
        (&json!("INVALID_ARGUMENT"), &json!(3))
    );
    assert_eq!(decision["field"], "x-canary-weight");
    assert!(
        outcome.text.contains("gRPC status INVALID_ARGUMENT (3)"),
        "{}",
        outcome.text
    );
    assert!(outcome.success, "it was explained, so the command succeeded");
}

#[test]
fn an_unknown_model_is_refused_by_routing_after_validation_passed() {
    let outcome = ask(&[("x-model", "gpt")], None);
    assert_eq!(outcome.data["stages"][0]["result"], "passed");
    assert_eq!(outcome.data["stages"][1]["result"], "refused");
    assert_eq!(outcome.data["decision"]["grpc_status"], "NOT_FOUND");
}

#[test]
fn headers_of_our_own_decide_nothing_and_go_no_further() {
    let outcome = ask(&[("x-model", "bert"), ("x-kilocard-route", "minilm/v2")], None);
    assert_eq!(outcome.data["decision"]["route_key"], "bert/v7");
    let removed: Vec<&Value> = outcome.data["request"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|header| header["removed_when_forwarded"] == true)
        .map(|header| &header["name"])
        .collect();
    assert_eq!(removed, ["x-kilocard-route"]);
    let expected = "x-kilocard-route: minilm/v2   (removed when forwarded)\n";
    assert!(outcome.text.contains(expected), "{}", outcome.text);
}

/// The filter decides on what came in, before it removes anything.
#[test]
fn headers_of_our_own_count_against_the_limits() {
    let long = "a".repeat(4097);
    let outcome = ask(&[("x-model", "bert"), ("x-kilocard-note", &long)], None);
    assert_eq!(outcome.data["decision"]["reason"], "HEADER_TOO_LONG");
    assert_eq!(outcome.data["decision"]["field"], "x-kilocard-note");
}

#[test]
fn control_bytes_are_not_sent_to_the_terminal() {
    let outcome = ask(&[("x-model", "a\u{1b}[2J")], None);
    assert!(!outcome.text.contains('\u{1b}'), "{:?}", outcome.text);
    assert_eq!(outcome.data["decision"]["action"], "refuse");
}

#[test]
fn a_caller_counts_by_who_they_are_and_where_they_come_from() {
    let documents = [
        json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"}, "spec": {"callers": [
            {"name": "operators", "spiffe": ["spiffe://mesh.example/ns/ops/*"], "addresses": ["10.0.0.0/8"]}]}}),
        json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"}, "spec": {
            "model": "m", "default": true, "versions": [{"version": "v1", "weight": 100}]}}),
        json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "v"}, "spec": {"rules": [
            {"name": "debug", "header": "x-debug", "callers": ["operators"]},
            {"name": "team", "header": "x-team", "required": true, "action": "report"}]}}),
    ]
    .map(|document| parse(&document).unwrap());
    let in_force = InForce {
        policy: Policy::compile("test", &documents).unwrap(),
        documents: documents.to_vec(),
        source: "test".into(),
        warnings: Vec::new(),
    };
    let mut request = Request::new("/a.B/C", &[("x-debug".to_owned(), "1".to_owned())]);
    let refused = explain(&in_force, &request, None);
    assert_eq!(refused.data["decision"]["reason"], "CALLER_NOT_ALLOWED");
    assert_eq!(
        refused.data["decision"]["violations"][0]["rule"],
        json!({"policy": "v", "name": "debug"})
    );
    let spiffe = Sender {
        spiffe: Some("spiffe://mesh.example/ns/ops/sa/ada".into()),
        ..Sender::default()
    };
    let address = Sender {
        address: "10.1.2.3".parse().ok(),
        ..Sender::default()
    };
    for sender in [spiffe, address] {
        request.sender = sender;
        let outcome = explain(&in_force, &request, None);
        assert_eq!(outcome.data["decision"]["route_key"], "m/v1", "{}", outcome.text);
        assert!(outcome.text.contains("caller      "), "{}", outcome.text);
        assert!(
            outcome
                .text
                .contains("reported and let pass\n  RULE_VIOLATED by rule v/team: "),
            "{}",
            outcome.text
        );
    }
}
