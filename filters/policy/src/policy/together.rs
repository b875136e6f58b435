//! What documents say together, and where they contradict each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use crate::config::{
    ANYONE, AdmissionPolicy, CallerGroup, Capture, DecisionRecord, Document, GpuClass, GpuRequest, HeaderCondition,
    HeaderLimits, HeaderRule, InternalHeaders, MAX_PATTERNS, MAX_POOLS, MAX_RATE_LIMITS, MeshPolicy, MethodLists,
    PoolMatch, PoolPolicy, Protocols, RateLimitPolicy, RefusalOptions, ReportOnly, RoutingPolicy, Runtime, ScalePolicy,
    Spec, TimeoutPolicy, ValidationPolicy, Violation, Violations,
};

#[cfg(test)]
mod tests;

/// Documents that contradict each other in nothing, by what they are about.
#[derive(Default)]
pub(crate) struct Together<'a> {
    pub(crate) limits: Section<'a, HeaderLimits>,
    pub(crate) protocols: Section<'a, Protocols>,
    pub(crate) methods: Section<'a, MethodLists>,
    pub(crate) internal_headers: Section<'a, InternalHeaders>,
    pub(crate) refusal: Section<'a, RefusalOptions>,
    pub(crate) report_only: Section<'a, ReportOnly>,
    /// The rules of all ValidationPolicies, in the order of documents and within each as declared.
    pub(crate) header_rules: Vec<DeclaredRule<'a>>,
    pub(crate) callers: Section<'a, Vec<CallerGroup>>,
    pub(crate) gpu_classes: Section<'a, Vec<GpuClass>>,
    pub(crate) decision_record: Section<'a, DecisionRecord>,
    pub(crate) capture: Section<'a, Capture>,
    pub(crate) runtime: Section<'a, Runtime>,
    /// In the order of documents.
    pub(crate) pools: Vec<DeclaredPool<'a>>,
    /// In the order of documents.
    pub(crate) rate_limits: Vec<DeclaredLimits<'a>>,
    /// By model.
    pub(crate) admissions: BTreeMap<&'a str, (&'a Document, &'a AdmissionPolicy)>,
    /// By model.
    pub(crate) timeouts: BTreeMap<&'a str, (&'a Document, &'a TimeoutPolicy)>,
    /// By model.
    pub(crate) models: BTreeMap<&'a str, DeclaredModel<'a>>,
    seen: HashSet<(&'static str, &'a str)>,
    default: Option<&'a Document>,
    /// By model; the one of all models has none.
    weights: BTreeMap<Option<&'a str>, &'a Document>,
    /// By model and version; the one of all versions has none.
    scales: BTreeMap<(&'a str, Option<&'a str>), &'a Document>,
    violations: Violations,
}

/// A rule and the ValidationPolicy it stands in.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredRule<'a> {
    pub(crate) document: &'a Document,
    /// Where in the document.
    pub(crate) index: usize,
    pub(crate) rule: &'a HeaderRule,
}

/// The routing of a model and the RoutingPolicy that says it.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredModel<'a> {
    pub(crate) document: &'a Document,
    pub(crate) policy: &'a RoutingPolicy,
}

/// A pool and the PoolPolicy that says it.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredPool<'a> {
    pub(crate) document: &'a Document,
    pub(crate) policy: &'a PoolPolicy,
}

/// Limits and the RateLimitPolicy that says them.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredLimits<'a> {
    pub(crate) document: &'a Document,
    pub(crate) policy: &'a RateLimitPolicy,
}

impl DeclaredPool<'_> {
    /// Which requests it takes; nothing for the default pool.
    pub(crate) fn match_(&self) -> Option<&PoolMatch> {
        self.policy.match_.as_ref()
    }
}

/// What at most one document says.
pub(crate) struct Section<'a, T>(Option<(&'a Document, &'a T)>);

impl<T> Default for Section<'_, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T> Section<'a, T> {
    /// What the documents say, if one does.
    pub(crate) fn get(&self) -> Option<&'a T> {
        self.0.map(|(_, section)| section)
    }
}

