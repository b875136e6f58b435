use super::*;
use kilocard_policy::config::{FilterConfig, MeshState};
use serde_json::json;

fn id(name: &str) -> PolicyId {
    PolicyId::new("RoutingPolicy", name)
}

fn document(name: &str, model: &str, default: bool) -> Arc<[u8]> {
    let document = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": name},
        "spec": {"model": model, "default": default, "versions": [{"version": "v1", "weight": 100}]},
    });
    document.to_string().into_bytes().into()
}

fn candidates<const N: usize>(all: [(&str, i64, Arc<[u8]>); N]) -> BTreeMap<PolicyId, Candidate> {
    all.into_iter()
        .map(|(name, revision, json)| (id(name), Candidate { revision, json }))
        .collect()
}

fn bad() -> Arc<[u8]> {
    b"{\"api_version\": \"kilocard/v1\"}".as_slice().into()
}

fn recorded(verdicts: &BTreeMap<PolicyId, PolicyStatus>) -> BTreeMap<PolicyId, RecordedStatus> {
    verdicts
        .iter()
        .map(|(id, status)| {
            (
                id.clone(),
                RecordedStatus {
                    modified: 1,
                    status: Some(status.clone()),
                },
            )
        })
        .collect()
}

fn serving(admission: &Admission) -> Vec<(&str, i64)> {
    admission
        .in_force()
        .iter()
        .map(|(id, policy)| (id.name.as_str(), policy.revision))
        .collect()
}

#[test]
fn a_bad_document_leaves_the_last_good_one_in_force_and_says_why() {
    let mut admission = Admission::default();
    admission.judge(&candidates([("a", 1, document("a", "m", false))]));
    admission.judge(&candidates([("a", 2, bad())]));
    assert_eq!(serving(&admission), [("a", 1)]);
    let verdict = &admission.verdicts()[&id("a")];
    assert_eq!(
        (verdict.state, verdict.revision, verdict.serving_revision),
        (PolicyState::Rejected, 2, Some(1))
    );
    assert!(!verdict.errors.is_empty());

    admission.judge(&candidates([("a", 3, document("a", "m", false))]));
    let verdict = &admission.verdicts()[&id("a")];
    assert_eq!(
        (verdict.state, verdict.serving_revision, verdict.errors.len()),
        (PolicyState::Accepted, Some(3), 0)
    );
}

#[test]
fn a_deleted_key_takes_its_document_and_its_verdict_with_it() {
    let mut admission = Admission::default();
    admission.judge(&candidates([("a", 1, document("a", "m", false))]));
    admission.judge(&candidates([("a", 2, bad())]));
    admission.judge(&BTreeMap::new());
    assert!(admission.in_force().is_empty() && admission.verdicts().is_empty());
}

#[test]
fn a_document_under_a_foreign_key_is_rejected() {
    let mut admission = Admission::default();
    admission.judge(&candidates([("a", 1, document("b", "m", false))]));
    assert!(admission.in_force().is_empty());
    assert_eq!(admission.verdicts()[&id("a")].errors[0].path, "metadata.name");
}

#[test]
fn of_two_conflicting_documents_the_one_in_force_stays_even_when_it_is_updated() {
    let mut admission = Admission::default();
    admission.judge(&candidates([
        ("a", 1, document("a", "m", false)),
        ("b", 2, document("b", "m", false)),
    ]));
    assert_eq!(serving(&admission), [("a", 1)]);
    admission.judge(&candidates([
        ("a", 3, document("a", "m", true)),
        ("b", 2, document("b", "m", false)),
    ]));
    assert_eq!(serving(&admission), [("a", 3)]);
}

#[test]
fn a_document_is_admitted_as_soon_as_what_it_conflicted_with_is_gone() {
    let mut admission = Admission::default();
    let b = ("b", 2, document("b", "m", false));
    admission.judge(&candidates([("a", 1, document("a", "m", false)), b.clone()]));
    admission.judge(&candidates([b]));
    assert_eq!(serving(&admission), [("b", 2)]);
}

#[test]
fn roles_can_be_swapped_in_one_transaction_beside_a_bad_document() {
    let mut admission = Admission::default();
    admission.judge(&candidates([
        ("a", 1, document("a", "m", true)),
        ("b", 2, document("b", "n", false)),
    ]));
    admission.judge(&candidates([
        ("a", 3, document("a", "n", false)),
        ("b", 3, document("b", "m", true)),
        ("c", 4, document("c", "m", false)),
    ]));
    assert_eq!(serving(&admission), [("a", 3), ("b", 3)]);
    assert_eq!(admission.verdicts()[&id("c")].state, PolicyState::Rejected);
    assert!(!admission.verdicts()[&id("c")].errors.is_empty());
    assert!(admission.verdicts()[&id("a")].errors.is_empty());
}

