//! How many replicas there shall be, from a worker's report through etcd and the control plane to KEDA, which is played by a
//! gRPC client.

use anyhow::{Context, Result, ensure};
use kilocard_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use kilocard_proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use kilocard_registry::report::ScaleReport;
use kilocard_registry::telemetry::EngineLoad;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::admin::Admin;
use kilocard_testbed::harness::worker::SimulatedGpu;
use kilocard_testbed::load::Load;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::prometheus;
use kilocard_testbed::starter::{self, V1_A};
use std::collections::HashMap;
use tonic::Code;
use tonic::transport::Channel;

/// As in docs/autoscaling.md, but that fewer are decided sooner.
const SCALE: &str = "api_version: kilocard/v1
kind: ScalePolicy
metadata: {name: minilm}
spec:
  model: minilm
  max_replicas: 10
  targets: {qps_per_replica: 50, memory_percent: 85}
  scale_down: {stabilization_s: 1, period_s: 1}
";

fn card() -> SimulatedGpu {
    SimulatedGpu::h100("0000:1b:00.0")
}

/// The card of an engine that says that it had so many requests.
fn busy(requests_per_second: f64) -> SimulatedGpu {
    let engine = EngineLoad {
        requests_per_second: Some(requests_per_second),
        ..EngineLoad::default()
    };
    SimulatedGpu { engine, ..card() }
}

fn object(version: &str) -> ScaledObjectRef {
    let metadata = [("model", "minilm"), ("version", version)];
    ScaledObjectRef {
        name: "minilm".to_owned(),
        namespace: "models".to_owned(),
        scaler_metadata: HashMap::from(metadata.map(|(key, value)| (key.to_owned(), value.to_owned()))),
    }
}

struct Keda(ExternalScalerClient<Channel>);

impl Keda {
    /// What the autoscaler is made to ask for: the value over its target.
    async fn desired(&mut self, version: &str) -> Result<f64> {
        let spec = self.0.get_metric_spec(object(version)).await?.into_inner();
        let spec = spec.metric_specs.first().context("there is a metric")?.clone();
        let request = GetMetricsRequest {
            scaled_object_ref: Some(object(version)),
            metric_name: spec.metric_name.clone(),
        };
        let metrics = self.0.get_metrics(request).await?.into_inner();
        let value = metrics.metric_values.first().context("it has a value")?;
        Ok(value.metric_value_float / spec.target_size_float)
    }

    async fn await_desired(&mut self, replicas: f64, why: &str) -> Result<()> {
        poll::until(
            &format!("{replicas} replicas to be asked for: {why}"),
            DEADLINE,
            async || {
                let desired = self.desired("v1").await?;
                ensure!(desired.to_bits() == replicas.to_bits(), "{desired} are");
                Ok(())
            },
        )
        .await
    }
}

async fn pool(testbed: &Testbed) -> Result<ScaleReport> {
    let status = testbed.status().await?;
    let mut pools = status.scaling.into_iter();
    pools.find(|pool| pool.version == "v1").context("v1 is reported")
}

#[tokio::test]
async fn load_changes_the_number_of_replicas_that_keda_is_told() -> Result<()> {
    let builder = Testbed::builder("e2e-autoscaling")
        .policy(starter::routing(0))
        .policy(SCALE);
    let mut testbed = builder.worker(starter::v1_a()).start().await?;
    let address = testbed.control_plane().xds();
    let mut keda = Keda(ExternalScalerClient::connect(format!("http://{address}")).await?);
    keda.await_desired(1.0, "the worker has nothing to do").await?;
    ensure!(keda.0.is_active(object("v1")).await?.into_inner().result);
    let unknown = keda.0.is_active(object("v9")).await;
    ensure!(unknown.is_err_and(|status| status.code() == Code::NotFound));

    testbed.worker(V1_A)?.set_gpu(&busy(120.0))?;
    keda.await_desired(3.0, "120 requests per second over 50").await?;
    everybody_says_so(&mut testbed).await?;

    // Full memory would keep the three: two are on their way, and would take over most of it.
    testbed.worker(V1_A)?.set_gpu(&busy(0.0))?;
    keda.await_desired(1.0, "no request comes any more").await?;
    let full = SimulatedGpu {
        memory_free_bytes: 1 << 30,
        ..busy(0.0)
    };
    testbed.worker(V1_A)?.set_gpu(&full)?;
    keda.await_desired(2.0, "99 % of the memory over 85").await?;
    testbed.worker(V1_A)?.set_gpu(&card())?;
    keda.await_desired(1.0, "all is quiet again").await?;
    requests_are_counted_by_the_worker(&testbed).await?;
    testbed.finish().await
}

async fn everybody_says_so(testbed: &mut Testbed) -> Result<()> {
    let report = pool(testbed).await?;
    ensure!(report.desired_replicas == Some(3) && report.simulated, "{report:?}");
    ensure!(report.policy.as_deref() == Some("minilm"), "{report:?}");
    let shown = testbed.kilocard(&["status"]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let line = shown
        .lines()
        .find(|line| line.contains("minilm/v1") && line.contains("120.0"));
    ensure!(line.is_some_and(|line| line.ends_with("(simulated)")), "{shown}");
    let metrics = Admin::new(testbed.control_plane().admin()).page("/metrics").await?;
    for (name, value) in [
        ("kilocard_pool_desired_replicas", 3.0),
        ("kilocard_pool_ready_replicas", 1.0),
        ("kilocard_pool_qps", 120.0),
        ("kilocard_pool_gpu_memory_used_percent", 25.0),
        ("kilocard_pool_simulated", 1.0),
    ] {
        let found = prometheus::sum(&metrics, name, &[("model", "minilm"), ("version", "v1")]);
        ensure!((found - value).abs() < 1e-9, "{name} is {found}, not {value}");
    }
    Ok(())
}

/// What the card's file does not say is measured.
async fn requests_are_counted_by_the_worker(testbed: &Testbed) -> Result<()> {
    let load = Load::start(testbed.gateway(), 2, &[("x-model-version", "v1")]).await?;
    poll::until("real requests to be reported", DEADLINE, async || {
        let qps = pool(testbed).await?.qps.context("it is told")?;
        ensure!(qps > 0.0, "none yet");
        Ok(())
    })
    .await?;
    load.stop().await;
    Ok(())
}
