//! One plugin in one VM: takes the configuration and makes a stream context for every request.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use kilocard_policy::config::{FilterConfig, Violation};
use kilocard_policy::{Policy, Stages};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::abi::{self, Level};
use crate::counters::Counters;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::stream::Stream;

/// The root context of the module `name`, which runs `stages`. Without any stage it refuses every configuration.
pub fn root(name: &'static str, stages: Stages) -> Box<dyn RootContext> {
    Box::new(Root {
        name,
        stages,
        active: None,
    })
}

/// What a stream needs; it keeps what it began with, whatever is configured meanwhile.
pub(crate) struct Active {
    pub(crate) policy: Policy,
    pub(crate) stages: Stages,
    pub(crate) counters: Counters,
    pub(crate) limits: Limits,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) log_limit: RefCell<LogLimit>,
}

struct Root {
    name: &'static str,
    stages: Stages,
    active: Option<Rc<Active>>,
}

impl Root {
    fn configure(&self) -> Result<Active, Vec<String>> {
        if self.stages.is_empty() {
            let message = format!(
                "this release has no {} stage; remove the filter from the chain",
                self.name
            );
            return Err(vec![message]);
        }
        let json = abi::plugin_configuration().map_err(|error| vec![error.to_string()])?;
        let lines = |violations: Vec<Violation>| violations.iter().map(Violation::to_string).collect::<Vec<_>>();
        let config = FilterConfig::parse(&json).map_err(lines)?;
        let policy = Policy::of(&config).map_err(lines)?;
        let seed = seed();
        Ok(Active {
            limits: Limits::new(seed).map_err(|error| vec![error.to_string()])?,
            counters: Counters::define(&policy, self.stages),
            policy,
            stages: self.stages,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            log_limit: RefCell::default(),
        })
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match self.configure() {
            Ok(active) => {
                let policy = &active.policy;
                let revision = if policy.revision().is_empty() {
                    "(none)"
                } else {
                    policy.revision()
                };
                let models = policy.models().len();
                abi::log(
                    Level::Info,
                    &format!("{}: revision {revision} in force, {models} models", self.name),
                );
                self.active = Some(Rc::new(active));
                true
            }
            Err(lines) => {
                for line in lines {
                    abi::log(Level::Error, &format!("{}: configuration refused: {line}", self.name));
                }
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.active.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Unlike in every VM and at every configuration: otherwise all workers of all Envoys would draw the same versions in
/// the same order. The keys of `RandomState` come from WASI's `random_get`; the time is there should a host's be weak.
fn seed() -> u64 {
    RandomState::new().hash_one(abi::current_time_ns().unwrap_or_default())
}
