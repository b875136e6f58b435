//! An inspection for people. Each field goes by its name in the records, so that what is read here is found again in etcd.

use super::{Card, Inspection};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// Where the values begin.
const COLUMN: usize = 34;

pub(super) fn text(found: &Inspection) -> String {
    let mut out = String::new();
    let untold = || "not told".to_owned();
    line(&mut out, 0, "node", &found.node);
    if let Some(nvml) = &found.nvml {
        line(&mut out, 0, "driver", &nvml.driver.clone().unwrap_or_else(untold));
        line(&mut out, 0, "NVML", &nvml.version.clone().unwrap_or_else(untold));
        line(
            &mut out,
            0,
            "CUDA of the driver",
            &nvml.cuda.clone().unwrap_or_else(untold),
        );
    }
    for card in &found.cards {
        show(&mut out, card);
    }
    head(&mut out, "RDMA ports (load report, rdma)");
    match &found.rdma {
        Some(rdma) => fields(&mut out, rdma),
        None => line(&mut out, 1, "none", crate::rdma::ROOT),
    }
    if !found.problems.is_empty() {
        head(&mut out, "missing");
        for problem in &found.problems {
            let _ = writeln!(out, "  {problem}");
        }
    }
    out
}

fn show(out: &mut String, card: &Card) {
    head(out, &format!("card {}", card.pci));
    let mig = match card.mig_enabled {
        Some(true) => "on",
        Some(false) => "off",
        None => "none",
    };
    line(out, 1, "MIG", mig);
    head(out, &format!("  device record ({})", card.key));
    match &card.device {
        Some(device) => fields(out, device),
        None => line(out, 1, "none", "the card does not tell its name and its memory"),
    }
    head(out, "  load report");
    fields(out, &card.telemetry);
    let reasons = "gpu.throttle_reasons";
    let is_told = !card.refused.iter().any(|refusal| refusal.field == reasons);
    if card.telemetry.gpu.throttle_reasons.is_empty() && is_told {
        line(out, 1, reasons, "none");
    }
    if !card.refused.is_empty() {
        head(out, "  not told by this card");
    }
    for refusal in &card.refused {
        line(out, 1, refusal.field, &refusal.reason);
    }
}

fn head(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n{title}");
}

fn line(out: &mut String, depth: usize, name: &str, value: &str) {
    let name = format!("{}{name}", "  ".repeat(depth));
    let _ = writeln!(out, "{name:COLUMN$} {value}");
}

/// A line for each field that has a value.
fn fields(out: &mut String, record: &impl Serialize) {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::to_value(record) {
        flatten("", &value, &mut found);
    }
    for (name, value) in found {
        line(out, 1, &name, &value);
    }
}

/// `{"gpu": {"pcie": {"width": 16}}}` as `gpu.pcie.width` and `16`.
fn flatten(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&format!("{name}{dot}{field}"), value, found);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{name}[{index}]"), item, found);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(word).collect();
            found.push((name.to_owned(), words.join(", ")));
        }
        scalar => found.push((name.to_owned(), word(scalar))),
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::{Reading, Refusal};
    use kilocard_registry::{
        device::{DeviceRecord, MigSlice, PcieLink},
        telemetry::{GpuReading, RdmaPort, RdmaReading},
    };

    fn card() -> Card {
        let slice = MigSlice {
            profile: "3g.40gb".to_owned(),
            memory_gb: 39.5,
            compute_fraction: 0.43,
        };
        let link = PcieLink {
            generation: 5,
            width: 16,
        };
        Card {
            pci: "0000:3b:00.0".to_owned(),
            key: "devices/gpu/n1/0000:3b:00.0".to_owned(),
            device: Some(DeviceRecord {
                model: "NVIDIA H100 80GB HBM3".to_owned(),
                memory_gb: 79.6,
                pcie: Some(link),
                mig: vec![slice],
                ..DeviceRecord::default()
            }),
            mig_enabled: Some(true),
            telemetry: Reading {
                memory_total_bytes: 80,
                memory_free_bytes: 70,
                gpu: GpuReading {
                    temperature_c: Some(31.0),
                    ..GpuReading::default()
                },
            },
            refused: vec![Refusal {
                field: "gpu.utilisation",
                reason: "not supported".to_owned(),
            }],
        }
    }

    /// Whether a line has this name and this value.
    fn tells(text: &str, name: &str, value: &str) -> bool {
        text.lines().any(|line| {
            let line = line.trim();
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' ') && rest.trim() == value)
        })
    }

    #[test]
    fn every_field_has_a_line_by_its_name_in_the_records_and_so_has_what_the_card_does_not_tell() {
        let port = RdmaPort {
            name: "mlx5_0/1".to_owned(),
            state: "Active".to_owned(),
            rate_gbps: 400.0,
            ..RdmaPort::default()
        };
        let mut found = Inspection {
            node: "n1".to_owned(),
            cards: vec![card()],
            rdma: Some(RdmaReading {
                ports: vec![port],
                transport: "infiniband".to_owned(),
                fallback: false,
            }),
            ..Inspection::default()
        };
        let text = found.text();
        for (name, value) in [
            ("model", "NVIDIA H100 80GB HBM3"),
            ("mig[0].profile", "3g.40gb"),
            ("pcie.generation", "5"),
            ("memory_free_bytes", "70"),
            ("gpu.temperature_c", "31.0"),
            ("gpu.throttle_reasons", "none"),
            ("gpu.utilisation", "not supported"),
            ("ports[0].name", "mlx5_0/1"),
            ("transport", "infiniband"),
        ] {
            assert!(tells(&text, name, value), "{name}: {value} in\n{text}");
        }
        assert!(text.contains("devices/gpu/n1/0000:3b:00.0") && !text.contains("missing"));

        found.cards[0].refused[0].field = "gpu.throttle_reasons";
        found.problems = vec!["NVML: no".to_owned()];
        let text = found.text();
        assert!(!tells(&text, "gpu.throttle_reasons", "none"), "{text}");
        assert!(text.ends_with("missing\n  NVML: no\n"), "{text}");
    }

    #[test]
    fn the_json_has_the_records_as_they_stand_in_etcd() {
        let found = Inspection {
            cards: vec![card()],
            ..Inspection::default()
        };
        let json: Value = serde_json::from_str(&found.json().unwrap()).unwrap();
        let card = &json["cards"][0];
        let device: DeviceRecord = serde_json::from_value(card["device"].clone()).unwrap();
        assert_eq!(device.mig[0].profile, "3g.40gb");
        assert_eq!(card["telemetry"]["gpu"]["temperature_c"], 31.0);
        assert_eq!(card["refused"][0]["reason"], "not supported");
        assert!(json["nvml"].is_null());
    }
}
