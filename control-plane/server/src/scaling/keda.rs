//! KEDA's external scaler: tells KEDA how many replicas a pool shall have.
//!
//! KEDA makes a HorizontalPodAutoscaler with an external metric of the type `AverageValue`, which asks for
//! `ceil(value / target)` replicas. The value here is the number that was decided and the target is 1, so it asks for exactly
//! those, unless its own tolerance, windows or bounds say otherwise; `docs/autoscaling.md` has what to do about these. An
//! error makes the HorizontalPodAutoscaler leave everything as it is.

use super::Pools;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use kilocard_proto::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use kilocard_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use kilocard_registry::worker::ServedModel;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The one metric.
pub const METRIC: &str = "kilocard-desired-replicas";

/// The service.
#[derive(Clone, Debug)]
pub struct Keda {
    pools: watch::Receiver<Option<Arc<Pools>>>,
    stop: CancellationToken,
}

impl Keda {
    /// One that tells what the channel holds, `None` for "nothing is decided yet"; its streams end when the token is
    /// cancelled.
    pub fn new(pools: watch::Receiver<Option<Arc<Pools>>>, stop: CancellationToken) -> Self {
        Self { pools, stop }
    }

    /// For a tonic router.
    pub fn into_service(self) -> ExternalScalerServer<Self> {
        ExternalScalerServer::new(self)
    }

    fn desired(&self, object: &ScaledObjectRef) -> Result<u32, Status> {
        desired(self.pools.borrow().as_deref(), object)
    }
}

#[tonic::async_trait]
impl ExternalScaler for Keda {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let result = self.desired(request.get_ref())? > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let begin = (self.pools.clone(), request.into_inner(), None);
        let told = try_unfold(begin, |(mut pools, object, before)| async move {
            loop {
                let result = desired(pools.borrow_and_update().as_deref(), &object)? > 0;
                if before != Some(result) {
                    return Ok(Some((IsActiveResponse { result }, (pools, object, Some(result)))));
                }
                if pools.changed().await.is_err() {
                    return Ok(None);
                }
            }
        });
        let stop = self.stop.clone().cancelled_owned();
        Ok(Response::new(told.take_until(stop).boxed()))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        self.desired(request.get_ref())?;
        let spec = MetricSpec {
            metric_name: METRIC.to_owned(),
            target_size: 1,
            target_size_float: 1.0,
        };
        Ok(Response::new(GetMetricSpecResponse {
            metric_specs: vec![spec],
        }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let request = request.into_inner();
        if request.metric_name != METRIC {
            return Err(Status::not_found(format!(
                "there is no metric {:?} here; the one there is is {METRIC}",
                request.metric_name
            )));
        }
        let desired = self.desired(&request.scaled_object_ref.unwrap_or_default())?;
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: desired.into(),
            metric_value_float: desired.into(),
        };
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![value],
        }))
    }
}

/// How many replicas the pool of a trigger shall have.
fn desired(pools: Option<&Pools>, object: &ScaledObjectRef) -> Result<u32, Status> {
    let said = |key: &str| {
        let value = object.scaler_metadata.get(key).filter(|value| !value.is_empty());
        value.cloned().ok_or_else(|| {
            Status::invalid_argument(format!(
                "ScaledObject {}/{}: the trigger's metadata lacks {key:?}; give it model and version",
                object.namespace, object.name
            ))
        })
    };
    let served = ServedModel {
        model: said("model")?,
        version: said("version")?,
    };
    let ServedModel { model, version } = &served;
    let Some(pools) = pools else {
        return Err(Status::unavailable(
            "nothing was read from the control plane's source yet: ask again",
        ));
    };
    let Some(pool) = pools.get(&served) else {
        return Err(Status::not_found(format!(
            "{model}/{version} is not known: no worker serves it, and neither a RoutingPolicy nor a ScalePolicy names it"
        )));
    };
    pool.desired().ok_or_else(|| {
        Status::not_found(format!(
            "no ScalePolicy is for {model}/{version}: apply one for it, or for all versions of {model}"
        ))
    })
}
