//! What the server and its models say about themselves.

use super::tensor::{INPUT, OUTPUT};
use crate::models::{Models, Served};
use kilocard_engine::backend::DeviceKind;
use kilocard_proto::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelMetadataResponse, ModelOutput,
    ModelTransactionPolicy, ServerMetadataResponse, model_config::SchedulingChoice, model_instance_group::Kind,
    model_metadata_response::TensorMetadata,
};

const PLATFORM: &str = "kilocard_bert_embedding";
/// Any number.
const ANY: i64 = -1;

pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "kilocard-worker".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["model_configuration".to_owned()],
    }
}

pub(super) fn model(served: &Served, models: &Models) -> ModelMetadataResponse {
    let model = served.id.model.as_str();
    let tensor = |name: &str, datatype: &str, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
    };
    ModelMetadataResponse {
        name: model.to_owned(),
        versions: models
            .versions_of(model)
            .map(|served| served.id.version.to_string())
            .collect(),
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(INPUT, "BYTES", vec![ANY])],
        outputs: vec![tensor(OUTPUT, "FP32", vec![ANY, dimension(served)])],
    }
}

pub(super) fn config(served: &Served) -> ModelConfig {
    let kind = match served.embedder.device() {
        DeviceKind::Cpu => Kind::Cpu,
        DeviceKind::Cuda => Kind::Gpu,
    };
    ModelConfig {
        name: served.id.model.to_string(),
        platform: PLATFORM.to_owned(),
        backend: "candle".to_owned(),
        // The first dimension is the texts; they are batched across requests by the worker itself.
        max_batch_size: 0,
        input: vec![ModelInput {
            name: INPUT.to_owned(),
            data_type: DataType::TypeString.into(),
            dims: vec![ANY],
        }],
        output: vec![ModelOutput {
            name: OUTPUT.to_owned(),
            data_type: DataType::TypeFp32.into(),
            dims: vec![ANY, dimension(served)],
        }],
        instance_group: vec![ModelInstanceGroup {
            name: served.id.to_string(),
            count: 1,
            kind: kind.into(),
            gpus: Vec::new(),
        }],
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(ModelDynamicBatching {
            preserve_ordering: true,
            ..ModelDynamicBatching::default()
        })),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        ..ModelConfig::default()
    }
}

fn dimension(served: &Served) -> i64 {
    i64::try_from(served.embedder.dimension()).unwrap_or(i64::MAX)
}
