//! On what kind of GPU a request should run.

use crate::decision::{GpuWish, GrpcStatus, Refusal, RefusalReason};
use crate::gpu::{self, Class};
use crate::headers;
use crate::known::Known;
use crate::policy::{ModelRouting, Policy, Rule};

/// The class that the request asks for, else that of its rule, else that of its model, else the affinity that it asks for.
pub(super) fn wish<'p>(
    policy: &'p Policy,
    model: &ModelRouting,
    rule: Option<&Rule>,
    known: &Known<'_>,
) -> Result<Option<GpuWish<'p>>, Box<Refusal<'p>>> {
    let classes = policy.gpu_classes();
    if let Some(asked) = known.gpu_class {
        let class = classes.iter().find(|class| class.name().as_bytes() == asked);
        return class
            .map(|class| Some(class.wish()))
            .ok_or_else(|| no_such_class(classes, asked));
    }
    let declared = rule.and_then(Rule::gpu).or(model.gpu());
    if let Some(class) = declared.and_then(|position| classes.get(position)) {
        return Ok(Some(class.wish()));
    }
    Ok(known.gpu_affinity.and_then(gpu::affinity))
}

fn no_such_class<'p>(classes: &[Class], asked: &[u8]) -> Box<Refusal<'p>> {
    let there = if classes.is_empty() {
        "there are no classes".to_owned()
    } else {
        format!("there are {}", super::list(classes.iter().map(Class::name)))
    };
    let message = format!("there is no GPU class {}; {there}", super::checked(asked));
    super::refuse(
        GrpcStatus::NotFound,
        RefusalReason::GpuClassNotFound,
        headers::X_GPU_CLASS,
        message,
    )
}

/// `<first 8 of the trace id>-<affinity or class>`, for requests that have both.
pub(super) fn tag(known: &Known<'_>, wish: Option<&GpuWish<'_>>) -> Option<String> {
    let label = match (known.gpu_affinity, wish) {
        (Some(affinity), _) => std::str::from_utf8(affinity).ok()?,
        (None, wish) => &wish?.label,
    };
    // The trace id is the second part of `traceparent` (W3C Trace Context, section 3.2).
    let of_parent = known
        .traceparent
        .and_then(|parent| parent.split(|byte| *byte == b'-').nth(1));
    let ids = [of_parent, known.trace_id, known.request_id];
    let trace = ids.into_iter().flatten().find_map(first_8)?;
    Some(format!("{trace}-{label}"))
}

/// Not every one of them has passed a grammar, and what the worker notes must not be an attack on who reads it.
fn first_8(id: &[u8]) -> Option<&str> {
    let first = id.get(..8)?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    first.iter().all(is_plain).then(|| std::str::from_utf8(first).ok())?
}
