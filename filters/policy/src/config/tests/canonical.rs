//! What is written is read back, whatever a document says; and the schemas take whatever the reader takes.

use super::schema::{accepts, schema_of};
use super::*;

/// A field's name and what it holds, if it is given.
type Field = (&'static str, BoxedStrategy<Option<Value>>);

fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let given = move |values: Vec<Option<Value>>| {
        let fields = names.iter().zip(values);
        fields
            .filter_map(|(name, value)| Some(((*name).to_owned(), value?)))
            .collect()
    };
    values.prop_map(given).boxed()
}

fn may(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop::option::of(value).boxed()
}

fn must(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    value.prop_map(Some).boxed()
}

fn flag() -> impl Strategy<Value = Value> {
    any::<bool>().prop_map(Value::from)
}

fn name() -> impl Strategy<Value = Value> {
    "[a-z0-9][a-z0-9._-]{0,9}".prop_map(Value::from)
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(words).prop_map(Value::from)
}

fn set(of: impl Strategy<Value = String> + 'static, min: usize) -> impl Strategy<Value = Value> {
    prop::collection::btree_set(of, min..4).prop_map(|set| set.into_iter().collect())
}

fn words(words: &'static [&'static str], min: usize) -> impl Strategy<Value = Value> {
    prop::sample::subsequence(words, min..=words.len()).prop_map(Value::from)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1000..1000_i32).prop_map(f64::from),
        "-?[1-9][0-9]{0,14}e-?[0-6]".prop_filter_map("within bounds", |text| {
            let number: f64 = text.parse().ok()?;
            (1e-6..=1e15).contains(&number.abs()).then_some(number)
        }),
    ]
}

fn number_range() -> impl Strategy<Value = Value> {
    (number(), number(), 0..3_u8).prop_map(|(a, b, ends)| match ends {
        0 => json!({"min": a}),
        1 => json!({"max": a}),
        _ => json!({"min": a.min(b), "max": a.max(b)}),
    })
}

fn method() -> impl Strategy<Value = String> {
    "/([a-z_]{1,3}\\.){0,2}[A-Z][a-z0-9]{0,3}/(\\*|[A-Z_][a-z]{0,3})"
}

fn header() -> impl Strategy<Value = Value> {
    "x-[0-9a-z_.-]{1,6}|:path|:authority".prop_map(Value::from)
}

fn pattern() -> impl Strategy<Value = Value> {
    one_of(&[
        "[a-z]+",
        "(gold|silver)",
        "(?i)a?b*c{1,3}",
        r"\d+\.\d+",
        "^a$",
        "[[:alpha:]]",
    ])
}

fn values() -> impl Strategy<Value = Value> {
    set("[ -~]{0,6}", 1)
}

/// Elements with names of their own.
fn named(elements: BoxedStrategy<Value>, count: std::ops::Range<usize>) -> impl Strategy<Value = Value> {
    prop::collection::vec(elements, count).prop_map(|elements| {
        let named = |(index, mut element): (usize, Value)| {
            element["name"] = json!(format!("n{index}"));
            element
        };
        elements.into_iter().enumerate().map(named).collect()
    })
}

fn mesh() -> BoxedStrategy<Value> {
    let identity = "spiffe://[a-z][a-z0-9.-]{0,6}/([a-z]{1,3}/){0,2}(\\*|[A-Za-z]{1,3})";
    let address = "10\\.[1-9]{1,2}\\.0\\.0/16|192\\.0\\.2\\.[1-9]|2001:db8:[1-9a-f]{1,4}::(/48)?";
    let callers = prop_oneof![
        object(vec![
            ("spiffe", must(set(identity, 1))),
            ("addresses", may(set(address, 0)))
        ]),
        object(vec![
            ("spiffe", may(set(identity, 0))),
            ("addresses", must(set(address, 1)))
        ]),
    ];
    let select = object(vec![
        ("products", must(set("[a-z][0-9]{1,3}", 1))),
        ("archs", may(set("[a-z]{3,6}", 1))),
        ("min_memory_gb", may((1..=4096_u32).prop_map(Value::from))),
        ("nvlink", may(flag())),
        ("zones", may(set("[A-Za-z0-9 -]{1,8}", 1))),
    ]);
    let class = object(vec![
        ("select", must(select)),
        ("otherwise", may(one_of(&["any", "unavailable"]))),
    ]);
    let capture = object(vec![
        (
            "percent",
            must((0..=10_000_u16).prop_map(|points| json!(f64::from(points) / 100.0))),
        ),
        ("plain_headers", may(set("x-[a-z]{1,4}", 0))),
    ]);
    let value = prop_oneof![
        flag(),
        (0..1000_u32).prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from)
    ];
    let runtime = prop::collection::btree_map("[a-z_]{1,4}(\\.[a-z_]{1,4}){0,2}", value, 0..4);
    let runtime = runtime.prop_map(|entries| json!(entries));
    object(vec![
        ("callers", may(named(callers.boxed(), 0..4))),
        ("gpu_classes", may(named(class, 0..4))),
        ("decision_record", may(object(vec![("response_header", may(flag()))]))),
        ("capture", may(capture)),
        ("runtime", may(runtime)),
    ])
}

