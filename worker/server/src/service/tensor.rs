//! Texts out of a request's tensors, and vectors into a response's.
//!
//! What a request says about itself is not believed: shape, type and contents are held against each other, and what
//! does not agree is refused with what was said and what was found.

use crate::quote::{Shape, quote};
use bytes::Bytes;
use kilocard_engine::{embedder::EmbedError, tokenizer::MAX_TEXT_BYTES};
use kilocard_proto::inference::{
    InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor,
    model_infer_response::InferOutputTensor,
};
use tonic::Status;

/// The input: a text each element.
pub(super) const INPUT: &str = "text";
/// The output: a vector each text.
pub(super) const OUTPUT: &str = "embedding";
/// The most texts of one request.
pub(super) const MAX_TEXTS: usize = 1024;

/// A request's texts, and how its answer is to be written.
#[derive(Debug, PartialEq)]
pub(super) struct Texts {
    pub(super) texts: Vec<String>,
    /// The request came with raw contents, so the response goes with them.
    pub(super) raw: bool,
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Status> {
    Err(Status::invalid_argument(message))
}

/// Reads the one input of a request.
pub(super) fn decode(request: ModelInferRequest) -> Result<Texts, Status> {
    for output in &request.outputs {
        if output.name != OUTPUT {
            return invalid(format!(
                "there is no output {}; the only one is {OUTPUT:?}",
                quote(&output.name)
            ));
        }
        refuse_shared_memory(&output.parameters)?;
    }
    let raw = !request.raw_input_contents.is_empty();
    if raw && request.raw_input_contents.len() != request.inputs.len() {
        return invalid(format!(
            "{} raw_input_contents for {} inputs; there must be one for each",
            request.raw_input_contents.len(),
            request.inputs.len()
        ));
    }
    let mut inputs = request.inputs.into_iter();
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return invalid(format!(
            "exactly one input is needed: {INPUT:?} of type BYTES, shape [n] or [n, 1]"
        ));
    };
    let count = count(&input)?;
    let elements = match request.raw_input_contents.into_iter().next() {
        Some(contents) if input.contents.is_none() => split_raw(contents, count)?,
        Some(_) => return invalid(format!("input {INPUT:?} has both contents and raw_input_contents")),
        None => typed(input.contents, count)?,
    };
    let texts: Result<Vec<String>, Status> = elements
        .into_iter()
        .enumerate()
        .map(|(index, element)| text(index, element))
        .collect();
    Ok(Texts { texts: texts?, raw })
}

type Parameters = std::collections::HashMap<String, kilocard_proto::inference::InferParameter>;

fn refuse_shared_memory(parameters: &Parameters) -> Result<(), Status> {
    if parameters.contains_key("shared_memory_region") {
        return Err(Status::unimplemented(
            "this worker does not implement shared memory; send the tensors themselves",
        ));
    }
    Ok(())
}

/// How many texts an input says it has.
fn count(input: &InferInputTensor) -> Result<usize, Status> {
    if input.name != INPUT {
        return invalid(format!(
            "there is no input {}; the only one is {INPUT:?}",
            quote(&input.name)
        ));
    }
    if input.datatype != "BYTES" {
        return invalid(format!(
            "input {INPUT:?} is {}, and must be BYTES",
            quote(&input.datatype)
        ));
    }
    refuse_shared_memory(&input.parameters)?;
    let count = match input.shape.as_slice() {
        [count] | [count, 1] => usize::try_from(*count).ok().filter(|count| *count > 0),
        _ => None,
    };
    let Some(count) = count else {
        return invalid(format!(
            "input {INPUT:?} has the shape {}, and must be [n] or [n, 1], n ≥ 1",
            Shape(&input.shape)
        ));
    };
    if count > MAX_TEXTS {
        return invalid(format!(
            "input {INPUT:?} has {count} texts, and the most is {MAX_TEXTS}; send several requests"
        ));
    }
    Ok(count)
}

fn typed(contents: Option<InferTensorContents>, count: usize) -> Result<Vec<Bytes>, Status> {
    let Some(contents) = contents else {
        return invalid(format!("input {INPUT:?} has neither contents nor raw_input_contents"));
    };
    let elements = contents.bytes_contents;
    let others = InferTensorContents {
        bytes_contents: Vec::new(),
        ..contents
    };
    if others != InferTensorContents::default() {
        return invalid(format!(
            "input {INPUT:?} is BYTES, so its elements belong in bytes_contents only"
        ));
    }
    if elements.len() != count {
        return invalid(format!(
            "input {INPUT:?} says it has {count} elements, and has {}",
            elements.len()
        ));
    }
    Ok(elements)
}

/// Splits raw contents of BYTES: each element is led by its length as four little-endian bytes.
fn split_raw(mut contents: Bytes, count: usize) -> Result<Vec<Bytes>, Status> {
    let mut elements = Vec::with_capacity(count);
    while !contents.is_empty() {
        if elements.len() == count {
            return invalid(format!(
                "input {INPUT:?} says it has {count} elements, and {} bytes follow them in raw_input_contents",
                contents.len()
            ));
        }
        let Some(length) = contents.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else {
            return invalid(format!(
                "raw_input_contents end within the length of element {}: 4 bytes are needed, {} are left",
                elements.len(),
                contents.len()
            ));
        };
        let mut element = contents.split_off(4);
        if element.len() < length {
            return invalid(format!(
                "raw_input_contents end within element {}: its length says {length} bytes, {} are left",
                elements.len(),
                element.len()
            ));
        }
        contents = element.split_off(length);
        elements.push(element);
    }
    if elements.len() != count {
        return invalid(format!(
            "input {INPUT:?} says it has {count} elements, and raw_input_contents have {}",
            elements.len()
        ));
    }
    Ok(elements)
}

fn text(index: usize, element: Bytes) -> Result<String, Status> {
    if element.len() > MAX_TEXT_BYTES {
        return invalid(format!(
            "text {index} has {} bytes, and the most is {MAX_TEXT_BYTES}",
            element.len()
        ));
    }
    String::from_utf8(element.into()).or_else(|error| {
        invalid(format!(
            "text {index} is not UTF-8: invalid at byte {}",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// The output tensor, and its raw contents if it is to go raw.
pub(super) fn encode(values: Vec<f32>, rows: usize, raw: bool) -> (InferOutputTensor, Vec<Bytes>) {
    let dimension = values.len().checked_div(rows).unwrap_or(0);
    let shape = [rows, dimension]
        .map(|length| i64::try_from(length).unwrap_or(i64::MAX))
        .to_vec();
    let mut output = InferOutputTensor {
        name: OUTPUT.to_owned(),
        datatype: "FP32".to_owned(),
        shape,
        ..InferOutputTensor::default()
    };
    if raw {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        return (output, vec![bytes.into()]);
    }
    output.contents = Some(InferTensorContents {
        fp32_contents: values,
        ..InferTensorContents::default()
    });
    (output, Vec::new())
}

/// How the engine's refusals look to a caller.
pub(super) fn status(error: &EmbedError) -> Status {
    match error {
        EmbedError::DeadlineExceeded => Status::deadline_exceeded(error.to_string()),
        EmbedError::Backend(_) => Status::internal(error.to_string()),
        EmbedError::Closed => Status::unavailable(error.to_string()),
    }
}