impl<'a> Together<'a> {
    /// Puts documents together. Where two contradict, the later one is blamed; where one refers to what no other declares,
    /// the one that refers.
    ///
    /// # Errors
    /// Every contradiction, its path beginning with `Kind/name: `.
    pub(crate) fn of(documents: impl IntoIterator<Item = &'a Document>) -> Result<Self, Vec<Violation>> {
        let mut together = Self::default();
        for document in documents {
            together.add(document);
        }
        together.check_callers();
        together.check_gpu_classes();
        together.check_patterns();
        together.check_rate_limits();
        let violations = std::mem::take(&mut together.violations);
        violations.finish(Some(together))
    }

    fn add(&mut self, document: &'a Document) {
        if !self.seen.insert((document.kind().as_str(), document.name())) {
            let message = format!("there is already a {}", document.id());
            blame(&mut self.violations, document, "metadata.name", message);
            return;
        }
        match document.spec() {
            Spec::Routing(policy) => self.add_routing(document, policy),
            Spec::Validation(policy) => self.add_validation(document, policy),
            Spec::Mesh(policy) => self.add_mesh(document, policy),
            Spec::Pool(policy) => self.add_pool(DeclaredPool { document, policy }),
            Spec::Weights(policy) => self.add_weights(document, policy.model.as_deref()),
            Spec::RateLimit(policy) => self.add_rate_limits(DeclaredLimits { document, policy }),
            Spec::Admission(policy) => self.add_admission(document, policy),
            Spec::Scale(policy) => self.add_scale(document, policy),
            Spec::Timeouts(policy) => self.add_timeouts(document, policy),
        }
    }

    fn add_scale(&mut self, document: &'a Document, policy: &'a ScalePolicy) {
        let (model, version) = (policy.model.as_str(), policy.version.as_deref());
        match self.scales.entry((model, version)) {
            Entry::Vacant(entry) => drop(entry.insert(document)),
            Entry::Occupied(first) => {
                let first = first.get().id();
                let (path, message) = match version {
                    Some(version) => (
                        "spec.version",
                        format!("{model}/{version} is already scaled by {first}"),
                    ),
                    None => (
                        "spec.model",
                        format!("all versions of {model} are already scaled by {first}"),
                    ),
                };
                blame(&mut self.violations, document, path, message);
            }
        }
    }

    fn add_weights(&mut self, document: &'a Document, model: Option<&'a str>) {
        match self.weights.entry(model) {
            Entry::Vacant(entry) => drop(entry.insert(document)),
            Entry::Occupied(first) => {
                let first = first.get().id();
                let message = match model {
                    Some(model) => format!("model {model} is already weighed by {first}"),
                    None => format!("is absent, as in {first}, and only one may be for all models"),
                };
                blame(&mut self.violations, document, "spec.model", message);
            }
        }
    }

    fn add_routing(&mut self, document: &'a Document, policy: &'a RoutingPolicy) {
        if policy.default {
            match self.default {
                None => self.default = Some(document),
                Some(first) => {
                    let message = format!("{} is already the default, and there may be only one", first.id());
                    blame(&mut self.violations, document, "spec.default", message);
                }
            }
        }
        match self.models.entry(&policy.model) {
            Entry::Vacant(entry) => {
                entry.insert(DeclaredModel { document, policy });
            }
            Entry::Occupied(first) => {
                let first = first.get().document.id();
                let message = format!("model {} is already routed by {first}", policy.model);
                blame(&mut self.violations, document, "spec.model", message);
            }
        }
    }

