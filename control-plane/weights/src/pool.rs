//! The endpoints of one model version: who is drained, when their weights are published, and what spills over.

use crate::capacity;
use crate::endpoint::{Endpoint, Standing};
use crate::fault::Code;
use crate::fleet::Subject;
use crate::locality::{Distance, Locality};
use crate::params::Constants;
use crate::spill::{Neighbour, Site, Spill};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The least time between two steps of what spills over.
const STEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) constants: Arc<Constants>,
    pub(crate) endpoints: BTreeMap<Arc<str>, Endpoint>,
    /// Of each locality, once there are several.
    pub(crate) spills: BTreeMap<Arc<Locality>, Spill>,
    /// When these last moved on.
    stepped: Option<Duration>,
    /// Who joins after this joins others that are at work: until then all come up together.
    founded_until: Option<Duration>,
    /// When weights were last published.
    published: Option<Duration>,
    /// Endpoints have come or gone, or their cards have come to be known.
    is_changed: bool,
    /// When to look again; `Some(ZERO)` for at once.
    pub(crate) due: Option<Duration>,
}

impl Pool {
    /// `founded` is when it began, of a pool that begins while the mesh is at work.
    pub(crate) fn new(constants: Arc<Constants>, founded: Option<Duration>) -> Self {
        Self {
            founded_until: founded.map(|at| at + constants.publication.settle),
            constants,
            endpoints: BTreeMap::new(),
            spills: BTreeMap::new(),
            stepped: None,
            published: None,
            is_changed: false,
            due: Some(Duration::ZERO),
        }
    }

    /// `working` is whether the mesh is known already: what is there when a control plane begins has been there before.
    pub(crate) fn observe(&mut self, worker: &str, subject: &Subject<'_>, at: Duration, working: bool) {
        self.due = Some(Duration::ZERO);
        if let Some(endpoint) = self.endpoints.get_mut(worker) {
            self.is_changed |= endpoint.observe(subject, &self.constants, at);
            return;
        }
        let joins = working && self.founded_until.is_none_or(|until| at > until);
        self.is_changed = true;
        let endpoint = Endpoint::new(subject, &self.constants, at, joins);
        self.endpoints.insert(worker.into(), endpoint);
    }

    pub(crate) fn forget(&mut self, worker: &str) {
        if self.endpoints.remove(worker).is_some() {
            self.is_changed = true;
            self.due = Some(Duration::ZERO);
        }
    }

    pub(crate) fn adopt(&mut self, constants: &Arc<Constants>) {
        if self.constants != *constants {
            self.constants = Arc::clone(constants);
            self.due = Some(Duration::ZERO);
        }
    }

    /// Moves on to `now`; whether what proxies are told has changed.
    ///
    /// Who comes, goes, is drained or comes back is published at once. Mere weights wait for their interval, see
    /// [`Publication`](crate::Publication); all of a pool are published together, since they go out in one message.
    pub(crate) fn evaluate(&mut self, now: Duration) -> bool {
        let constants = Arc::clone(&self.constants);
        let rates = self.endpoints.values().filter_map(|endpoint| endpoint.rate(&constants));
        let scale = capacity::scale(rates.map(|(rate, prior)| prior / rate).collect());
        for endpoint in self.endpoints.values_mut() {
            endpoint.advance(now, &constants);
            endpoint.calibrate(scale, &constants);
        }
        let is_urgent = self.judge(now) | std::mem::take(&mut self.is_changed);
        let publication = &constants.publication;
        let since = self.published.map(|at| now.saturating_sub(at));
        let serving = || self.endpoints.values().filter(|endpoint| !is_drained(endpoint));
        let differs = serving().any(|endpoint| endpoint.candidate(&constants) != endpoint.published);
        let is_off = serving().any(|endpoint| endpoint.is_off(&constants));
        let may = since.is_none_or(|since| since >= publication.interval);
        let settles = since.is_none_or(|since| since >= publication.settle);
        let spills = may && self.spill(now);
        let publishes = is_urgent || spills || (may && is_off) || (settles && differs);
        if publishes {
            for endpoint in self.endpoints.values_mut() {
                if !is_drained(endpoint) || endpoint.published == 0 {
                    endpoint.published = endpoint.candidate(&constants);
                }
            }
            self.published = Some(now);
        }
        self.due = self.next(now, differs && !publishes, is_off && !publishes);
        publishes && (is_urgent || spills || differs)
    }