fn header_rule() -> BoxedStrategy<Value> {
    let length = (0..=100_u32, 100..=32_768_u32).prop_map(|(min, max)| json!({"min": min, "max": max}));
    object(vec![
        (
            "match",
            may(object(vec![
                ("models", may(set("[a-z]{1,3}", 0))),
                ("methods", may(set(method(), 0))),
            ])),
        ),
        ("header", must(header())),
        ("required", must(Just(json!(true)))),
        ("pattern", may(pattern())),
        ("length", may(length)),
        ("one_of", may(values())),
        ("range", may(number_range())),
        (
            "forbid",
            may(words(
                &[
                    "sql_injection",
                    "control_characters",
                    "path_traversal",
                    "script_injection",
                ],
                1,
            )),
        ),
        ("callers", may(set("[b-z]{1,5}", 1))),
        ("action", may(one_of(&["refuse", "report"]))),
        ("status", may(one_of(&["PERMISSION_DENIED", "UNAUTHENTICATED"]))),
    ])
}

fn validation() -> BoxedStrategy<Value> {
    let limits = object(vec![
        ("max_header_value_bytes", may((256..=4096_u32).prop_map(Value::from))),
        ("max_headers", may((32..=500_u32).prop_map(Value::from))),
        (
            "max_headers_total_bytes",
            may((4096..=131_072_u32).prop_map(Value::from)),
        ),
    ]);
    let protocols = object(vec![
        ("grpc_web", may(one_of(&["refuse", "accept"]))),
        ("http", may(one_of(&["refuse", "pass", "route"]))),
    ]);
    let methods = object(vec![("allow", may(set(method(), 1))), ("deny", may(set(method(), 0)))]);
    let report = prop_oneof![
        Just(json!("all")),
        words(&["MALFORMED_SLA", "DUPLICATE_HEADER", "NOT_GRPC"], 0)
    ];
    object(vec![
        ("limits", may(limits)),
        ("protocols", may(protocols)),
        ("methods", may(methods)),
        ("internal_headers", may(one_of(&["strip", "refuse"]))),
        (
            "refusal",
            may(object(vec![("status", may(one_of(&["UNIMPLEMENTED", "UNAVAILABLE"])))])),
        ),
        ("report_only", may(report)),
        ("rules", may(named(header_rule(), 0..4))),
    ])
}

/// Three versions whose weights sum to 100.
fn weights() -> impl Strategy<Value = Vec<Value>> {
    (0..=10_000_u16, 0..=10_000_u16).prop_map(|(a, b)| {
        let (low, high) = (a.min(b), a.max(b));
        let points = [low, high - low, 10_000 - high];
        let version = |(index, points): (usize, u16)| json!({"version": format!("v{index}"), "weight": f64::from(points) / 100.0});
        points.into_iter().enumerate().map(version).collect()
    })
}

fn cohorts() -> impl Strategy<Value = Value> {
    (1..9999_u16, any::<bool>()).prop_map(|(cut, down)| {
        let rest = if down {
            format!("9999-{cut}")
        } else {
            format!("{cut}-9999")
        };
        json!({"v0": rest, "gone": format!("0-{}", cut - 1)})
    })
}

fn routing_rule() -> BoxedStrategy<Value> {
    let header = (
        header(),
        prop_oneof![
            values().prop_map(|values| json!({"one_of": values})),
            number_range().prop_map(|range| json!({"range": range})),
            Just(json!({"present": true})),
            pattern().prop_map(|pattern| json!({"pattern": pattern})),
        ],
    );
    let header = header.prop_map(|(name, mut matcher)| {
        matcher["name"] = name;
        matcher
    });
    let match_ = object(vec![
        ("methods", may(set(method(), 1))),
        ("tenants", must(set("[A-Za-z0-9@/=-]{1,5}", 1))),
        (
            "headers",
            may(prop::collection::vec(header, 1..3).prop_map(Value::from)),
        ),
    ]);
    object(vec![
        ("match", must(match_)),
        ("versions", must(weights().prop_map(Value::from))),
        ("cohorts", may(cohorts())),
        ("gpu", may(object(vec![("class", must(name()))]))),
        ("priority", may(urgency())),
    ])
}