    fn add_validation(&mut self, document: &'a Document, policy: &'a ValidationPolicy) {
        let out = &mut self.violations;
        let ValidationPolicy {
            limits,
            protocols,
            methods,
            internal_headers,
            refusal,
            report_only,
            rules,
        } = policy;
        only(&mut self.limits, document, "limits", limits.as_ref(), out);
        only(&mut self.protocols, document, "protocols", protocols.as_ref(), out);
        only(&mut self.methods, document, "methods", methods.as_ref(), out);
        let internal = internal_headers.as_ref();
        only(&mut self.internal_headers, document, "internal_headers", internal, out);
        only(&mut self.refusal, document, "refusal", refusal.as_ref(), out);
        only(
            &mut self.report_only,
            document,
            "report_only",
            report_only.as_ref(),
            out,
        );
        let declared = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| DeclaredRule { document, index, rule });
        self.header_rules.extend(declared);
    }

    fn add_mesh(&mut self, document: &'a Document, policy: &'a MeshPolicy) {
        let out = &mut self.violations;
        let MeshPolicy {
            callers,
            gpu_classes,
            decision_record,
            capture,
            runtime,
        } = policy;
        only(&mut self.callers, document, "callers", callers.as_ref(), out);
        only(
            &mut self.gpu_classes,
            document,
            "gpu_classes",
            gpu_classes.as_ref(),
            out,
        );
        let record = decision_record.as_ref();
        only(&mut self.decision_record, document, "decision_record", record, out);
        only(&mut self.capture, document, "capture", capture.as_ref(), out);
        only(&mut self.runtime, document, "runtime", runtime.as_ref(), out);
    }

    /// Which of two pools takes a request must not depend on their order.
    fn add_pool(&mut self, pool: DeclaredPool<'a>) {
        let out = &mut self.violations;
        if self.pools.len() == MAX_POOLS {
            let message = format!("there are {MAX_POOLS} pools already, and may be no more");
            blame(out, pool.document, "metadata.name", message);
            return;
        }
        if let Some(takes) = pool.match_() {
            let contradicts = |other: &&DeclaredPool<'_>| other.match_().is_some_and(|other| other.contradicts(takes));
            if let Some(other) = self.pools.iter().find(contradicts) {
                let message = format!(
                    "would take requests that {} takes, and says as much about them: let them differ in what both name, \
                     or let one name more (models, model_types, sla, priorities)",
                    other.document.id()
                );
                blame(out, pool.document, "spec.match", message);
                return;
            }
        }
        self.pools.push(pool);
    }

    fn add_rate_limits(&mut self, limits: DeclaredLimits<'a>) {
        if self.rate_limits.len() == MAX_RATE_LIMITS {
            let message = format!("there are {MAX_RATE_LIMITS} RateLimitPolicies already, and may be no more");
            blame(&mut self.violations, limits.document, "metadata.name", message);
            return;
        }
        self.rate_limits.push(limits);
    }

    fn add_admission(&mut self, document: &'a Document, policy: &'a AdmissionPolicy) {
        match self.admissions.entry(&policy.model) {
            Entry::Vacant(entry) => drop(entry.insert((document, policy))),
            Entry::Occupied(first) => {
                let first = first.get().0.id();
                let message = format!("{first} already says what requests of model {} cost", policy.model);
                blame(&mut self.violations, document, "spec.model", message);
            }
        }
    }

    fn add_timeouts(&mut self, document: &'a Document, policy: &'a TimeoutPolicy) {
        match self.timeouts.entry(&policy.model) {
            Entry::Vacant(entry) => drop(entry.insert((document, policy))),
            Entry::Occupied(first) => {
                let (first, model) = (first.get().0.id(), &policy.model);
                let message = format!("{first} already says how long requests of model {model} may take");
                blame(&mut self.violations, document, "spec.model", message);
            }
        }
    }

    /// A limit on a model that nobody routes would never apply, and nobody would notice. Where nothing is routed, models
    /// are what requests call them.
    fn check_rate_limits(&mut self) {
        if self.models.is_empty() {
            return;
        }
        let out = &mut self.violations;
        let admissions = self.admissions.iter().map(|(model, (document, _))| (model, document));
        let timeouts = self.timeouts.iter().map(|(model, (document, _))| (model, document));
        for (model, document) in admissions.chain(timeouts) {
            if !self.models.contains_key(model) {
                let message = format!("no RoutingPolicy routes the model `{model}`, so the policy would never apply");
                blame(out, document, "spec.model", message);
            }
        }
        for DeclaredLimits { document, policy } in &self.rate_limits {
            let Some(takes) = &policy.match_ else { continue };
            for (index, model) in takes.models.iter().enumerate() {
                if !self.models.contains_key(model.as_str()) {
                    let message =
                        format!("no RoutingPolicy routes the model `{model}`, so the limit would never apply");
                    blame(out, document, &format!("spec.match.models[{index}]"), message);
                }
            }
            let meant = |model: &str| takes.models.is_empty() || takes.models.iter().any(|name| name == model);
            let routed = self.models.iter().filter(|(model, _)| meant(model));
            let known: HashSet<&str> = routed
                .flat_map(|(_, declared)| &declared.policy.versions)
                .map(|version| version.version.as_str())
                .collect();
            for (index, version) in takes.versions.iter().enumerate() {
                if !known.contains(version.as_str()) {
                    let message =
                        format!("no model that is meant has the version `{version}`, so the limit would never apply");
                    blame(out, document, &format!("spec.match.versions[{index}]"), message);
                }
            }
        }
    }

    fn check_callers(&mut self) {
        let groups = self.callers.get().into_iter().flatten();
        let known: HashSet<&str> = groups.map(|group| group.name.as_str()).chain([ANYONE]).collect();
        let out = &mut self.violations;
        let mut check = |document: &Document, path: &dyn Fn(usize) -> String, names: &[String]| {
            for (index, name) in names.iter().enumerate() {
                if !known.contains(name.as_str()) {
                    let message = format!("no MeshPolicy declares the callers `{name}`");
                    blame(out, document, &path(index), message);
                }
            }
        };
        for declared in &self.header_rules {
            let path = |index| format!("spec.rules[{}].callers[{index}]", declared.index);
            check(declared.document, &path, &declared.rule.callers);
        }
        for DeclaredModel { document, policy } in self.models.values() {
            let path = |index| format!("spec.canary_override[{index}]");
            check(document, &path, &policy.canary_override);
        }
    }

    fn check_gpu_classes(&mut self) {
        let classes = self.gpu_classes.get().into_iter().flatten();
        let known: HashSet<&str> = classes.map(|class| class.name.as_str()).collect();
        let out = &mut self.violations;
        let mut check = |document: &Document, path: &dyn Fn() -> String, gpu: Option<&GpuRequest>| {
            if let Some(gpu) = gpu
                && !known.contains(gpu.class.as_str())
            {
                let message = format!("no MeshPolicy declares the GPU class `{}`", gpu.class);
                blame(out, document, &path(), message);
            }
        };
        for DeclaredModel { document, policy } in self.models.values() {
            check(document, &|| "spec.gpu.class".to_owned(), policy.gpu.as_ref());
            for (index, rule) in policy.rules.iter().enumerate() {
                let path = || format!("spec.rules[{index}].gpu.class");
                check(document, &path, rule.gpu.as_ref());
            }
        }
    }

    /// A filter holds them all compiled, in every worker thread of its proxy.
    fn check_patterns(&mut self) {
        let of_rule = |declared: &DeclaredRule<'a>| {
            let pattern = declared.rule.pattern.as_ref();
            pattern.map(|pattern| (declared.document, pattern.as_str()))
        };
        let of_model = |declared: &DeclaredModel<'a>| {
            let document = declared.document;
            let headers = declared.policy.rules.iter().flat_map(|rule| &rule.match_.headers);
            headers.filter_map(move |header| match &header.condition {
                HeaderCondition::Pattern(pattern) => Some((document, pattern.as_str())),
                _ => None,
            })
        };
        let of_rules = self.header_rules.iter().filter_map(of_rule);
        let mut seen = HashSet::new();
        for (document, pattern) in of_rules.chain(self.models.values().flat_map(of_model)) {
            if seen.insert(pattern) && seen.len() > MAX_PATTERNS {
                let message = format!("the documents have more than {MAX_PATTERNS} different patterns together");
                blame(&mut self.violations, document, "spec.rules", message);
                return;
            }
        }
    }
}

/// Takes a section, or blames the document that has it a second time.
fn only<'a, T>(
    section: &mut Section<'a, T>,
    document: &'a Document,
    name: &str,
    given: Option<&'a T>,
    out: &mut Violations,
) {
    let Some(given) = given else { return };
    match section.0 {
        None => section.0 = Some((document, given)),
        Some((first, _)) => {
            let message = format!("is already in {}, and may be in one document only", first.id());
            blame(out, document, &format!("spec.{name}"), message);
        }
    }
}

fn blame(out: &mut Violations, document: &Document, path: &str, message: String) {
    out.add(format!("{}: {path}", document.id()), message);
}
