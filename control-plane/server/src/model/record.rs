//! From records in etcd to validated values: pure, with a reason for every refusal.

use crate::model::Worker;
use kilocard_policy::config::{is_name, is_version};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::layout::DeviceId;
use kilocard_registry::worker::{Telemetry, WorkerRecord};
use kilocard_weights::Locality;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// What a worker may promise, milliseconds.
const REFRESH_MS: RangeInclusive<u32> = 100..=60_000;
/// Most bytes of the name of a zone or rack.
const MAX_PLACE: usize = 63;
/// Most elements of a list in a load report.
const MAX_LISTED: usize = 16;

/// Why a record is ignored. The text is what an operator reads in `kilocard status`.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecord {
    /// Not JSON of the expected shape.
    #[error("not a {expected} record: {source}")]
    Shape {
        /// Which record stands under such a key.
        expected: &'static str,
        /// What the JSON parser said.
        source: serde_json::Error,
    },
    /// The id inside differs from the key's.
    #[error("id is {found:?} but the key says {expected:?}; they must be equal")]
    Id {
        /// From the key.
        expected: String,
        /// From the record.
        found: String,
    },
    /// Envoy cannot use the address.
    #[error("address {address:?} {problem}; write IP:port, for example 10.0.0.7:8001 or [fd00::7]:8001")]
    Address {
        /// As it stands in the record.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A worker of nothing.
    #[error("models is empty: a worker must serve at least one model version")]
    NoModels,
    /// A model that the policy documents could not name either.
    #[error(
        "models[{index}].model is {name:?}: names are 1 to 63 of a-z, 0-9, '.', '_', '-', and start with a letter or digit"
    )]
    Model {
        /// Which of the record's models.
        index: usize,
        /// As it stands there.
        name: String,
    },
    /// A version that the policy documents could not name either.
    #[error(
        "models[{index}].version is {name:?}: versions are 1 to 63 of a-z and 0-9, with single '.', '_' or '-' between them"
    )]
    Version {
        /// Which of the record's models.
        index: usize,
        /// As it stands there.
        name: String,
    },
    /// A card that says nothing about itself.
    #[error("model is empty: name the card as NVML does, for example \"NVIDIA H100 80GB HBM3\"")]
    NoCardName,
    /// Not a size.
    #[error("memory_gb is {0}: it must be a positive number of GiB")]
    Memory(f64),
    /// A place that no table and no proxy could show.
    #[error("{field} is no name: write 1 to 63 printable characters, or leave it out")]
    Place {
        /// `zone` or `rack`.
        field: &'static str,
    },
}

/// A worker from the record under `workers/<id>`, which appeared at revision `created`.
///
/// Telemetry that contradicts itself does not refuse the worker: weights ignore it, since a broken reading is no reason
/// to lose capacity.
///
/// # Errors
/// The first reason for which the record cannot be used.
pub fn worker(id: &str, json: &[u8], created: i64) -> Result<Worker, InvalidRecord> {
    let record: WorkerRecord = serde_json::from_slice(json).map_err(|source| InvalidRecord::Shape {
        expected: "worker",
        source,
    })?;
    if record.id != id {
        return Err(InvalidRecord::Id {
            expected: id.to_owned(),
            found: record.id,
        });
    }
    if record.models.is_empty() {
        return Err(InvalidRecord::NoModels);
    }
    for (index, served) in record.models.iter().enumerate() {
        if !is_name(&served.model) {
            return Err(InvalidRecord::Model {
                index,
                name: served.model.clone(),
            });
        }
        if !is_version(&served.version) {
            return Err(InvalidRecord::Version {
                index,
                name: served.version.clone(),
            });
        }
    }
    let rack = place("rack", record.rack)?.unwrap_or_default();
    Ok(Worker {
        address: address(&record.address)?,
        device: record.device.map(|pci| DeviceId { node: record.node, pci }),
        models: record.models.into_iter().collect(),
        mig_profile: record.mig_profile,
        locality: place("zone", record.zone)?.map(|zone| Locality { zone, rack }),
        telemetry: record.telemetry.map(bounded),
        draining: record.draining,
        id: record.id,
        created,
    })
}

