//! One request.

use std::rc::Rc;

use kilocard_policy::{Decision, RequestView, Stages, Verdict, headers};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::abi::{self, HostError, Level};
use crate::header_map::{self, MalformedHeaderMap};
use crate::reply;
use crate::root::Active;

/// Holds the policy that was in force when the request began.
pub(crate) struct Stream {
    active: Option<Rc<Active>>,
}

impl Stream {
    pub(crate) fn new(active: Option<Rc<Active>>) -> Self {
        Self { active }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(active) = &self.active else {
            abi::log(Level::Error, "a request came before a configuration");
            reply::fail();
            return Action::Pause;
        };
        match active.process() {
            Ok(action) => action,
            Err(failure) => {
                active.counters.count_host_error();
                abi::log(Level::Error, &format!("a request failed: {failure}"));
                reply::fail();
                Action::Pause
            }
        }
    }
}

impl Active {
    /// Decides, and does what was decided.
    fn process(&self) -> Result<Action, String> {
        let map = abi::request_headers().map_err(|error| HostError::to_string(&error))?;
        let pairs = header_map::read(&map).map_err(|error| MalformedHeaderMap::to_string(&error))?;
        let request = RequestView::new(&pairs);
        let random = self.random.borrow_mut().u64(..);
        let decision = self.policy.decide_stages(self.stages, &request, random);
        let action = self
            .act(&decision, &request)
            .map_err(|error| HostError::to_string(&error))?;
        self.counters.count(&decision);
        Ok(action)
    }

    fn act(&self, decision: &Decision<'_>, request: &RequestView<'_>) -> Result<Action, HostError> {
        let route = match &decision.verdict {
            Verdict::Refuse(refusal) => {
                reply::refuse(refusal)?;
                return Ok(Action::Pause);
            }
            Verdict::Pass => None,
            Verdict::Route(route) => Some(route),
        };
        for (name, _) in request.headers().iter().filter(|(name, _)| self.strips(name)) {
            abi::remove_request_header(name)?;
        }
        if let Some(route) = route {
            // Envoy drops its cached route when a header changes, and so finds the one we mean.
            abi::set_request_header(headers::ROUTE, route.route_key)?;
        }
        Ok(Action::Continue)
    }

    /// Validation is the first stage of a chain: all that is named like ours before it is a forgery. A filter that only
    /// routes may come after others of ours, so it replaces nothing but its own header.
    fn strips(&self, name: &[u8]) -> bool {
        if self.stages.contains(Stages::VALIDATION) {
            headers::is_internal(name)
        } else {
            name == headers::ROUTE.as_bytes()
        }
    }
}