#[test]
fn a_restart_comes_to_the_same_verdicts_though_revisions_alone_would_say_otherwise() {
    let mut first = Admission::default();
    first.judge(&candidates([
        ("a", 1, document("a", "m", false)),
        ("b", 2, document("b", "m", false)),
    ]));
    let now = candidates([("a", 3, document("a", "m", true)), ("b", 2, document("b", "m", false))]);
    first.judge(&now);

    let statuses = recorded(first.verdicts());
    assert!(Admission::wanted(&now, &statuses).is_empty());
    let mut second = Admission::default();
    second.recover(&now, &statuses, &BTreeMap::new());
    second.judge(&now);
    assert_eq!(serving(&second), serving(&first));
    assert_eq!(second.verdicts(), first.verdicts());
}

#[test]
fn a_restart_takes_the_last_good_document_of_a_bad_key_from_history() {
    let mut first = Admission::default();
    let good = candidates([("a", 1, document("a", "m", false))]);
    first.judge(&good);
    let now = candidates([("a", 2, bad())]);
    first.judge(&now);

    let statuses = recorded(first.verdicts());
    assert_eq!(
        Admission::wanted(&now, &statuses),
        [Wanted {
            id: id("a"),
            revision: 1
        }]
    );
    let mut second = Admission::default();
    let past = good.into_iter().map(|(id, candidate)| (id, Some(candidate))).collect();
    second.recover(&now, &statuses, &past);
    second.judge(&now);
    assert_eq!(second.verdicts(), first.verdicts());
    assert_eq!(serving(&second), [("a", 1)]);
}

#[test]
fn a_last_good_document_that_was_compacted_away_is_reported_until_a_good_one_comes() {
    let mut first = Admission::default();
    first.judge(&candidates([("a", 1, document("a", "m", false))]));
    let now = candidates([("a", 2, bad())]);
    first.judge(&now);

    let mut second = Admission::default();
    second.recover(&now, &recorded(first.verdicts()), &BTreeMap::from([(id("a"), None)]));
    second.judge(&now);
    let verdict = &second.verdicts()[&id("a")];
    assert_eq!((verdict.state, verdict.serving_revision), (PolicyState::Rejected, None));
    assert!(verdict.errors.last().unwrap().message.contains("revision 1"));

    second.judge(&candidates([("a", 3, document("a", "m", false))]));
    second.judge(&candidates([("a", 4, bad())]));
    assert_eq!(serving(&second), [("a", 3)]);
    assert!(
        second.verdicts()[&id("a")]
            .errors
            .iter()
            .all(|error| !error.message.contains("history"))
    );
}

/// `count` valid policies of `versions` versions each, all of one transaction.
fn many(count: usize, versions: usize) -> BTreeMap<PolicyId, Candidate> {
    let document = |n: usize| {
        let versions: Vec<_> = (0..versions)
            .map(|v| json!({"version": format!("{v:0>63}"), "weight": if v == 0 { 101 - versions } else { 1 }}))
            .collect();
        let name = format!("p{n:0>5}");
        let document = json!({
            "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": name},
            "spec": {"model": name, "versions": versions},
        });
        let json = document.to_string().into_bytes().into();
        (id(&name), Candidate { revision: 1, json })
    };
    (0..count).map(document).collect()
}

/// Admits all of `fitting`, and then not one more.
fn refuses_one_more(mut fitting: BTreeMap<PolicyId, Candidate>, word: &str) {
    let mut admission = Admission::default();
    admission.judge(&fitting);
    assert!(admission.verdicts().values().all(|v| v.state == PolicyState::Accepted));
    let count = fitting.len();
    let (one, mut candidate) = many(count + 1, 64).pop_last().unwrap();
    candidate.revision = 2;
    fitting.insert(one.clone(), candidate);
    admission.judge(&fitting);
    let rejected: Vec<_> = admission
        .verdicts()
        .iter()
        .filter(|(_, v)| v.state == PolicyState::Rejected)
        .collect();
    assert_eq!(rejected.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [&one]);
    assert!(rejected[0].1.errors[0].message.contains(word), "{rejected:?}");
    assert_eq!(admission.in_force().len(), count);
}

#[test]
fn more_documents_than_the_filter_takes_are_not_admitted() {
    refuses_one_more(many(MAX_DOCUMENTS, 1), &format!("at most {MAX_DOCUMENTS}"));
}

#[test]
fn documents_longer_than_the_filter_takes_are_not_admitted() {
    let mut admission = Admission::default();
    admission.judge(&many(1, 64));
    let length = admission.in_force().values().next().unwrap().bytes;
    let fitting = (MAX_FILTER_CONFIG_BYTES - ENVELOPE_BYTES) / (length + 1);
    assert!(fitting < MAX_DOCUMENTS);
    refuses_one_more(many(fitting, 64), "bytes");
}