    /// Moves on what spills over; whether proxies have to be told something else.
    fn spill(&mut self, now: Duration) -> bool {
        // A pool is looked at with each report of each of its workers.
        if self.stepped.is_some_and(|at| now < at + STEP) {
            return false;
        }
        self.stepped = Some(now);
        let sites = self.sites(now);
        let had = self.spills.len();
        self.spills.retain(|locality, _| sites.contains_key(locality));
        if sites.len() < 2 {
            self.spills.clear();
        }
        let mut is_changed = self.spills.len() != had;
        if sites.len() < 2 {
            return is_changed;
        }
        // Proxies that are nowhere see one group, of which nothing is divided.
        for (own, site) in sites.iter().filter(|(own, _)| !own.zone.is_empty()) {
            let others = sites.iter().filter(|(other, _)| *other != own);
            let others = others.map(|(other, site)| Neighbour {
                name: other,
                is_near: own.distance(other) < Distance::Far,
                site: *site,
            });
            let others: Vec<Neighbour<'_>> = others.collect();
            let spill = self.spills.entry(Arc::clone(own)).or_insert_with(|| Spill::new(now));
            is_changed |= spill.step(now, *site, &others, &self.constants.spillover);
        }
        is_changed
    }

    /// What its endpoints can bear and bear, by locality.
    pub(crate) fn sites(&self, now: Duration) -> BTreeMap<Arc<Locality>, Site> {
        let mut sums: BTreeMap<Arc<Locality>, (f64, f64, f64)> = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            let (capacity, known, used) = sums.entry(Arc::clone(&endpoint.locality)).or_default();
            if is_drained(endpoint) {
                continue;
            }
            *capacity += endpoint.smoothed;
            if let Some(busy) = endpoint.busy(now, &self.constants) {
                *known += endpoint.smoothed;
                *used += endpoint.smoothed * busy;
            }
        }
        let site = |(capacity, known, used): (f64, f64, f64)| Site {
            capacity,
            busy: (known > 0.0).then(|| used / known),
        };
        sums.into_iter()
            .map(|(locality, sums)| (locality, site(sums)))
            .collect()
    }

    fn next(&self, now: Duration, differs: bool, is_off: bool) -> Option<Duration> {
        let publication = &self.constants.publication;
        let after = |wait| self.published.map(|at| at + wait);
        let endpoints = self
            .endpoints
            .values()
            .filter_map(|endpoint| endpoint.due(now, &self.constants));
        let spills = self.spills.values().any(Spill::is_active);
        let waits = [
            spills.then(|| now + publication.interval),
            is_off.then(|| after(publication.interval)).flatten(),
            differs.then(|| after(publication.settle)).flatten(),
        ];
        endpoints.chain(waits.into_iter().flatten()).min()
    }

    /// Who is drained and who is held; whether that has changed.
    ///
    /// A fact drains, unless it would drain everybody: then the whole pool serves on, whatever that is worth. What is
    /// inferred drains, the gravest first and then by name, as long as no more than a part of the pool's capacity is
    /// drained: many that look ill at once are more likely to have one cause outside of them. Without memory, so that every
    /// replica judges alike.
    fn judge(&mut self, now: Duration) -> bool {
        let code = |endpoint: &Endpoint| endpoint.illness.as_ref().map(|illness| illness.fault.code);
        let whole: f64 = self.endpoints.values().map(|endpoint| endpoint.prior).sum();
        let is_fact = |endpoint: &Endpoint| code(endpoint).is_some_and(Code::is_fact);
        let all_broken = self.endpoints.values().all(is_fact);
        let broken = self.endpoints.values().filter(|endpoint| is_fact(endpoint));
        let mut drained: f64 = broken.map(|endpoint| endpoint.prior).sum();
        let mut inferred: Vec<(Code, Arc<str>)> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| !is_fact(endpoint))
            .filter_map(|(worker, endpoint)| Some((code(endpoint)?, Arc::clone(worker))))
            .collect();
        inferred.sort();
        let budget = whole * self.constants.faults.max_ejected;
        inferred.retain(|(_, worker)| {
            let prior = self.endpoints.get(worker).map_or(0.0, |endpoint| endpoint.prior);
            let fits = drained + prior <= budget;
            if fits {
                drained += prior;
            }
            fits
        });
        let mut is_changed = false;
        for (worker, endpoint) in &mut self.endpoints {
            let standing = match code(endpoint) {
                None => Standing::Serving,
                Some(code) if code.is_fact() && !all_broken => Standing::Drained(code),
                Some(code) if inferred.iter().any(|(_, ejected)| ejected == worker) => Standing::Drained(code),
                Some(code) => Standing::Held(code),
            };
            if standing == endpoint.standing {
                continue;
            }
            is_changed = true;
            let was_drained = is_drained(endpoint);
            endpoint.standing = standing;
            if was_drained && !is_drained(endpoint) {
                endpoint.come_back(now, &self.constants);
            }
        }
        is_changed
    }
}

fn is_drained(endpoint: &Endpoint) -> bool {
    matches!(endpoint.standing, Standing::Drained(_))
}
