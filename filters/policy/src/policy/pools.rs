//! Which pool the requests of one model go to.

use super::together::DeclaredPool;
use crate::config::{BULK_POOL, ModelType, PoolMatch, Priority};

/// The pools that may take requests of one model, the one that says most about them first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools(Vec<Pool>);

#[derive(Clone, Debug)]
struct Pool {
    name: String,
    takes: PoolMatch,
}

impl Pools {
    pub(super) fn compile(declared: &[DeclaredPool<'_>], model: &str, model_type: Option<ModelType>) -> Self {
        let takes = declared.iter().filter_map(|pool| Some((pool, pool.match_()?)));
        let mut pools: Vec<_> = takes
            .filter(|(_, takes)| takes.concerns(model, model_type))
            .map(|(pool, takes)| Pool {
                name: pool.document.name().to_owned(),
                takes: takes.clone(),
            })
            .collect();
        // Of the same rank at most one takes a request: else the documents would contradict each other.
        pools.sort_by_key(|pool| std::cmp::Reverse(pool.takes.rank()));
        Self(pools)
    }

    /// The pool of a request; none is the default one.
    pub(crate) fn of(&self, priority: Priority, sla: Option<&[u8]>) -> Option<&str> {
        let declared = self.0.iter().find(|pool| pool.takes.takes(priority, sla));
        let built_in = || (priority != Priority::P0).then_some(BULK_POOL);
        declared.map(|pool| pool.name.as_str()).or_else(built_in)
    }
}