#[test]
fn a_configuration_at_its_longest_still_fits_when_every_version_is_unready() {
    let mut admission = Admission::default();
    admission.judge(&many(1, 64));
    let length = admission.in_force().values().next().unwrap().bytes;
    let mut admission = Admission::default();
    admission.judge(&many((MAX_FILTER_CONFIG_BYTES - ENVELOPE_BYTES) / (length + 1), 64));
    let documents: Vec<Document> = admission
        .in_force()
        .values()
        .map(|policy| Document::clone(&policy.document))
        .collect();
    let unready = documents.iter().flat_map(|document| match document.spec() {
        Spec::Routing(routing) => {
            let versions = routing.versions.iter();
            versions
                .map(|version| format!("{}/{}", routing.model, version.version))
                .collect()
        }
        _ => Vec::new(),
    });
    let state = MeshState {
        unready: unready.collect(),
        saturated: Vec::new(),
    };
    let config = FilterConfig {
        sync_cluster: None,
        revision: "0".repeat(32),
        documents,
        state,
    };
    let json = serde_json::to_vec(&config).unwrap();
    assert!(
        json.len() > MAX_FILTER_CONFIG_BYTES - 2 * length,
        "{} bytes",
        json.len()
    );
    assert_eq!(FilterConfig::parse(&json).unwrap().state, config.state);
}

fn classes_and_a_policy_that_asks_for_one() -> BTreeMap<PolicyId, Candidate> {
    let mesh = json!({
        "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"gpu_classes": [{"name": "hopper", "select": {"archs": ["hopper"]}}]},
    });
    let routing = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
        "spec": {"model": "m", "gpu": {"class": "hopper"}, "versions": [{"version": "v1", "weight": 100}]},
    });
    let candidate = |revision, document: serde_json::Value| Candidate {
        revision,
        json: document.to_string().into_bytes().into(),
    };
    BTreeMap::from([
        (PolicyId::new("MeshPolicy", "mesh"), candidate(1, mesh)),
        (id("m"), candidate(2, routing)),
    ])
}

#[test]
fn what_others_refer_to_stays_in_force_when_it_is_deleted_until_they_go_too() {
    let (mut candidates, mesh) = (
        classes_and_a_policy_that_asks_for_one(),
        PolicyId::new("MeshPolicy", "mesh"),
    );
    let mut admission = Admission::default();
    admission.judge(&candidates);
    assert_eq!(admission.in_force().len(), 2);
    let document = candidates.remove(&mesh).unwrap();
    admission.judge(&candidates);
    assert_eq!(admission.in_force().len(), 2);
    let verdict = &admission.verdicts()[&mesh];
    assert_eq!(
        (verdict.state, verdict.serving_revision),
        (PolicyState::Rejected, Some(1))
    );
    assert!(verdict.errors[0].message.contains("was deleted"), "{verdict:?}");

    // Another process knows it from the verdict, and takes it from etcd's history.
    let recorded = |(id, status): (&PolicyId, &PolicyStatus)| {
        let status = Some(status.clone());
        (id.clone(), RecordedStatus { modified: 3, status })
    };
    let statuses = admission.verdicts().iter().map(recorded).collect();
    let wanted = Admission::wanted(&candidates, &statuses);
    assert_eq!(
        wanted,
        [Wanted {
            id: mesh.clone(),
            revision: 1
        }]
    );
    let mut next = Admission::default();
    next.recover(
        &candidates,
        &statuses,
        &BTreeMap::from([(mesh.clone(), Some(document))]),
    );
    next.judge(&candidates);
    assert_eq!(next.in_force(), admission.in_force());
    assert_eq!(next.verdicts(), admission.verdicts());

    candidates.clear();
    admission.judge(&candidates);
    assert!(admission.in_force().is_empty() && admission.verdicts().is_empty());
}

#[test]
fn what_was_deleted_goes_once_nobody_refers_to_it() {
    let (mut candidates, mesh) = (
        classes_and_a_policy_that_asks_for_one(),
        PolicyId::new("MeshPolicy", "mesh"),
    );
    let mut admission = Admission::default();
    admission.judge(&candidates);
    candidates.remove(&mesh);
    admission.judge(&candidates);
    let other = Candidate {
        revision: 4,
        json: document("m", "m", false),
    };
    candidates.insert(id("m"), other);
    admission.judge(&candidates);
    assert_eq!(admission.in_force().keys().collect::<Vec<_>>(), [&id("m")]);
    assert_eq!(admission.verdicts().len(), 1);
}
