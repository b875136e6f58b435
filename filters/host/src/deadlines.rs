//! Requests whose time is watched: each has a timeout that was learnt from others of its kind, and none goes on past it.
//!
//! A unary call is told its timeout by `grpc-timeout`, so that the worker gives up when the proxy does; where the route has
//! a `max_stream_duration`, Envoy's own timer cuts it to the millisecond. A tick looks after what Envoy has no timer for: the
//! first message of a stream, the gaps between messages, and routes without that setting. It acts up to a tick late.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use kilocard_latency::key::{Key, Phase};
use kilocard_latency::outcome::Outcome;
use kilocard_latency::timeout::Bound;
use kilocard_latency::watchdog::{Cause, Deadlines, Watch};
use kilocard_policy::deadline::{TIMEOUT, format_timeout};
use kilocard_policy::limit::Subject;
use kilocard_policy::limit::estimate::number;
use kilocard_policy::{Decision, RequestView, details};

use crate::abi::{self, HostError, Level, ResponsePart};
use crate::baselines::{self, Ending};
use crate::root::Active;
use crate::{names, reply};

thread_local! {
    static WATCHED: RefCell<HashMap<u32, Watched>> = RefCell::default();
}

/// One request.
struct Watched {
    active: Rc<Active>,
    began: Duration,
    watch: Watch,
    /// Of a unary call the one for the whole; of a stream those of its first message and of its gaps.
    kinds: Kinds,
    is_shadow: bool,
    /// What has cut it, or would have.
    cause: Option<Cause>,
    /// Whether its answer has begun: then nothing can be said any more, only ended.
    has_headers: bool,
    status: Option<u32>,
}

enum Kinds {
    Unary(Key),
    Stream { first_message: Key, gap: Key },
}

/// Begins to watch a request that goes on, and tells the worker how long it has.
pub(crate) fn begin(
    active: &Rc<Active>,
    request: &RequestView<'_>,
    decision: &Decision<'_>,
    stream: u32,
) -> Result<(), HostError> {
    if !active.policy.has_deadlines() {
        return Ok(());
    }
    let subject = Subject::of(request, decision, active.stages);
    let Some(model) = active.policy.deadlines(subject.model) else {
        return Ok(());
    };
    let now = now()?;
    let call = model.call(request);
    let key = |phase| Key {
        model: text(subject.model),
        version: text(subject.version),
        method: call.method,
        size: call.size,
        phase,
    };
    let draws = |active: &Active| {
        let mut random = active.random.borrow_mut();
        (random.f64(), random.f64())
    };
    let of = |key: &Key, client| baselines::timeout(key, model.bounds(key.phase), client, draws(active), now);
    let (kinds, deadlines) = if call.is_stream() {
        let (first_message, gap) = (key(Phase::FirstMessage), key(Phase::Gap));
        let deadlines = Deadlines {
            first_message: Some(of(&first_message, None)?.timeout),
            gap: Some(of(&gap, None)?.timeout),
            ..Deadlines::default()
        };
        (Kinds::Stream { first_message, gap }, deadlines)
    } else {
        let key = key(Phase::Total);
        let applied = of(&key, call.client)?;
        if !model.is_shadow() {
            abi::set_request_header(TIMEOUT, &format_timeout(applied.timeout))?;
        }
        let limit = Some(applied.timeout);
        let deadlines = match applied.bound {
            Bound::Learned => Deadlines {
                total: limit,
                ..Deadlines::default()
            },
            Bound::Client => Deadlines {
                client: limit,
                ..Deadlines::default()
            },
        };
        (Kinds::Unary(key), deadlines)
    };
    let watched = Watched {
        active: Rc::clone(active),
        began: now,
        watch: Watch::begin(now, deadlines),
        kinds,
        is_shadow: model.is_shadow(),
        cause: None,
        has_headers: false,
        status: None,
    };
    WATCHED.with_borrow_mut(|all| all.insert(stream, watched));
    Ok(())
}

/// A message of the answer has passed.
pub(crate) fn received(stream: u32) {
    WATCHED.with_borrow_mut(|all| {
        let Some(watched) = all.get_mut(&stream) else { return };
        let Ok(now) = now() else { return };
        let is_first = !watched.watch.has_begun();
        let took = watched.watch.message(now);
        if let Kinds::Stream { first_message, gap } = &watched.kinds {
            baselines::note(if is_first { first_message } else { gap }, took, Ending::Ended, now);
        }
    });
}

