//! One request.

use std::rc::Rc;
use std::time::Duration;

use kilocard_policy::capture::{self, Circumstances};
use kilocard_policy::limit::estimate::Usage;
use kilocard_policy::record::Record;
use kilocard_policy::{Decision, RequestView, Route, Stages, Verdict, headers};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::abi::{self, HostError, Level, ResponsePart};
use crate::connection::Connection;
use crate::header_map::{self, MalformedHeaderMap};
use crate::limits::{self, Applied};
use crate::root::Active;
use crate::{deadlines, holds, names, reply, shadow, waiting};

/// Holds the policy that was in force when the request began.
pub(crate) struct Stream {
    id: u32,
    active: Option<Rc<Active>>,
    /// For a header of the response.
    record: Option<String>,
}

impl Stream {
    pub(crate) fn new(id: u32, active: Option<Rc<Active>>) -> Self {
        Self {
            id,
            active,
            record: None,
        }
    }

    /// What the worker says that the request has used. One that says nothing is one that counts nothing.
    fn learn_usage(&self, part: ResponsePart) {
        if holds::has(self.id)
            && let Some(usage) = abi::of_response(part, headers::USAGE).ok().flatten()
        {
            holds::used(self.id, Usage::parse(&usage));
        }
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
        let may_wait = active.policy.admits_by_memory();
        match active.process(self.id, may_wait) {
            Ok(Done::Waits) => {
                waiting::add(self.id, Rc::clone(active));
                Action::Pause
            }
            Ok(Done::Forwarded(record)) => {
                self.record = record.filter(|_| active.policy.shows_record());
                Action::Continue
            }
            Ok(Done::Answered) => Action::Pause,
            Err(failure) => active.fail(&failure),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            holds::completed(self.id);
        }
        let waited = waiting::take_record(self.id);
        if let Some(record) = self.record.as_ref().or(waited.as_ref()) {
            // The request was served; that the client is not told how is no reason to take the answer away.
            let _ = abi::set_response_header(headers::DECISION, record);
        }
        // A server of unary calls has but one place for metadata, and often that is the headers.
        self.learn_usage(ResponsePart::Headers);
        deadlines::answered(self.id, ResponsePart::Headers);
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        holds::sent(self.id, size);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if end_of_stream {
            holds::completed(self.id);
        }
        if size > 0 {
            holds::received(self.id, size);
            deadlines::received(self.id);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        holds::completed(self.id);
        self.learn_usage(ResponsePart::Trailers);
        deadlines::answered(self.id, ResponsePart::Trailers);
        Action::Continue
    }

    fn on_log(&mut self) {
        waiting::forget(self.id);
        holds::end(self.id);
        deadlines::end(self.id);
    }
}

/// What became of a request.
pub(crate) enum Done {
    /// It goes on; with its record, if something was decided about it.
    Forwarded(Option<String>),
    Answered,
    /// It is to wait for memory; nothing has been done yet.
    Waits,
}

impl Active {
    /// Decides, and does what was decided.
    pub(crate) fn process(self: &Rc<Self>, stream: u32, may_wait: bool) -> Result<Done, String> {
        let map = abi::request_headers().map_err(|error| HostError::to_string(&error))?;
        let pairs = header_map::read(&map).map_err(|error| MalformedHeaderMap::to_string(&error))?;
        let request = RequestView::new(&pairs).from_peer(&Connection);
        let random = self.random.borrow_mut().u64(..);
        let mut decision = self.policy.decide_stages(self.stages, &request, random);
        if self.stages.contains(Stages::LIMITS) {
            let applied = limits::apply(self, &request, &mut decision, (stream, may_wait));
            if applied.map_err(|error| HostError::to_string(&error))? == Applied::Waits {
                return Ok(Done::Waits);
            }
        }
        let done = self
            .act(&decision, &request)
            .map_err(|error| HostError::to_string(&error))?;
        if matches!(done, Done::Forwarded(_)) && self.stages.contains(Stages::TIMEOUTS) {
            let begun = deadlines::begin(self, &request, &decision, stream);
            begun.map_err(|error| HostError::to_string(&error))?;
        }
        self.counters.count(&decision);
        self.report(&decision);
        if self.policy.captures(random) {
            let circumstances = Circumstances {
                stages: self.stages,
                random,
                time: abi::current_time_ns().ok().map(Duration::from_nanos),
            };
            let line = capture::write(&self.policy, &request, &decision, circumstances);
            leave(names::CAPTURE_STATE, &line);
        }
        Ok(done)
    }