/// A card from the record under `devices/gpu/<node>/<pci>`.
///
/// # Errors
/// The first reason for which the record cannot be used.
pub fn device(json: &[u8]) -> Result<DeviceRecord, InvalidRecord> {
    let mut record: DeviceRecord = serde_json::from_slice(json).map_err(|source| InvalidRecord::Shape {
        expected: "device",
        source,
    })?;
    if record.model.trim().is_empty() {
        return Err(InvalidRecord::NoCardName);
    }
    if !record.memory_gb.is_finite() || record.memory_gb <= 0.0 {
        return Err(InvalidRecord::Memory(record.memory_gb));
    }
    record.zone = place("zone", record.zone)?;
    record.rack = place("rack", record.rack)?;
    Ok(record)
}

/// The name of a zone or rack; an empty one says nothing.
fn place(field: &'static str, name: Option<String>) -> Result<Option<String>, InvalidRecord> {
    match name {
        Some(name) if name.is_empty() => Ok(None),
        Some(name) if name.len() > MAX_PLACE || name.chars().any(char::is_control) => {
            Err(InvalidRecord::Place { field })
        }
        name => Ok(name),
    }
}

/// A report within bounds: a worker that is out of its mind, or not ours, costs no memory and cannot promise for ever. What it
/// claims to compute is bounded where it is weighed, by its card's prior.
fn bounded(mut telemetry: Telemetry) -> Telemetry {
    telemetry.refresh_ms = telemetry
        .refresh_ms
        .map(|millis| millis.clamp(*REFRESH_MS.start(), *REFRESH_MS.end()));
    let gpu = &mut telemetry.gpu;
    gpu.throttle_reasons.truncate(MAX_LISTED);
    // The newest are last.
    gpu.xids.drain(..gpu.xids.len().saturating_sub(MAX_LISTED));
    if let Some(rdma) = &mut telemetry.rdma {
        rdma.ports.truncate(MAX_LISTED);
    }
    let fraction = |value: &mut Option<f64>| *value = value.map(|value| value.clamp(0.0, 1.0));
    fraction(&mut telemetry.engine.busy_fraction);
    fraction(&mut telemetry.engine.error_rate);
    fraction(&mut telemetry.gpu.utilisation);
    let level = |value: &mut Option<f64>| *value = value.map(|value| value.max(0.0));
    level(&mut telemetry.engine.queue);
    level(&mut telemetry.engine.requests_per_second);
    telemetry
}

