//! A client of the Open Inference Protocol v2 that can send any metadata and sees which worker answered.

use anyhow::{Context, Result};
use kilocard_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use kilocard_proto::inference::model_infer_request::InferInputTensor;
use kilocard_proto::inference::{InferTensorContents, ModelInferRequest, ServerReadyRequest};
use std::net::SocketAddr;
use std::time::Duration;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The metadata under which a worker gives its id with each reply.
pub const WORKER: &str = "x-kilocard-worker";

/// Name of the embedding models' input.
pub const INPUT: &str = "text";

const CONNECT: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(30);

/// One HTTP/2 connection to Envoy or straight to a worker.
#[derive(Clone, Debug)]
pub struct Client {
    service: GrpcInferenceServiceClient<Channel>,
}

/// What came back for an inference.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    /// The version that computed it, as the worker says.
    pub version: String,
    /// The worker's id.
    pub worker: String,
    /// One vector per text.
    pub embeddings: Vec<Vec<f32>>,
}

impl Client {
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT)
            .timeout(REQUEST);
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("connect to {address}"))?;
        Ok(Self {
            service: GrpcInferenceServiceClient::new(channel),
        })
    }

    /// Sentence embeddings (`ModelInfer`). The model is named in the request as stock clients do; routing goes by metadata.
    ///
    /// # Errors
    /// The call's status, or `Internal` for a reply that is not what the protocol says.
    pub async fn infer(&self, texts: &[&str], metadata: &[(&str, &str)]) -> Result<Inference, Status> {
        let message = embedding_request(texts);
        let reply = self.service.clone().model_infer(request(message, metadata)?).await?;
        let worker = worker_of(reply.metadata());
        let reply = reply.into_inner();
        let output = reply
            .outputs
            .first()
            .ok_or_else(|| Status::internal("no output tensor"))?;
        let raw = reply.raw_output_contents.first();
        let values: Vec<f32> = match (raw, &output.contents) {
            (Some(bytes), _) => bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
            (None, Some(contents)) => contents.fp32_contents.clone(),
            (None, None) => return Err(Status::internal("an output tensor without contents")),
        };
        let [rows, width] = output.shape[..] else {
            return Err(Status::internal(format!(
                "output of shape {:?}, expected [texts, dims]",
                output.shape
            )));
        };
        let (rows, width) = (usize::try_from(rows).unwrap_or(0), usize::try_from(width).unwrap_or(0));
        if rows != texts.len() || width == 0 || rows * width != values.len() {
            return Err(Status::internal(format!(
                "{} values for shape {:?}",
                values.len(),
                output.shape
            )));
        }
        let embeddings = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
        Ok(Inference {
            version: reply.model_version,
            worker,
            embeddings,
        })
    }

    /// Asks whether the server behind the chosen route is ready (`ServerReady`): the whole way of a request without the
    /// computation. Gives the id of the worker that answered.
    ///
    /// # Errors
    /// The call's status.
    pub async fn ready(&self, metadata: &[(&str, &str)]) -> Result<String, Status> {
        let reply = self
            .service
            .clone()
            .server_ready(request(ServerReadyRequest {}, metadata)?)
            .await?;
        Ok(worker_of(reply.metadata()))
    }
}

/// The `ModelInfer` message for the embeddings of these texts.
pub fn embedding_request(texts: &[&str]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: INPUT.to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![i64::try_from(texts.len()).unwrap_or(i64::MAX)],
        contents: Some(InferTensorContents {
            bytes_contents: texts.iter().map(|text| text.as_bytes().to_vec().into()).collect(),
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: "minilm".to_owned(),
        inputs: vec![input],
        ..ModelInferRequest::default()
    }
}

fn request<T>(message: T, metadata: &[(&str, &str)]) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        let bad = |what: &str| Status::new(Code::Internal, format!("{key}: {value:?} cannot be sent as a {what}"));
        let key = MetadataKey::from_bytes(key.as_bytes()).map_err(|_| bad("key"))?;
        let value = MetadataValue::try_from(*value).map_err(|_| bad("value"))?;
        request.metadata_mut().insert(key, value);
    }
    Ok(request)
}

fn worker_of(metadata: &MetadataMap) -> String {
    metadata
        .get(WORKER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// Cosine similarity of two vectors of the same length, in double precision.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_of_known_vectors_is_known() {
        assert!((cosine(&[3.0, 4.0], &[4.0, 3.0]) - 0.96).abs() < 1e-12);
        assert!((cosine(&[1.0, 2.0], &[-2.0, 1.0])).abs() < 1e-12);
        assert!((cosine(&[1.0, 2.0], &[-2.0, -4.0]) + 1.0).abs() < 1e-12);
    }
}
