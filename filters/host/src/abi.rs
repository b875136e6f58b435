//! The host calls, declared here rather than taken from the SDK, for three reasons:
//! - the SDK's `get_map` and `get_map_bytes` turn header names and values into `String` and trap on bytes that are not UTF-8;
//! - the SDK's wrappers panic on every status they do not list, and a panic traps the VM with all its requests;
//! - the SDK declares the status as an `enum`, for which a number that the enum does not know is undefined behaviour.
//!
//! The calls and their meaning: proxy-wasm specification, ABI 0.2.1. All unsafe code of the filters is in this file.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::{null, null_mut};
use std::time::Duration;

/// A host call that did not answer `Ok`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostError {
    call: &'static str,
    status: u32,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host call {} answered status {}", self.call, self.status)
    }
}

/// The levels of `proxy_log`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const RESPONSE_STREAM: u32 = 1;
const RESPONSE_BODY: u32 = 1;
const PLUGIN_CONFIGURATION: u32 = 7;
const GRPC_MESSAGE: u32 = 5;
const COUNTER: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        kind: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_replace_header_map_value(
        kind: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_send_local_response(
        http_status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
}

// Envoy serves this call of WASI from its monotonic clock; its own `proxy_get_current_time_nanoseconds` is the wall clock,
// which can be set.
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u16;
}

/// `CLOCK_MONOTONIC` of WASI.
const MONOTONIC: u32 = 1;
/// What [`swap_shared_data`] is given for a value that is not there yet. Envoy takes it for a value that is there only after
/// so many writes; 0 it would take for any.
const ABSENT: u32 = u32::MAX;

fn check(call: &'static str, status: u32) -> Result<(), HostError> {
    if status == 0 {
        Ok(())
    } else {
        Err(HostError { call, status })
    }
}

/// Writes to Envoy's log. A log line that Envoy does not take has nowhere else to go.
pub(crate) fn log(level: Level, message: &str) {
    // SAFETY: the host reads `message.len()` bytes at the pointer during the call and keeps neither.
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Nanoseconds since the epoch; whole microseconds in Envoy.
pub(crate) fn current_time_ns() -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: the host writes one u64 to a live, aligned u64.
    check("get_current_time_nanoseconds", unsafe {
        proxy_get_current_time_nanoseconds(&raw mut time)
    })?;
    Ok(time)
}

/// Nanoseconds since some moment, the same in all threads of the process; nobody can set it back.
pub(crate) fn monotonic_ns() -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: the host writes one u64 to a live, aligned u64.
    let status = unsafe { clock_time_get(MONOTONIC, 1, &raw mut time) };
    check("clock_time_get", status.into())?;
    Ok(time)
}

/// The configuration of the plugin; empty if there is none.
pub(crate) fn plugin_configuration() -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the host writes a pointer and a size to live, aligned variables of those types.
    let status = unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, &raw mut data, &raw mut size) };
    if status == NOT_FOUND {
        return Ok(Vec::new());
    }
    check("get_buffer_bytes", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    Ok(unsafe { take(data, size) })
}

/// The message of a gRPC call that has been answered; only while Envoy says so.
pub(crate) fn grpc_message(size: usize) -> Result<Vec<u8>, HostError> {
    let (mut data, mut length) = (null_mut(), 0);
    // SAFETY: the host writes a pointer and a size to live, aligned variables of those types.
    let status = unsafe { proxy_get_buffer_bytes(GRPC_MESSAGE, 0, size, &raw mut data, &raw mut length) };
    if status == NOT_FOUND {
        return Ok(Vec::new());
    }
    check("get_buffer_bytes", status)?;
    // SAFETY: data and length are from a successful call that returns a buffer.
    Ok(unsafe { take(data, length) })
}

/// All headers of the request in the format of [`crate::header_map`], in one call.
pub(crate) fn request_headers() -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the host writes a pointer and a size to live, aligned variables of those types.
    let status = unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, &raw mut data, &raw mut size) };
    check("get_header_map_pairs", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    Ok(unsafe { take(data, size) })
}

/// Where something is said of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponsePart {
    Headers,
    Trailers,
}

/// A header or trailer of the response, if it is there.
pub(crate) fn of_response(part: ResponsePart, name: &str) -> Result<Option<Vec<u8>>, HostError> {
    let map = match part {
        ResponsePart::Headers => RESPONSE_HEADERS,
        ResponsePart::Trailers => RESPONSE_TRAILERS,
    };
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the host reads `name.len()` bytes at the pointer, and writes a pointer and a size to live, aligned variables
    // of those types.
    let status = unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), &raw mut data, &raw mut size) };
    if status == NOT_FOUND {
        return Ok(None);
    }
    check("get_header_map_value", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    let value = unsafe { take(data, size) };
    Ok(if value.is_empty() { None } else { Some(value) })
}

/// Lets calls from now on be about this stream, or about a root context.
pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("set_effective_context", unsafe { proxy_set_effective_context(context) })
}

/// Lets a request go on that was paused.
pub(crate) fn resume_request() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("continue_stream", unsafe { proxy_continue_stream(0) })
}

