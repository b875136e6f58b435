use super::*;
use crate::{fixture::gate, metrics::Metrics};
use kilocard_registry::{
    telemetry::{EccReading, ServingHealth, XidEvent},
    worker::WorkerRecord,
};
use std::fs;

fn telemetry(memory_free_bytes: u64) -> Telemetry {
    Telemetry {
        simulated: true,
        memory_total_bytes: 1000,
        memory_free_bytes,
        ..Telemetry::default()
    }
}

#[test]
fn a_hundredth_of_the_memory_is_worth_a_write() {
    assert!(!is_significant(&telemetry(500), &telemetry(500)));
    assert!(!is_significant(&telemetry(500), &telemetry(509)));
    assert!(is_significant(&telemetry(500), &telemetry(490)));
    let larger = Telemetry {
        memory_total_bytes: 2000,
        ..telemetry(500)
    };
    assert!(is_significant(&telemetry(500), &larger));
}

#[test]
fn a_fault_and_its_end_are_told_at_once_and_a_card_at_rest_is_none() {
    let mut ill = telemetry(500);
    ill.gpu.xids = vec![XidEvent { code: 79, at_ms: 1 }];
    assert!(is_fault(&telemetry(500), &ill) && is_fault(&ill, &telemetry(500)));
    let mut ecc = telemetry(500);
    ecc.gpu.ecc = Some(EccReading {
        uncorrectable_volatile: 1,
        ..EccReading::default()
    });
    assert!(is_fault(&telemetry(500), &ecc));
    let mut idle = telemetry(500);
    idle.gpu.throttle_reasons = vec!["gpu_idle".into(), "sw_power_cap".into()];
    assert!(!is_fault(&telemetry(500), &idle));
    idle.gpu.throttle_reasons.push("hw_thermal_slowdown".into());
    assert!(is_fault(&telemetry(500), &idle));
}

#[tokio::test]
async fn a_fault_written_into_the_simulated_cards_file_is_in_the_records_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpu.json");
    let card = |gpu: &str| {
        let json = format!(
            r#"{{"pci": "0000:3b:00.0", "device": {{"model": "NVIDIA L4", "memory_gb": 24}}, "memory_free_bytes": 9, "gpu": {gpu}}}"#
        );
        fs::write(&path, json).unwrap();
        SimulatedGpu::read(&path).unwrap()
    };
    let (gate, metrics) = (gate(8), Arc::new(Metrics::default()));
    let source = CardSource::Simulated {
        gpu: Box::new(card("{}")),
        path: path.clone(),
    };
    let sources = Sources {
        metrics,
        models: gate.models.clone(),
        health: Arc::default(),
        card: source,
        ports: Ports::default(),
    };
    let mut reporter = Reporter::new(sources, Duration::from_secs(60));
    let worker = WorkerRecord {
        telemetry: Some(reporter.first()),
        ..WorkerRecord::default()
    };
    let first = worker.telemetry.clone().unwrap();
    assert!(first.simulated && first.gpu.xids.is_empty());
    let (sender, mut records) = watch::channel(Records { worker, device: None });
    let task = tokio::spawn(reporter.run(sender));
    card(r#"{"xids": [{"code": 79}]}"#);
    let seen = records.wait_for(|records| {
        let telemetry = records.worker.telemetry.as_ref();
        telemetry.is_some_and(|telemetry| telemetry.gpu.xids.iter().any(|xid| xid.code == 79))
    });
    let seen = tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(seen.worker.telemetry.as_ref().unwrap().sequence, first.sequence);
    drop(seen);
    task.abort();
}

#[tokio::test]
async fn a_worker_that_takes_no_requests_reports_it_at_once_and_in_the_words_of_its_health_service() {
    let (gate, health) = (gate(8), Arc::new(Health::default()));
    let sources = Sources {
        metrics: Arc::default(),
        models: gate.models.clone(),
        health: health.clone(),
        card: CardSource::None,
        ports: Ports::default(),
    };
    let mut reporter = Reporter::new(sources, Duration::from_secs(60));
    let worker = WorkerRecord {
        telemetry: Some(reporter.first()),
        ..WorkerRecord::default()
    };
    assert_eq!(worker.telemetry.as_ref().unwrap().health, Some(ServingHealth::Serving));
    let (sender, mut records) = watch::channel(Records { worker, device: None });
    let task = tokio::spawn(reporter.run(sender));
    health.drain();
    let said = records.wait_for(|records| {
        let telemetry = records.worker.telemetry.as_ref();
        telemetry.is_some_and(|telemetry| telemetry.health == Some(ServingHealth::NotServing))
    });
    tokio::time::timeout(Duration::from_secs(30), said)
        .await
        .unwrap()
        .unwrap();
    task.abort();
}