/// The answer has told its status, or Envoy has in its place: then, if it is Envoy's timer that has cut the call, the client
/// is told why.
pub(crate) fn answered(stream: u32, part: ResponsePart) {
    WATCHED.with_borrow_mut(|all| {
        let Some(watched) = all.get_mut(&stream) else { return };
        watched.has_headers = true;
        let status = abi::of_response(part, "grpc-status").ok().flatten();
        let Some(status) = status.and_then(|status| number(&status)) else {
            return;
        };
        watched.status = u32::try_from(status).ok();
        let may_explain = matches!(part, ResponsePart::Headers) && !watched.is_shadow;
        if status != u64::from(DEADLINE_EXCEEDED) || !may_explain {
            return;
        }
        // An answer of ours says why already; one that a tick has just asked for may have come too late for Envoy's timer.
        let is_explained = || abi::of_response(part, names::STATUS_DETAILS).is_ok_and(|details| details.is_some());
        let overdue = || watched.watch.overdue(now().ok()? + TIMERS_APART);
        let Some((cause, limit)) = overdue() else { return };
        if is_explained() {
            return;
        }
        if watched.cause.is_none() {
            watched.cut(cause);
        }
        let (message, details) = watched.explain(cause, limit);
        // The call is over with its status; that the client is not told why is no reason to change that.
        let _ = abi::set_response_header("grpc-message", &message);
        let _ = abi::set_response_header(names::STATUS_DETAILS, &details);
    });
}

/// The request has ended, in whatever way.
pub(crate) fn end(stream: u32) {
    let watched = WATCHED.with_borrow_mut(|all| all.remove(&stream));
    let (Some(watched), Ok(now)) = (watched, now()) else {
        return;
    };
    let took = now.saturating_sub(watched.began);
    let outcome = watched.status.map_or(Outcome::CutOff, Outcome::of_status);
    let key = match &watched.kinds {
        Kinds::Unary(key) => key,
        // What did not come before the client left is known to take longer.
        Kinds::Stream { first_message, .. }
            if !watched.watch.has_begun() && watched.cause.is_none() && outcome == Outcome::CutOff =>
        {
            first_message
        }
        Kinds::Stream { .. } => return,
    };
    let ending = match outcome {
        Outcome::Answered => Ending::Ended,
        Outcome::CutOff if watched.cause == Some(Cause::Total) => Ending::TimedOut,
        Outcome::CutOff => Ending::GivenUp,
        Outcome::Failed | Outcome::Refused => return,
    };
    baselines::note(key, took, ending, now);
}

/// Ends what is overdue, and learns.
pub(crate) fn tick() -> Result<(), HostError> {
    let now = now()?;
    let overdue: Vec<(u32, Cause, Duration)> = WATCHED.with_borrow(|all| {
        let each = all.iter().filter(|(_, watched)| watched.cause.is_none());
        each.filter_map(|(stream, watched)| {
            let (cause, limit) = watched.watch.overdue(now)?;
            Some((*stream, cause, limit))
        })
        .collect()
    });
    for (stream, cause, limit) in overdue {
        act(stream, cause, limit, now);
    }
    baselines::tick(now)
}

fn act(stream: u32, cause: Cause, limit: Duration, now: Duration) {
    // Ending it calls back into this module, so nothing may be borrowed then.
    let done = WATCHED.with_borrow_mut(|all| {
        let watched = all.get_mut(&stream)?;
        watched.cut(cause);
        if let Kinds::Stream { first_message, gap } = &watched.kinds {
            let key = if cause == Cause::Gap { gap } else { first_message };
            baselines::note(key, limit, Ending::TimedOut, now);
        }
        let has_headers = watched.has_headers;
        (!watched.is_shadow).then(|| (has_headers, watched.explain(cause, limit), Rc::clone(&watched.active)))
    });
    let Some((has_headers, (message, details), active)) = done else {
        return;
    };
    if abi::set_effective_context(stream).is_err() {
        return;
    }
    let ended = if has_headers {
        abi::reset_response()
    } else {
        reply::too_late(cause, &message, &details)
    };
    if let Err(error) = ended {
        active.log(
            Level::Error,
            &format!("could not end a request that is overdue: {error}"),
        );
    }
}

impl Watched {
    fn cut(&mut self, cause: Cause) {
        self.cause = Some(cause);
        self.active.counters.count_timeout(cause, self.is_shadow);
    }

    /// What to tell the client, and the same as details.
    fn explain(&self, cause: Cause, limit: Duration) -> (String, String) {
        let key = match &self.kinds {
            Kinds::Unary(key) => key,
            Kinds::Stream { first_message, .. } => first_message,
        };
        let route = format!("{}/{}", key.model, key.version);
        if cause == Cause::Client {
            let message = format!("{route} has not answered within the client's deadline");
            let details = details::timeout_status(&message, "CLIENT_DEADLINE", &route);
            return (message, details);
        }
        let (what, reason) = match cause {
            Cause::Total | Cause::Client => ("answered", "TIMEOUT_TOTAL"),
            Cause::FirstMessage => ("begun to answer", "TIMEOUT_FIRST_MESSAGE"),
            Cause::Gap => ("gone on", "TIMEOUT_GAP"),
        };
        let message = format!(
            "{route} has not {what} within {} ms, longer than nearly all requests of this kind",
            limit.as_millis()
        );
        let details = details::timeout_status(&message, reason, &route);
        (message, details)
    }
}

/// Envoy's timer began before the filter was asked, and the worker's may: who has the same timeout ends so much earlier.
const TIMERS_APART: Duration = Duration::from_millis(50);

/// gRPC `DEADLINE_EXCEEDED`.
const DEADLINE_EXCEEDED: u32 = 4;

fn now() -> Result<Duration, HostError> {
    abi::monotonic_ns().map(Duration::from_nanos)
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}
