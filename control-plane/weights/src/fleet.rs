//! All endpoints of the mesh, over time.

use crate::card::Card;
use crate::endpoint::{Standing, Weighed};
use crate::locality::Locality;
use crate::params::Params;
use crate::pool::Pool;
use crate::spill::{Site, Split};
use kilocard_registry::report::WeightFactors;
use kilocard_registry::telemetry::Telemetry;
use kilocard_registry::worker::ServedModel;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is known of a worker now.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it computes on.
    pub card: Card<'a>,
    /// Its last load report.
    pub telemetry: Option<&'a Telemetry>,
    /// Where it is.
    pub locality: &'a Locality,
    /// What it serves: it is an endpoint of each of these pools.
    pub pools: &'a BTreeSet<ServedModel>,
}

/// All endpoints. Times are since any fixed moment and do not run backwards.
#[derive(Debug, Default)]
pub struct Fleet {
    params: Arc<Params>,
    pools: BTreeMap<ServedModel, Pool>,
    workers: BTreeMap<String, BTreeSet<ServedModel>>,
    /// Whether what was there at the beginning has been looked at.
    is_working: bool,
}

impl Fleet {
    /// An empty one. Whatever is observed before the first [`tick`](Self::tick) is taken to have been at work before, so
    /// that a control plane that starts anew does not slow the whole mesh down.
    pub fn new(params: Arc<Params>) -> Self {
        Self {
            params,
            ..Self::default()
        }
    }

    /// Takes other constants. What depends on a worker's report or card follows when it is next observed: observe all.
    pub fn set_params(&mut self, params: Arc<Params>) {
        for (served, pool) in &mut self.pools {
            pool.adopt(params.of(&served.model));
        }
        self.params = params;
    }

    /// The constants.
    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    /// Takes in what is known of a worker, whether it is new or not.
    pub fn observe(&mut self, worker: &str, subject: &Subject<'_>, at: Duration) {
        let before = self.workers.get(worker);
        if before != Some(subject.pools) {
            let left: Vec<ServedModel> = before.into_iter().flatten().cloned().collect();
            for served in left.iter().filter(|served| !subject.pools.contains(*served)) {
                self.leave(worker, served);
            }
            self.workers.insert(worker.to_owned(), subject.pools.clone());
        }
        for served in subject.pools {
            let pool = self.pools.entry(served.clone()).or_insert_with(|| {
                let founded = self.is_working.then_some(at);
                Pool::new(Arc::clone(self.params.of(&served.model)), founded)
            });
            pool.observe(worker, subject, at, self.is_working);
        }
    }

    /// A worker is gone.
    pub fn forget(&mut self, worker: &str) {
        for served in self.workers.remove(worker).into_iter().flatten() {
            self.leave(worker, &served);
        }
    }

    fn leave(&mut self, worker: &str, served: &ServedModel) {
        if let Some(pool) = self.pools.get_mut(served) {
            pool.forget(worker);
        }
    }

    /// Brings everything that is due up to `now`: what was observed or forgotten since, and what moves by itself. Gives the
    /// pools of which proxies have to be told something else.
    pub fn tick(&mut self, now: Duration) -> BTreeSet<ServedModel> {
        self.is_working = true;
        let due = self
            .pools
            .iter_mut()
            .filter(|(_, pool)| pool.due.is_some_and(|due| due <= now));
        let changed = due
            .filter_map(|(served, pool)| pool.evaluate(now).then(|| served.clone()))
            .collect();
        self.pools.retain(|_, pool| !pool.endpoints.is_empty());
        changed
    }

    /// When the next [`tick`](Self::tick) is due although nothing is observed; it may have passed.
    pub fn due(&self) -> Option<Duration> {
        self.pools.values().filter_map(|pool| pool.due).min()
    }

    /// What proxies are told of an endpoint, as of the last tick.
    pub fn weighed(&self, served: &ServedModel, worker: &str) -> Option<Weighed> {
        let endpoint = self.pools.get(served)?.endpoints.get(worker)?;
        Some(endpoint.weighed())
    }

    /// Whether the last report of an endpoint is older than it was promised to get.
    pub fn is_stale(&self, served: &ServedModel, worker: &str, now: Duration) -> bool {
        let pool = self.pools.get(served);
        let endpoint = pool.and_then(|pool| Some((pool.endpoints.get(worker)?, &pool.constants)));
        endpoint.is_some_and(|(endpoint, constants)| endpoint.staleness(now, constants) > 0.0)
    }

    /// Whether endpoints take requests, all of them.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        let endpoints = self.pools.values().flat_map(|pool| pool.endpoints.values());
        endpoints.map(|endpoint| endpoint.standing)
    }

    /// Why an endpoint weighs what it weighs.
    pub fn explain(&self, served: &ServedModel, worker: &str, now: Duration) -> Option<WeightFactors> {
        let pool = self.pools.get(served)?;
        Some(pool.endpoints.get(worker)?.explain(now, &pool.constants))
    }

    /// Where an endpoint is, at the level that counts for its model.
    pub fn locality(&self, served: &ServedModel, worker: &str) -> Option<&Arc<Locality>> {
        Some(&self.pools.get(served)?.endpoints.get(worker)?.locality)
    }

    /// The localities whose proxies send requests elsewhere, of all pools, as of the last tick.
    pub fn splits(&self) -> impl Iterator<Item = (&ServedModel, &Locality, &Split)> {
        let spills = self
            .pools
            .iter()
            .flat_map(|(served, pool)| pool.spills.iter().map(move |spill| (served, spill)));
        let splits = spills.map(|(served, (locality, spill))| (served, &**locality, spill.split()));
        splits.filter(|(_, _, split)| split.away > 0)
    }

    /// What a pool can bear and bears, by locality.
    pub fn sites(&self, served: &ServedModel, now: Duration) -> BTreeMap<Arc<Locality>, Site> {
        self.pools.get(served).map(|pool| pool.sites(now)).unwrap_or_default()
    }
}
