//! The pools of connections to a model version: one cluster for each declared pool that may take requests of the model,
//! besides the version's own. All of them share one load assignment.
//!
//! The version's own cluster takes what no declared pool does. Within it, what is less urgent than P0 is apart already, by
//! Envoy's routing priority `HIGH`: the name means nothing more there than other connections and other breakers. See
//! `docs/adr/0015-pools-by-cluster.md`.

use crate::model::Policies;
use crate::snapshot::placement::route_key;
use kilocard_policy::config::{BULK_POOL, DEFAULT_POOL, ModelType, PoolPolicy, Spec};
use kilocard_registry::worker::ServedModel;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pools in force, and what they go by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pools {
    /// By name, without the default one.
    declared: BTreeMap<String, PoolPolicy>,
    default: PoolPolicy,
    types: BTreeMap<String, ModelType>,
}

/// A declared pool of one version.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// As in `x-kilocard-pool`.
    pub name: &'a str,
    /// What it says.
    pub policy: &'a PoolPolicy,
}

impl Pools {
    /// Those that the policies say.
    pub fn of(policies: &Policies) -> Self {
        let mut pools = Self::default();
        for policy in policies.values() {
            let document = &policy.document;
            match document.spec() {
                Spec::Pool(pool) if document.name() == DEFAULT_POOL => pools.default = pool.clone(),
                Spec::Pool(pool) => drop(pools.declared.insert(document.name().to_owned(), pool.clone())),
                Spec::Routing(routing) => {
                    let of_type = routing.model_type.map(|of| (routing.model.clone(), of));
                    pools.types.extend(of_type);
                }
                _ => {}
            }
        }
        pools
    }

    /// The pool of what no other takes.
    pub fn default_pool(&self) -> &PoolPolicy {
        &self.default
    }

    /// The declared pools that may take requests of a model, by name.
    pub fn of_model<'a>(&'a self, model: &str) -> impl Iterator<Item = Pool<'a>> + use<'a> {
        let (model, of_type) = (model.to_owned(), self.types.get(model).copied());
        let concerned = move |policy: &PoolPolicy| {
            let takes = policy.match_.as_ref();
            takes.is_some_and(|takes| takes.concerns(&model, of_type))
        };
        let declared = self.declared.iter();
        declared
            .filter(move |(_, policy)| concerned(policy))
            .map(|(name, policy)| Pool { name, policy })
    }

    /// The names of all pools of a model, as operators read them.
    pub fn names(&self, model: &str) -> Vec<String> {
        let built_in = [DEFAULT_POOL, BULK_POOL].map(str::to_owned);
        let declared = self.of_model(model).map(|pool| pool.name.to_owned());
        built_in.into_iter().chain(declared).collect()
    }
}

/// The cluster of a pool: `<model>/<version>/<pool>`.
pub fn cluster_name(served: &ServedModel, pool: &str) -> String {
    format!("{}/{pool}", route_key(served))
}

/// The pools of the policies last seen, which change seldom.
#[derive(Debug, Default)]
pub struct Known(Option<(Arc<Policies>, Arc<Pools>)>);

impl Known {
    /// Those of these policies.
    pub fn of(&mut self, policies: &Arc<Policies>) -> Arc<Pools> {
        let (last, pools) = match self.0.take() {
            Some((last, pools)) if Arc::ptr_eq(&last, policies) => (last, pools),
            Some((_, pools)) => {
                let new = Pools::of(policies);
                let pools = if *pools == new { pools } else { Arc::new(new) };
                (Arc::clone(policies), pools)
            }
            None => (Arc::clone(policies), Arc::new(Pools::of(policies))),
        };
        Arc::clone(&self.0.insert((last, pools)).1)
    }
}
