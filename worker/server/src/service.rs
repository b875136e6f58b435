//! `inference.GRPCInferenceService`: the Open Inference Protocol v2.

mod describe;
mod infer;
mod origin;
mod stream;
mod tensor;

#[cfg(test)]
mod tests;

use crate::{
    health::Health,
    metrics::Metrics,
    models::{Models, ResolveError, Served},
};
use kilocard_proto::inference::{self as oip, grpc_inference_service_server::GrpcInferenceService};
use origin::Origin;
use std::{num::NonZero, sync::Arc, thread, time::Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use tracing::Instrument;

/// The version that the mesh decided on; set by the gateway filter.
const ROUTE: &str = "x-kilocard-route";
/// Who answered.
const WORKER: &str = "x-kilocard-worker";

/// The service.
#[derive(Clone, Debug)]
pub struct InferenceService {
    models: Arc<Models>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    ended: CancellationToken,
    // Requests that may be tokenised at a time: as many as there are cores.
    turns: Arc<Semaphore>,
    worker: MetadataValue<Ascii>,
}

impl InferenceService {
    /// Serves these models as the worker `id`. While `health` says that it takes none, it is not ready, and
    /// answers all the same; once `ended` is cancelled, it ends its streams.
    pub fn new(
        models: Arc<Models>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        ended: CancellationToken,
        id: &str,
    ) -> Self {
        // Names are checked to be plain ASCII.
        let worker = id.parse().unwrap_or_else(|_| MetadataValue::from_static("unnamed"));
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            models,
            metrics,
            health,
            ended,
            turns: Arc::new(Semaphore::new(cores)),
            worker,
        }
    }

    /// Says who answered, also when the answer is an error.
    fn sign<T>(&self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let sign = |metadata: &mut MetadataMap| drop(metadata.insert(WORKER, self.worker.clone()));
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                sign(response.metadata_mut());
                Ok(response)
            }
            Err(mut status) => {
                sign(status.metadata_mut());
                Err(status)
            }
        }
    }

    fn resolve(&self, model: &str, version: &str, metadata: &MetadataMap) -> Result<&Arc<Served>, Status> {
        let route = match metadata.get(ROUTE) {
            Some(route) => Some(
                route
                    .to_str()
                    .map_err(|_| Status::invalid_argument("x-kilocard-route is not ASCII"))?,
            ),
            None => None,
        };
        self.models.resolve(model, version, route).map_err(|error| match error {
            ResolveError::NotFound { .. } => Status::not_found(error.to_string()),
            ResolveError::NoModel(_) | ResolveError::RouteConflict { .. } | ResolveError::Route(_) => {
                Status::invalid_argument(error.to_string())
            }
        })
    }

    /// Computes a request of a call that began then, and counts it.
    async fn compute(
        &self,
        request: oip::ModelInferRequest,
        metadata: &MetadataMap,
        began: Instant,
    ) -> Result<oip::ModelInferResponse, Status> {
        let arrived = Instant::now();
        let _in_flight = self.metrics.meter().enter();
        let origin = Origin::of(metadata);
        // A copy goes to another version than the one that its original may name.
        let version = if origin.is_shadow { "" } else { &request.model_version };
        let served = self.resolve(&request.model_name, version, metadata);
        let id = served.as_ref().ok().map(|served| served.id.clone());
        let answer = async {
            let result = match (served, infer::deadline(metadata, began)) {
                (Ok(served), Ok(deadline)) => infer::infer(served, request, deadline, &self.turns).await,
                (Err(status), _) | (_, Err(status)) => Err(status),
            };
            let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
            tracing::debug!(?code, took = ?arrived.elapsed(), "answered");
            self.metrics.request(id.as_ref(), code, arrived.elapsed());
            if origin.is_shadow {
                self.metrics.shadow_request(id.as_ref());
            }
            result
        };
        answer.instrument(origin.span()).await
    }

    fn unimplemented<T>(&self, rpc: &str) -> Result<Response<T>, Status> {
        self.sign(Err(Status::unimplemented(format!(
            "this worker does not implement {rpc}"
        ))))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(
        &self,
        _: Request<oip::ServerLiveRequest>,
    ) -> Result<Response<oip::ServerLiveResponse>, Status> {
        self.sign(Ok(oip::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<oip::ServerReadyRequest>,
    ) -> Result<Response<oip::ServerReadyResponse>, Status> {
        self.sign(Ok(oip::ServerReadyResponse {
            ready: self.health.is_serving(),
        }))
    }

    /// A model that is not here is not ready, which is an answer and not an error.
    async fn model_ready(
        &self,
        request: Request<oip::ModelReadyRequest>,
    ) -> Result<Response<oip::ModelReadyResponse>, Status> {
        let (metadata, _, oip::ModelReadyRequest { name, version }) = request.into_parts();
        self.sign(match self.resolve(&name, &version, &metadata) {
            Ok(_) => Ok(oip::ModelReadyResponse {
                ready: self.health.is_serving(),
            }),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(oip::ModelReadyResponse { ready: false }),
            Err(status) => Err(status),
        })
    }

    async fn server_metadata(
        &self,
        _: Request<oip::ServerMetadataRequest>,
    ) -> Result<Response<oip::ServerMetadataResponse>, Status> {
        self.sign(Ok(describe::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<oip::ModelMetadataRequest>,
    ) -> Result<Response<oip::ModelMetadataResponse>, Status> {
        let (metadata, _, oip::ModelMetadataRequest { name, version }) = request.into_parts();
        self.sign(
            self.resolve(&name, &version, &metadata)
                .map(|served| describe::model(served, &self.models)),
        )
    }

    async fn model_infer(
        &self,
        request: Request<oip::ModelInferRequest>,
    ) -> Result<Response<oip::ModelInferResponse>, Status> {
        let began = Instant::now();
        let (metadata, _, message) = request.into_parts();
        self.sign(self.compute(message, &metadata, began).await)
    }

    async fn model_config(
        &self,
        request: Request<oip::ModelConfigRequest>,
    ) -> Result<Response<oip::ModelConfigResponse>, Status> {
        let (metadata, _, oip::ModelConfigRequest { name, version }) = request.into_parts();
        let config = self
            .resolve(&name, &version, &metadata)
            .map(|served| describe::config(served));
        self.sign(config.map(|config| oip::ModelConfigResponse { config: Some(config) }))
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<oip::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, _, requests) = request.into_parts();
        self.sign(Ok(stream::answer(self, metadata, requests)))
    }

    async fn model_statistics(
        &self,
        _: Request<oip::ModelStatisticsRequest>,
    ) -> Result<Response<oip::ModelStatisticsResponse>, Status> {
        self.unimplemented("ModelStatistics")
    }

    async fn repository_index(
        &self,
        _: Request<oip::RepositoryIndexRequest>,
    ) -> Result<Response<oip::RepositoryIndexResponse>, Status> {
        self.unimplemented("RepositoryIndex")
    }

    async fn repository_model_load(
        &self,
        _: Request<oip::RepositoryModelLoadRequest>,
    ) -> Result<Response<oip::RepositoryModelLoadResponse>, Status> {
        self.unimplemented("RepositoryModelLoad")
    }

    async fn repository_model_unload(
        &self,
        _: Request<oip::RepositoryModelUnloadRequest>,
    ) -> Result<Response<oip::RepositoryModelUnloadResponse>, Status> {
        self.unimplemented("RepositoryModelUnload")
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<oip::SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryStatusResponse>, Status> {
        self.unimplemented("SystemSharedMemoryStatus")
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<oip::SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryRegisterResponse>, Status> {
        self.unimplemented("SystemSharedMemoryRegister")
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<oip::SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<oip::SystemSharedMemoryUnregisterResponse>, Status> {
        self.unimplemented("SystemSharedMemoryUnregister")
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<oip::CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryStatusResponse>, Status> {
        self.unimplemented("CudaSharedMemoryStatus")
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<oip::CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryRegisterResponse>, Status> {
        self.unimplemented("CudaSharedMemoryRegister")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<oip::CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<oip::CudaSharedMemoryUnregisterResponse>, Status> {
        self.unimplemented("CudaSharedMemoryUnregister")
    }

    async fn trace_setting(
        &self,
        _: Request<oip::TraceSettingRequest>,
    ) -> Result<Response<oip::TraceSettingResponse>, Status> {
        self.unimplemented("TraceSetting")
    }

    async fn log_settings(
        &self,
        _: Request<oip::LogSettingsRequest>,
    ) -> Result<Response<oip::LogSettingsResponse>, Status> {
        self.unimplemented("LogSettings")
    }
}
