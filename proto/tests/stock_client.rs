//! Bytes that a stock Triton client sends are read as what it meant, and written back as the same bytes.

use kilocard_proto::inference::{
    InferParameter, ModelConfig, ModelInferRequest, infer_parameter::ParameterChoice, model_config::SchedulingChoice,
};
use prost::Message;

/// `ModelInfer` of tritonclient 2.73.0 with two texts, a wanted output, a priority, a timeout and a parameter of the
/// caller's own: `_get_inference_request(...).SerializeToString(deterministic=True)`.
const MODEL_INFER: &str = "0a066d696e696c6d120276321a03722d37220e0a087072696f7269747912022803220d0a0674656e616e7412031a0161220e\
0a0774696d656f7574120310dc0b2a100a0474657874120542595445531a0102320b0a09656d62656464696e673a130500000068656c6c6f0600000077c3b6\
726c64";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

#[test]
fn a_stock_clients_inference_request_is_understood() {
    let request = ModelInferRequest::decode(bytes(MODEL_INFER).as_slice()).unwrap();

    assert_eq!(request.model_name, "minilm");
    assert_eq!(request.model_version, "v2");
    assert_eq!(request.id, "r-7");
    assert_eq!(
        request.parameters["priority"],
        parameter(ParameterChoice::Uint64Param(3))
    );
    assert_eq!(
        request.parameters["timeout"],
        parameter(ParameterChoice::Int64Param(1500))
    );
    assert_eq!(
        request.parameters["tenant"],
        parameter(ParameterChoice::StringParam("a".into()))
    );
    let input = &request.inputs[0];
    assert_eq!(
        (input.name.as_str(), input.datatype.as_str(), input.shape.as_slice()),
        ("text", "BYTES", &[2][..])
    );
    assert!(input.contents.is_none());
    assert_eq!(request.outputs[0].name, "embedding");
    assert_eq!(
        request.raw_input_contents,
        ["\x05\0\0\0hello\x06\0\0\0wörld".as_bytes()]
    );
    assert_eq!(request.encoded_len(), bytes(MODEL_INFER).len(), "nothing was dropped");
}

/// Made with tritonclient's own `model_config_pb2.ModelConfig`, which knows the whole message.
const MODEL_CONFIG: &str = "0a066d696e696c6d12017020402a0b0a0474657874100d22010132110a09656d62656464696e67100b1a0280035a0218018a010663616e646c65";

#[test]
fn a_model_configuration_is_written_under_tritons_numbers() {
    let config = ModelConfig::decode(bytes(MODEL_CONFIG).as_slice()).unwrap();

    assert_eq!(
        (config.name.as_str(), config.platform.as_str(), config.backend.as_str()),
        ("minilm", "p", "candle")
    );
    assert_eq!(config.max_batch_size, 64);
    assert_eq!(
        config.input[0].data_type(),
        kilocard_proto::inference::DataType::TypeString
    );
    assert_eq!(config.input[0].dims, [1]);
    assert_eq!(config.output[0].dims, [384]);
    assert!(matches!(
        config.scheduling_choice,
        Some(SchedulingChoice::DynamicBatching(_))
    ));
    assert_eq!(config.encode_to_vec(), bytes(MODEL_CONFIG));
}