fn address(text: &str) -> Result<SocketAddr, InvalidRecord> {
    let invalid = |problem| InvalidRecord::Address {
        address: text.to_owned(),
        problem,
    };
    let address: SocketAddr = text.parse().map_err(|_| invalid("is not an IP address with a port"))?;
    if address.port() == 0 {
        return Err(invalid("has port 0"));
    }
    if address.ip().is_unspecified() {
        return Err(invalid("is the unspecified address, to which nobody can connect"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut record = json!({
            "id": "w-1", "address": "10.0.0.7:8001", "node": "n1", "device": "0000:3b:00.0",
            "models": [{"model": "minilm", "version": "v1"}],
        });
        change(&mut record);
        record.to_string().into_bytes()
    }

    fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> String {
        worker("w-1", &record(change), 1).unwrap_err().to_string()
    }

    #[test]
    fn a_place_is_a_name_and_an_empty_one_says_nothing() {
        let locality = |zone: &str| {
            let record = record(|record| (record["zone"], record["rack"]) = (json!(zone), json!("r1")));
            worker("w-1", &record, 1).map(|worker| worker.locality.map(|locality| locality.to_string()))
        };
        assert_eq!(locality("eu-1a").unwrap().as_deref(), Some("eu-1a/r1"));
        assert_eq!(locality("").unwrap(), None);
        for zone in ["a\nb", &"z".repeat(64)] {
            let refused = locality(zone).unwrap_err().to_string();
            assert!(refused.starts_with("zone is no name"), "{refused}");
        }
        let card = json!({"model": "NVIDIA L4", "memory_gb": 24, "rack": "\u{1b}[31m"});
        let refused = device(card.to_string().as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with("rack is no name"), "{refused}");
    }

    #[test]
    fn a_sound_worker_record_is_taken_as_it_is() {
        let worker = worker("w-1", &record(|_| ()), 7).unwrap();
        assert_eq!(worker.address, "10.0.0.7:8001".parse().unwrap());
        assert_eq!(
            worker.device,
            Some(DeviceId {
                node: "n1".into(),
                pci: "0000:3b:00.0".into()
            })
        );
        assert_eq!(worker.models.len(), 1);
        assert_eq!(worker.created, 7);
    }

    #[test]
    fn an_address_that_envoy_cannot_use_is_refused_with_what_is_wrong() {
        for (address, problem) in [
            ("gpu-7.example:8001", "not an IP address"),
            ("10.0.0.7", "not an IP address"),
            ("10.0.0.7:0", "port 0"),
            ("0.0.0.0:8001", "unspecified"),
            ("[::]:8001", "unspecified"),
        ] {
            let refusal = refusal(|record| record["address"] = json!(address));
            assert!(refusal.contains(problem) && refusal.contains(address), "{refusal}");
        }
        assert!(worker("w-1", &record(|record| record["address"] = json!("[fd00::7]:8001")), 1).is_ok());
    }

    #[test]
    fn an_id_other_than_the_keys_is_refused() {
        assert!(refusal(|record| record["id"] = json!("w-2")).contains("\"w-1\""));
    }

    #[test]
    fn names_outside_the_grammar_are_refused_with_their_path() {
        for name in ["", "Minilm", "a/b", "-a", "1..2", "v2-", &"a".repeat(64)] {
            let refusal = refusal(|record| record["models"][0]["version"] = json!(name));
            assert!(refusal.starts_with("models[0].version"), "{refusal}");
        }
        let refused = refusal(|record| record["models"][0]["model"] = json!("a/b"));
        assert!(refused.starts_with("models[0].model"), "{refused}");
        assert!(refusal(|record| record["models"] = json!([])).contains("at least one"));
    }

    #[test]
    fn a_load_report_is_kept_within_bounds() {
        let xids: Vec<_> = (0..100).map(|code| json!({"code": code})).collect();
        let report = json!({
            "refresh_ms": 4_000_000_000_u32, "engine": {"busy_fraction": 9, "error_rate": -1, "queue": -5, "requests_per_second": -7},
            "gpu": {"xids": xids, "throttle_reasons": vec!["hw_slowdown"; 1000]},
        });
        let read = worker("w-1", &record(|record| record["telemetry"] = report), 1).unwrap();
        let telemetry = read.telemetry.unwrap();
        assert_eq!(telemetry.refresh_ms, Some(60_000));
        assert_eq!(
            (telemetry.gpu.xids.len(), telemetry.gpu.throttle_reasons.len()),
            (16, 16)
        );
        assert_eq!(telemetry.gpu.xids[15].code, 99);
        let engine = telemetry.engine;
        assert_eq!(
            (engine.busy_fraction, engine.error_rate, engine.queue),
            (Some(1.0), Some(0.0), Some(0.0))
        );
        assert_eq!(engine.requests_per_second, Some(0.0));
    }

    #[test]
    fn what_is_no_record_at_all_is_refused_with_the_parsers_words() {
        assert!(
            worker("w-1", b"{", 1)
                .unwrap_err()
                .to_string()
                .starts_with("not a worker record: EOF")
        );
        assert!(
            device(b"[]")
                .unwrap_err()
                .to_string()
                .starts_with("not a device record")
        );
    }

    #[test]
    fn a_card_needs_a_name_and_memory() {
        assert!(device(br#"{"model": "Tesla T4", "memory_gb": 16}"#).is_ok());
        assert!(matches!(
            device(br#"{"model": " ", "memory_gb": 16}"#),
            Err(InvalidRecord::NoCardName)
        ));
        assert!(matches!(
            device(br#"{"model": "Tesla T4", "memory_gb": 0}"#),
            Err(InvalidRecord::Memory(_))
        ));
    }
}