    fn act(&self, decision: &Decision<'_>, request: &RequestView<'_>) -> Result<Done, HostError> {
        let record = Record::of(self.policy.revision(), decision);
        if let Verdict::Refuse(refusal) = &decision.verdict {
            let line = record.to_string();
            leave(names::DECISION_STATE, &line);
            reply::refuse(request, refusal, &record, &line)?;
            return Ok(Done::Answered);
        }
        for (name, _) in request.headers().iter().filter(|(name, _)| self.strips(name)) {
            abi::remove_request_header(name)?;
        }
        let Verdict::Route(route) = &decision.verdict else {
            return Ok(Done::Forwarded(None));
        };
        self.mark(route)?;
        let line = record.to_string();
        leave(names::DECISION_STATE, &line);
        Ok(Done::Forwarded(Some(line)))
    }

    /// Tells the rest of Envoy, and the worker, what was decided. What is not said costs nothing.
    fn mark(&self, route: &Route<'_>) -> Result<(), HostError> {
        // Envoy drops its cached route when a header changes, and so finds the one we mean.
        abi::set_request_header(headers::ROUTE, route.route_key)?;
        if let Some(pool) = route.pool {
            abi::set_request_header(headers::POOL, pool)?;
        }
        if let Some(wish) = &route.gpu {
            abi::set_request_header(headers::GPU_WISH, &wish.subset)?;
        }
        if let Some(tag) = &route.tag {
            abi::set_request_header(headers::TAG, tag)?;
        }
        if let Some(copy) = &route.shadow {
            let sent = shadow::admit(route, copy)?;
            self.counters.count_shadow(sent);
            if sent {
                abi::set_request_header(headers::SHADOW, copy.route_key)?;
            }
        }
        Ok(())
    }

    /// Validation is the first stage of a chain: all that is named like ours before it is a forgery. A filter that only
    /// routes may come after others of ours, so it removes nothing but what it sets itself.
    fn strips(&self, name: &[u8]) -> bool {
        if self.stages.contains(Stages::VALIDATION) {
            headers::is_internal(name)
        } else {
            self.stages.contains(Stages::ROUTING) && OWN.iter().any(|own| name == own.as_bytes())
        }
    }

    /// A host call failed. Where validation runs, the request ends here. Where it has run before, the request goes to the
    /// stable version, if there can be no doubt which one that is.
    pub(crate) fn fail(&self, failure: &str) -> Action {
        self.counters.count_host_error();
        self.log(Level::Error, &format!("a request failed: {failure}"));
        if self.stages.contains(Stages::ROUTING)
            && !self.stages.contains(Stages::VALIDATION)
            && let Some(route_key) = self.only_stable()
            && OWN.iter().all(|own| abi::remove_request_header(own.as_bytes()).is_ok())
            && abi::set_request_header(headers::ROUTE, route_key).is_ok()
        {
            return Action::Continue;
        }
        reply::fail();
        Action::Pause
    }

    /// The stable version of the only model.
    fn only_stable(&self) -> Option<&str> {
        let mut models = self.policy.models();
        let model = models.next().filter(|_| models.len() == 0)?;
        Some(model.versions().first()?.route_key())
    }

    fn report(&self, decision: &Decision<'_>) {
        if let Some(finding) = decision.findings.first() {
            let others = decision.findings.len() - 1;
            let rule = finding
                .rule
                .map_or(String::new(), |rule| format!(" by rule {}/{}", rule.policy, rule.name));
            let line = format!(
                "report-only: {}{rule} would be refused: {} ({others} more of this request)",
                finding.reason, finding.message
            );
            self.log(Level::Warn, &line);
        }
    }

    /// Lines that requests give rise to: at most one a second.
    pub(crate) fn log(&self, level: Level, line: &str) {
        let now = abi::current_time_ns().unwrap_or_default();
        match self.log_limit.borrow_mut().admit(now) {
            None => {}
            Some(0) => abi::log(level, line),
            Some(left_out) => abi::log(level, &format!("{line} ({left_out} lines left out before)")),
        }
    }
}

/// What the routing stage sets on requests.
const OWN: [&str; 5] = [
    headers::ROUTE,
    headers::POOL,
    headers::GPU_WISH,
    headers::SHADOW,
    headers::TAG,
];

/// For the access log. A decision holds whether or not it is logged.
fn leave(name: &str, line: &str) {
    let _ = abi::set_filter_state(name, line);
}
