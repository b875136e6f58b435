//! One inference, from its message to its answer.

use super::tensor;
use crate::{deadline, models::Served};
use kilocard_engine::tokenizer::{TokenSequence, TokenizerError};
use kilocard_proto::inference::{ModelInferRequest, ModelInferResponse};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Status, metadata::MetadataMap};

/// tonic cancels a request at its deadline with CANCELLED. Giving up this much earlier, two ticks of the timer, lets the
/// caller see DEADLINE_EXCEEDED, and the metrics too.
const DEADLINE_MARGIN: Duration = Duration::from_millis(2);

/// Computes a request that arrived at `arrived`. Dropping the future takes the request out of the queue.
pub(super) async fn infer(
    served: &Arc<Served>,
    request: ModelInferRequest,
    metadata: &MetadataMap,
    arrived: Instant,
) -> Result<ModelInferResponse, Status> {
    let deadline =
        deadline::timeout(metadata)?.and_then(|timeout| arrived.checked_add(timeout.saturating_sub(DEADLINE_MARGIN)));
    let id = request.id.clone();
    let tensor::Texts { texts, raw } = tensor::decode(request)?;
    let rows = texts.len();

    let answer = async {
        let sequences = tokenize(served.clone(), texts).await?;
        let pending = served
            .embedder
            .submit(sequences, deadline)
            .map_err(|overloaded| Status::resource_exhausted(overloaded.to_string()))?;
        pending.await.map_err(|error| tensor::status(&error))
    };
    let embeddings = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), answer)
            .await
            .map_err(|_| Status::deadline_exceeded("the deadline passed before the inference was done"))??,
        None => answer.await?,
    };
    let (output, raw_output_contents) = tensor::encode(embeddings.values, rows, raw);
    Ok(ModelInferResponse {
        model_name: served.id.model.to_string(),
        model_version: served.id.version.to_string(),
        id,
        outputs: vec![output],
        raw_output_contents,
        ..ModelInferResponse::default()
    })
}

/// Tokenises on a thread where that may take its time.
async fn tokenize(served: Arc<Served>, texts: Vec<String>) -> Result<Vec<TokenSequence>, Status> {
    let task = tokio::task::spawn_blocking(move || texts.iter().map(|text| served.embedder.tokenize(text)).collect());
    let sequences: Result<_, TokenizerError> = task.await.map_err(|_| Status::internal("the tokenizer panicked"))?;
    sequences.map_err(|error| match error {
        TokenizerError::TextTooLong(_) => Status::invalid_argument(error.to_string()),
        TokenizerError::File(_) | TokenizerError::Text(_) => Status::internal(error.to_string()),
    })
}
