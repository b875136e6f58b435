//! The grammars of our own headers, at both sides of their borders.

use super::*;

#[test]
fn affinities_are_a_card_or_any_and_a_memory_class() {
    let good: [&[u8]; 6] = [b"gpu0", b"gpu9999", b"any", b"gpu0:high", b"gpu7:medium", b"any:low"];
    assert_accepted(&good, "x-gpu-affinity");
    let broken: [&[u8]; 12] = [
        b"",
        b"gpu",
        b"gpu10000",
        b"gpu00",
        b"gpu01",
        b"GPU0",
        b"gpu0:",
        b"gpu0:huge",
        b"gpu0:high:low",
        b":high",
        b"gpu-1",
        b"any0",
    ];
    assert_refused(&broken, "x-gpu-affinity", RefusalReason::MalformedGpuAffinity);
}

#[test]
fn traceparents_are_w3cs() {
    let good: [&[u8]; 3] = [
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
    ];
    assert_accepted(&good, "traceparent");
    let broken: [&[u8]; 10] = [
        b"",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        b"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        b"00-0af7651916cd43dd8448eb211c80319c0-b7ad6b716920333-01",
    ];
    assert_refused(&broken, "traceparent", RefusalReason::MalformedTraceparent);
}

#[test]
fn trace_ids_are_8_to_64_letters_digits_or_hyphens() {
    let long = [b'a'; 65];
    assert_accepted(
        &[b"01234567", b"5b1c6c5e-9c66-4f41-9a3b-3f6f7a1d2c4e", &long[1..]],
        "x-trace-id",
    );
    let broken: [&[u8]; 5] = [b"", b"0123456", b"0123 4567", b"0123_4567", &long];
    assert_refused(&broken, "x-trace-id", RefusalReason::MalformedTraceId);
}

#[test]
fn priorities_are_three_and_service_levels_are_names() {
    assert_accepted(&[b"P0", b"P1", b"P2"], "x-priority");
    let broken: [&[u8]; 5] = [b"", b"P3", b"p0", b"P00", b"high"];
    assert_refused(&broken, "x-priority", RefusalReason::MalformedPriority);
    assert_accepted(&[b"gold", b"sla-99.9"], "x-sla");
    let broken: [&[u8]; 3] = [b"", b"-gold", b"gold plated"];
    assert_refused(&broken, "x-sla", RefusalReason::MalformedSla);
}

#[test]
fn versions_have_no_empty_part() {
    let long = [b'a'; 65];
    let broken: [&[u8]; 8] = [b"", b"v2-", b".v2", b"1..2", b"v2--rc", b"v 2", b"v2/x", &long];
    assert_refused(&broken, "x-model-version", RefusalReason::MalformedModelVersion);
    for value in [&b"V2"[..], b"2026.11", b"v2-rc.1_x", &long[1..]] {
        let refusal = refused(&one_version(), &[("x-model-version", value)]);
        assert_eq!(refusal.reason, RefusalReason::VersionNotFound);
    }
}

#[test]
fn tenants_and_sessions_keep_to_the_alphabet_of_users() {
    for (name, reason) in [
        ("x-tenant-id", RefusalReason::MalformedTenantId),
        ("x-session-id", RefusalReason::MalformedSessionId),
    ] {
        let long = [b'a'; 129];
        assert_accepted(&[b"blue", b"a@b:c/d+e=", &long[1..]], name);
        let broken: [&[u8]; 3] = [b"", b"a b", &long];
        assert_refused(&broken, name, reason);
    }
}

#[test]
fn gpu_classes_are_names() {
    let broken: [&[u8]; 3] = [b"", b"-h100", b"h 100"];
    assert_refused(&broken, "x-gpu-class", RefusalReason::MalformedGpuClass);
}

#[test]
fn what_routing_reads_is_held_to_its_grammar_even_without_validation_or_when_only_reported() {
    let reporting = with_section("report_only", &serde_json::json!("all"));
    for (name, reason) in [
        ("x-model", RefusalReason::MalformedModel),
        ("x-model-version", RefusalReason::MalformedModelVersion),
        ("x-canary-weight", RefusalReason::MalformedCanaryWeight),
        ("x-user-id", RefusalReason::MalformedUserId),
        ("x-tenant-id", RefusalReason::MalformedTenantId),
        ("x-session-id", RefusalReason::MalformedSessionId),
        ("x-gpu-affinity", RefusalReason::MalformedGpuAffinity),
        ("x-gpu-class", RefusalReason::MalformedGpuClass),
    ] {
        let headers = request(&[(name, b"no good")]);
        for (policy, stages) in [(&one_version(), Stages::ROUTING), (&reporting, Stages::ALL)] {
            let refusal = refused_headers(policy, &headers, stages);
            assert_eq!((refusal.reason, refusal.field.as_str()), (reason, name));
        }
    }
    let headers = request(&[("traceparent", b"no good"), ("x-trace-id", b"?"), ("x-sla", b"")]);
    let policy = one_version();
    let verdict = policy
        .decide_stages(Stages::ROUTING, &RequestView::new(&headers), 0)
        .verdict;
    assert!(
        matches!(verdict, Verdict::Route(_)),
        "what routing does not lean on is not its to judge"
    );
}
