//! `kilocard simulate`, on a cluster small enough for a test.

use crate::kilocard::{Run, deserted_url, kilocard};

const SMALL: [&str; 11] = [
    "simulate",
    "--gpus",
    "1xH100,2xL4",
    "--seconds",
    "5",
    "--warm-up",
    "1s",
    "--runs",
    "2",
    "--work",
    "20ms",
];

fn simulate(more: &[&str]) -> Run {
    kilocard(&deserted_url(), &[&SMALL[..], more].concat())
}

#[test]
fn all_balancers_get_the_same_requests_and_the_same_seed_the_same_figures() {
    let more = ["--thermal", "0@1s+2s", "-o", "json"];
    let (first, again) = (simulate(&more).expect(0).json(), simulate(&more).expect(0).json());
    assert_eq!(first, again);
    assert_eq!(first["simulated"], true);
    let balancers = first["balancers"].as_array().unwrap();
    assert_eq!(balancers.len(), 8);
    let requests = &balancers[0]["requests"];
    assert!(requests.as_u64().unwrap() > 500, "{requests}");
    for balancer in balancers {
        assert_eq!(&balancer["requests"], requests);
        assert!(balancer["p99_s"]["median"].as_f64().unwrap() > 0.0, "{balancer}");
    }
    assert_eq!(first["aims"].as_array().unwrap().len(), 4);
    let other = simulate(&["--thermal", "0@1s+2s", "-o", "json", "--seed", "9"])
        .expect(0)
        .json();
    assert_ne!(first["balancers"], other["balancers"]);
}

#[test]
fn a_chart_is_drawn_and_the_text_says_that_it_is_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.svg");
    let chart = chart.to_str().unwrap();
    let run = simulate(&[
        "--thermal",
        "none",
        "--balancers",
        "kilocard,round-robin",
        "--svg",
        chart,
    ])
    .expect(0);
    for expected in ["simulated: 3 cards", "BALANCERS", "round-robin: ROUND_ROBIN", "AIMS"] {
        assert!(run.stdout.contains(expected), "{expected}:\n{}", run.stdout);
    }
    let svg = std::fs::read_to_string(chart).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(
        svg.contains("prefers-color-scheme: dark") && svg.matches("<path").count() == 2,
        "{svg}"
    );
}

#[test]
fn a_policy_is_tried_before_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.yaml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let with = [
        "--balancers",
        "kilocard",
        "--thermal",
        "none",
        "-o",
        "json",
        "--policy",
        path,
    ];
    write(
        "api_version: kilocard/v1\nkind: WeightPolicy\nmetadata: {name: all}\nspec:\n  cards:\n  - {product: L4, capacity: 400}\n",
    );
    // A table that takes an L4 for an H100 sends it what it cannot bear.
    let wrong = simulate(&with).expect(0).json();
    let right = simulate(&with[..6]).expect(0).json();
    let p99 = |result: &serde_json::Value| result["balancers"][0]["p99_s"]["median"].as_f64().unwrap();
    assert!(p99(&wrong) > p99(&right), "{} and {}", p99(&wrong), p99(&right));
    write("api_version: kilocard/v1\nkind: MeshPolicy\nmetadata: {name: mesh}\nspec: {}\n");
    let run = simulate(&with).expect(2);
    assert!(run.stderr.contains("takes WeightPolicies only"), "{}", run.stderr);
}

#[test]
fn what_cannot_be_simulated_is_told_with_what_can() {
    for (flags, expected) in [
        (["--gpus", "3xH101"], "there is no card"),
        (["--load", "1.2"], "must be above 0 and below 1"),
        (["--thermal", "12@1s+1s"], "there are only 12"),
        (["--fail", "0@120s"], "comes after the end"),
    ] {
        let flags = [&["simulate"][..], &flags].concat();
        let run = kilocard(&deserted_url(), &flags).expect(2);
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}
