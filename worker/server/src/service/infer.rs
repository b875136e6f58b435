//! One inference, from its message to its answer.

use super::tensor;
use crate::{deadline, models::Served};
use kilocard_engine::{
    batch::Refused,
    tokenizer::{TokenSequence, TokenizerError},
};
use kilocard_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap};

/// tonic cancels a request at its deadline with CANCELLED. Giving up this much earlier, two ticks of the timer, lets the
/// caller see DEADLINE_EXCEEDED, and the metrics too.
const DEADLINE_MARGIN: Duration = Duration::from_millis(2);
/// The response's parameter that says how many texts were longer than the model takes.
pub(super) const TRUNCATED_TEXTS: &str = "truncated_texts";

/// When the caller of a call that began at `began` gives up.
pub(super) fn deadline(metadata: &MetadataMap, began: Instant) -> Result<Option<Instant>, Status> {
    let timeout = deadline::timeout(metadata)?;
    Ok(timeout.and_then(|timeout| began.checked_add(timeout.saturating_sub(DEADLINE_MARGIN))))
}

/// Computes a request. Dropping the future takes it out of the queue, and off the tokenizer after the text in hand.
/// `turns` is how many requests may be tokenised at a time.
pub(super) async fn infer(
    served: &Arc<Served>,
    request: ModelInferRequest,
    deadline: Option<Instant>,
    turns: &Arc<Semaphore>,
) -> Result<ModelInferResponse, Status> {
    let id = request.id.clone();
    let tensor::Texts { texts, raw } = tensor::decode(request)?;
    let rows = texts.len();
    // Before any text is tokenised: under overload, a refusal must be cheap.
    let places = served.embedder.reserve(rows).map_err(|refused| match refused {
        Refused::Overloaded { .. } => Status::resource_exhausted(refused.to_string()),
        Refused::TooLarge { .. } => Status::invalid_argument(refused.to_string()),
    })?;

    let answer = async {
        let sequences = tokenize(served.clone(), texts, turns.clone()).await?;
        let truncated = sequences.iter().filter(|sequence| sequence.truncated).count();
        let embeddings = places.submit(sequences, deadline).await;
        Ok::<_, Status>((embeddings.map_err(|error| tensor::status(&error))?, truncated))
    };
    let (embeddings, truncated) = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), answer)
            .await
            .map_err(|_| Status::deadline_exceeded("the deadline passed before the inference was done"))?,
        None => answer.await,
    }?;
    let (output, raw_output_contents) = tensor::encode(embeddings.values, rows, raw);
    Ok(ModelInferResponse {
        model_name: served.id.model.to_string(),
        model_version: served.id.version.to_string(),
        id,
        parameters: parameters(truncated),
        outputs: vec![output],
        raw_output_contents,
    })
}

fn parameters(truncated: usize) -> HashMap<String, InferParameter> {
    let count = i64::try_from(truncated).ok().filter(|count| *count > 0);
    let parameter = |count| InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(count)),
    };
    count
        .map(|count| (TRUNCATED_TEXTS.to_owned(), parameter(count)))
        .into_iter()
        .collect()
}

/// Tokenises, when it is its turn, on a thread where that may take its time.
async fn tokenize(
    served: Arc<Served>,
    texts: Vec<String>,
    turns: Arc<Semaphore>,
) -> Result<Vec<TokenSequence>, Status> {
    let gone = || Status::cancelled("the caller left");
    let turn = turns.acquire_owned().await.map_err(|_| gone())?;
    let left = CancellationToken::new();
    let _leaving = left.clone().drop_guard();
    let task = tokio::task::spawn_blocking(move || {
        // Kept until the thread is free again, also when the caller has left.
        let _turn = turn;
        until_left(&texts, &left, |text| served.embedder.tokenize(text))
    });
    let sequences = task.await.map_err(|_| Status::internal("the tokenizer panicked"))?;
    sequences.ok_or_else(gone)?.map_err(|error| match error {
        TokenizerError::TextTooLong(_) => Status::invalid_argument(error.to_string()),
        TokenizerError::File(_) | TokenizerError::Text(_) => Status::internal(error.to_string()),
    })
}

/// What `tokenize` makes of each text; `None` if the caller left before the last.
fn until_left<T, E>(
    texts: &[String],
    left: &CancellationToken,
    mut tokenize: impl FnMut(&str) -> Result<T, E>,
) -> Option<Result<Vec<T>, E>> {
    texts
        .iter()
        .map(|text| (!left.is_cancelled()).then(|| tokenize(text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenising_stops_after_the_text_in_hand_when_the_caller_leaves() {
        let (left, mut seen) = (CancellationToken::new(), Vec::new());
        let texts = ["a", "b", "c", "d"].map(str::to_owned);
        let result = until_left(&texts, &left, |text| {
            seen.push(text.to_owned());
            if text == "b" {
                left.cancel();
            }
            Ok::<_, ()>(())
        });
        assert_eq!(result, None);
        assert_eq!(seen, ["a", "b"]);
    }
}