/// Owns what the host returned.
///
/// # Safety
/// `data` is null, or from `proxy_on_memory_allocate(size)` and not yet owned. The SDK exports that function as a boxed
/// slice of exactly `size` bytes, so length and capacity are both `size`; the host has filled all of it.
unsafe fn take(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() || size == 0 {
        return Vec::new();
    }
    // SAFETY: as required of the caller.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// Removes a header of the request, however often it is there. The name may be any bytes.
pub(crate) fn remove_request_header(name: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host reads `name.len()` bytes at the pointer during the call.
    let status = unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
    check("remove_header_map_value", status)
}

/// Sets a header of the request, in place of what is there.
pub(crate) fn set_request_header(name: &str, value: &str) -> Result<(), HostError> {
    set_header(REQUEST_HEADERS, name, value)
}

/// Sets a header of the response, in place of what is there; only while Envoy passes the response's headers on.
pub(crate) fn set_response_header(name: &str, value: &str) -> Result<(), HostError> {
    set_header(RESPONSE_HEADERS, name, value)
}

fn set_header(map: u32, name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: the host reads the given numbers of bytes at the pointers during the call.
    let status = unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    check("replace_header_map_value", status)
}

/// An attribute of the connection or the request (Envoy, "Attributes"), if it is there. Its segments are separated by 0x00.
pub(crate) fn property(path: &str) -> Result<Option<Vec<u8>>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the host reads `path.len()` bytes at the pointer, and writes a pointer and a size to live, aligned variables
    // of those types.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut data, &raw mut size) };
    if status == NOT_FOUND {
        return Ok(None);
    }
    check("get_property", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    Ok(Some(unsafe { take(data, size) }))
}

/// Leaves a value in the request's filter state, as `wasm.<name>`: access logs and later filters can read it.
pub(crate) fn set_filter_state(name: &str, value: &str) -> Result<(), HostError> {
    // SAFETY: the host reads the given numbers of bytes at the pointers during the call.
    let status = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    check("set_property", status)
}

/// A value shared by all VMs of one id, and its generation; no bytes if it is not there.
pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), HostError> {
    let (mut data, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: the host reads `key.len()` bytes at the pointer, and writes to live, aligned variables of the right types.
    let status = unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut data, &raw mut size, &raw mut cas) };
    if status == NOT_FOUND {
        return Ok((Vec::new(), ABSENT));
    }
    check("get_shared_data", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    Ok((unsafe { take(data, size) }, cas))
}

/// Replaces a shared value if its generation is still `cas`; whether it did.
pub(crate) fn swap_shared_data(key: &str, value: &[u8], cas: u32) -> Result<bool, HostError> {
    // SAFETY: the host reads the given numbers of bytes at the pointers during the call.
    let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    if status == CAS_MISMATCH {
        return Ok(false);
    }
    check("set_shared_data", status)?;
    Ok(true)
}

/// An answer that Envoy gives instead of the upstream.
pub(crate) struct LocalResponse<'a> {
    /// For a request that Envoy does not take for gRPC.
    pub(crate) http_status: u32,
    /// For a request that Envoy takes for gRPC; without one, Envoy derives it from the HTTP status.
    pub(crate) grpc_status: Option<u32>,
    /// Envoy's response code details, for access logs.
    pub(crate) details: &'a str,
    /// The body, or the gRPC message (Envoy percent-encodes it).
    pub(crate) body: &'a str,
    /// More headers.
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// Ends the request with an answer from here.
pub(crate) fn send_local_response(response: &LocalResponse<'_>) -> Result<(), HostError> {
    let headers = crate::header_map::write(response.headers);
    let grpc_status = response
        .grpc_status
        .and_then(|status| i32::try_from(status).ok())
        .unwrap_or(-1);
    let (headers_data, headers_size) = if response.headers.is_empty() {
        (null(), 0)
    } else {
        (headers.as_ptr(), headers.len())
    };
    // SAFETY: the host reads the given numbers of bytes at the pointers during the call; null comes with size 0.
    let status = unsafe {
        proxy_send_local_response(
            response.http_status,
            response.details.as_ptr(),
            response.details.len(),
            response.body.as_ptr(),
            response.body.len(),
            headers_data,
            headers_size,
            grpc_status,
        )
    };
    check("send_local_response", status)
}

/// Ends the response with a reset: what the client has of it stays without an end.
pub(crate) fn reset_response() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("close_stream", unsafe { proxy_close_stream(RESPONSE_STREAM) })
}

/// Some bytes of what passes of the response's body.
pub(crate) fn response_body(start: usize, size: usize) -> Result<Vec<u8>, HostError> {
    let (mut data, mut got) = (null_mut(), 0);
    // SAFETY: the host writes a pointer and a size to live, aligned variables of those types.
    let status = unsafe { proxy_get_buffer_bytes(RESPONSE_BODY, start, size, &raw mut data, &raw mut got) };
    check("get_buffer_bytes", status)?;
    // SAFETY: data and size are from a successful call that returns a buffer.
    Ok(unsafe { take(data, got) })
}

/// From now on a tick comes so often.
pub(crate) fn set_tick_period(period: Duration) -> Result<(), HostError> {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no pointers.
    check("set_tick_period_milliseconds", unsafe {
        proxy_set_tick_period_milliseconds(millis)
    })
}

/// The id of a counter; defines it if it is new.
pub(crate) fn define_counter(name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the host reads `name.len()` bytes at the pointer and writes one u32 to a live, aligned u32.
    check("define_metric", unsafe {
        proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &raw mut id)
    })?;
    Ok(id)
}

/// Adds one to a counter.
pub(crate) fn increment_counter(id: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check("increment_metric", unsafe { proxy_increment_metric(id, 1) })
}
