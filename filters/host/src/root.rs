//! One plugin in one VM: takes the configuration and makes a stream context for every request.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use kilocard_policy::config::{FilterConfig, LimitUnit, Violation};
use kilocard_policy::{Policy, Stages};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::abi::{self, Level};
use crate::counters::Counters;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::stream::Stream;
use crate::{deadlines, sync, waiting};

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
    /// The cluster of the control plane, if there is a channel to it.
    sync_cluster: Option<String>,

    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) log_limit: RefCell<LogLimit>,
}

impl Active {
    /// For how long requests may wait for memory.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.policy.longest_wait()
    }

    /// Whether anything is done that no request gives rise to.
    fn ticks(&self) -> bool {
        let limits = self.policy.rate_limits();
        self.sync_cluster.is_some()
            || self.policy.admits_by_memory()
            || self.times()
            || limits.iter().any(|table| table.counts(LimitUnit::GpuSeconds))
            || waiting::has_any()
    }

    /// Whether the time of any request is watched.
    fn times(&self) -> bool {
        self.stages.contains(Stages::TIMEOUTS) && self.policy.has_deadlines()
    }
}

thread_local! {
    static VM: Cell<u64> = const { Cell::new(0) };
}

/// Random, of this VM, whatever it is configured with: who reports, and who holds memory for its requests.
pub(crate) fn vm() -> u64 {
    if VM.get() == 0 {
        VM.set(seed().max(1));
    }
    VM.get()
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
            limits: Limits::new(seed, config.sync_cluster.is_some()).map_err(|error| vec![error.to_string()])?,
            sync_cluster: config.sync_cluster.filter(|_| self.stages.contains(Stages::LIMITS)),

            counters: Counters::define(&policy, self.stages),
            policy,
            stages: self.stages,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            log_limit: RefCell::default(),
        })
    }
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, size: usize) {
        if let Some(active) = &self.active {
            sync::answered(call, status, size, (&active.policy, active.limits.seed()));
        }
    }
}

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
                if active.ticks()
                    && let Err(error) = abi::set_tick_period(waiting::TICK)
                {
                    abi::log(Level::Error, &format!("{}: {error}", self.name));
                    return false;
                }
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

    fn on_tick(&mut self) {
        let Some(active) = &self.active else { return };
        if let Some(cluster) = &active.sync_cluster {
            sync::tick(cluster, active.limits.seed(), vm());
        }
        waiting::tick();
        // Also where no policy is left: what is under way keeps what it began with.
        if let Err(error) = deadlines::tick() {
            active.log(Level::Error, &format!("the timeouts: {error}"));
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.active.clone())))
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