fn urgency() -> BoxedStrategy<Value> {
    object(vec![
        ("default", may(one_of(&["P2"]))),
        ("highest", may(one_of(&["P0", "P1", "P2"]))),
    ])
}

fn pool() -> BoxedStrategy<Value> {
    let match_ = object(vec![
        ("model_types", must(words(&["llm", "embedding", "rerank"], 1))),
        ("sla", may(set("[a-z][a-z0-9]{0,4}", 1))),
        ("priorities", may(words(&["P0", "P1", "P2"], 1))),
    ]);
    let limit = || may((1..=1_000_000_u32).prop_map(Value::from));
    let limits = object(vec![
        ("max_connections", limit()),
        ("max_pending_requests", limit()),
        ("max_requests", limit()),
        ("retry_percent", may((0..=100_u32).prop_map(Value::from))),
        ("min_retries", limit()),
    ]);
    let keepalive = object(vec![
        ("interval_s", may((11..=7200_u32).prop_map(Value::from))),
        ("timeout_s", may((1..=10_u32).prop_map(Value::from))),
    ]);
    let connections = object(vec![
        ("connect_timeout_ms", may((10..=60_000_u32).prop_map(Value::from))),
        ("idle_timeout_s", may((1..=86_400_u32).prop_map(Value::from))),
        ("max_concurrent_streams", may((1..=100_000_u32).prop_map(Value::from))),
        ("max_per_worker", limit()),
        ("max_requests_per_connection", limit()),
        (
            "initial_stream_window_bytes",
            may((65_535..=1_000_000_u32).prop_map(Value::from)),
        ),
        (
            "initial_connection_window_bytes",
            may((1_000_000..=0x7fff_ffff_u32).prop_map(Value::from)),
        ),
        ("keepalive", may(keepalive)),
    ]);
    object(vec![
        ("match", must(match_)),
        ("limits", may(limits)),
        ("connections", may(connections)),
    ])
}

fn routing_spec() -> BoxedStrategy<Value> {
    let versions = (weights(), prop::collection::vec(0..3_u8, 3)).prop_map(|(mut versions, fallbacks)| {
        for (index, (version, choice)) in versions.iter_mut().zip(fallbacks).enumerate() {
            match choice {
                0 => {}
                1 => version["fallback"] = json!([]),
                _ => version["fallback"] = json!([format!("v{}", (index + 1) % 3), format!("v{}", (index + 2) % 3)]),
            }
        }
        Value::from(versions)
    });
    let shadow = (0..3_u8, 1..=10_000_u16, 1..=100_000_u32).prop_map(|(version, points, most)| {
        json!({"version": format!("v{version}"), "percent": f64::from(points) / 100.0, "max_per_second": most})
    });
    object(vec![
        ("model", must(name())),
        ("default", may(flag())),
        ("model_type", may(one_of(&["llm", "embedding", "rerank"]))),
        ("priority", may(urgency())),
        ("salt", may("[ -~]{1,128}".prop_map(Value::from))),
        ("sticky_by", may(words(&["user", "tenant", "session"], 0))),
        ("pinned_fallback", may(flag())),
        ("gpu", may(object(vec![("class", must(name()))]))),
        ("shadow", may(shadow)),
        ("versions", must(versions)),
        ("cohorts", may(cohorts())),
        ("rules", may(named(routing_rule(), 0..3))),
    ])
}

fn integer(range: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Value> {
    range.prop_map(Value::from)
}

fn weight_constants() -> BoxedStrategy<Value> {
    let memory = object(vec![
        ("floor_percent", may(integer(0..=19))),
        ("ample_percent", may(integer(20..=100))),
    ]);
    let faults = object(vec![
        ("clear_ms", may(integer(0..=3_600_000))),
        ("max_ejected_percent", may(integer(0..=50))),
        ("suspect_percent", may(integer(1..=100))),
    ]);
    let publication = object(vec![
        ("grid_percent", may(integer(1..=50))),
        ("interval_ms", may(integer(100..=1000))),
        ("settle_ms", may(integer(1000..=600_000))),
    ]);
    let spillover = object(vec![
        ("engage_percent", may(integer(76..=100))),
        ("release_percent", may(integer(1..=75))),
        ("most_percent", may(integer(0..=90))),
    ]);
    let card = object(vec![
        ("product", must(name())),
        ("mig", may(name())),
        ("capacity", must(integer(1..=1000))),
    ]);
    object(vec![
        ("model", may(name())),
        ("memory", may(memory)),
        ("publication", may(publication)),
        ("slow_start", may(object(vec![("over_ms", may(integer(0..=600_000)))]))),
        ("faults", may(faults)),
        (
            "locality",
            may(prop::sample::select(&["none", "zone", "rack"][..]).prop_map(Value::from)),
        ),
        ("spillover", may(spillover)),
        (
            "fatal_xids",
            may(prop::collection::btree_set(1..=200_u32, 0..4).prop_map(Value::from_iter)),
        ),
        ("cards", may(prop::collection::vec(card, 0..2).prop_map(Value::from))),
    ])
}

fn scale() -> BoxedStrategy<Value> {
    let targets = object(vec![
        ("qps_per_replica", must(integer(1..=1_000_000))),
        ("memory_percent", may(integer(1..=100))),
        ("queue_per_replica", may(integer(1..=100_000))),
    ]);
    let up = object(vec![
        ("stabilization_s", may(integer(0..=3600))),
        ("max_percent", may(integer(1..=1000))),
        ("max_replicas", may(integer(0..=10_000))),
        ("period_s", may(integer(1..=1800))),
    ]);
    let down = object(vec![
        ("stabilization_s", may(integer(0..=3600))),
        ("max_percent", may(integer(1..=100))),
        ("max_replicas", may(integer(0..=10_000))),
    ]);
    object(vec![
        ("model", must(name())),
        ("version", may(Just(json!("v1")))),
        ("min_replicas", may(integer(0..=5))),
        ("max_replicas", must(integer(5..=10_000))),
        ("targets", must(targets)),
        ("tolerance_percent", may(integer(0..=50))),
        ("scale_up", may(up)),
        ("scale_down", may(down)),
    ])
}

fn any_document() -> impl Strategy<Value = Value> {
    let spec = prop_oneof![
        mesh().prop_map(|spec| (Kind::MeshPolicy, spec)),
        validation().prop_map(|spec| (Kind::ValidationPolicy, spec)),
        routing_spec().prop_map(|spec| (Kind::RoutingPolicy, spec)),
        pool().prop_map(|spec| (Kind::PoolPolicy, spec)),
        weight_constants().prop_map(|spec| (Kind::WeightPolicy, spec)),
        scale().prop_map(|spec| (Kind::ScalePolicy, spec)),
    ];
    spec.prop_map(|(kind, spec)| {
        json!({"api_version": "kilocard/v1", "kind": kind.as_str(), "metadata": {"name": "d"}, "spec": spec})
    })
}

/// Replaces, removes or adds one value somewhere below.
fn damage(value: &mut Value, steps: &[usize], damage: &Option<Value>) {
    let (step, rest) = steps
        .split_first()
        .map_or((0, &steps[..0]), |(step, rest)| (*step, rest));
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(step % fields.len()).unwrap().clone();
            match (rest.is_empty(), damage) {
                (false, _) => self::damage(&mut fields[&name], rest, damage),
                (true, Some(new)) => drop(fields.insert(name, new.clone())),
                (true, None) => drop(fields.remove(&name)),
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            let index = step % elements.len();
            match (rest.is_empty(), damage) {
                (false, _) => self::damage(&mut elements[index], rest, damage),
                (true, Some(new)) => elements[index] = new.clone(),
                (true, None) => drop(elements.remove(index)),
            }
        }
        value => *value = damage.clone().unwrap_or_default(),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_written_alike(json in any_document()) {
        let read = parse(&json);
        prop_assert!(read.is_ok(), "{json}: {read:?}");
        let document = read.unwrap();
        let written = serde_json::to_vec(&document).unwrap();
        let again = parse_bytes(&written);
        prop_assert_eq!(again.as_ref(), Ok(&document));
        prop_assert_eq!(serde_json::to_vec(&again.unwrap()).unwrap(), written);
    }

    #[test]
    fn a_schema_takes_what_the_reader_takes_and_what_it_writes(json in any_document()) {
        let document = document(&json);
        let schema = schema_of(document.kind());
        prop_assert_eq!(accepts(&schema, &json), Ok(()));
        prop_assert_eq!(accepts(&schema, &serde_json::to_value(&document).unwrap()), Ok(()));
    }

    /// The schema may be laxer, as it cannot say all; it must not be stricter.
    #[test]
    fn a_schema_never_refuses_a_damaged_document_that_the_reader_takes(
        json in any_document(),
        steps in prop::collection::vec(0..64_usize, 1..8),
        new in prop::option::of(any_json()),
    ) {
        let mut json = json;
        damage(&mut json["spec"], &steps, &new);
        match parse(&json) {
            Ok(document) => prop_assert_eq!(accepts(&schema_of(document.kind()), &json), Ok(()), "{}", json),
            Err(found) => prop_assert!(!found.is_empty()),
        }
    }
}
