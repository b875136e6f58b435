//! Three members of etcd, of which one is killed, frozen or cut off, under a control plane that is told all three.

use crate::store::{accepted, eventually, routing, routing_key};
use anyhow::{Result, ensure};
use kilocard_registry::layout::Layout;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::etcd_cluster::EtcdCluster;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};

/// A cluster, a control plane, and how often the policy was written.
struct Bench {
    cluster: EtcdCluster,
    control_plane: ControlPlane,
    written: u32,
}

#[tokio::test]
async fn a_member_that_is_killed_frozen_or_alone_does_not_keep_changes_from_proxies() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-cluster")?);
    let cluster = EtcdCluster::start(&install, run.dir()).await?;
    let arguments = ["--etcd", &cluster.endpoints(), "--etcd-timeout-ms", "1500"];
    let control_plane = ControlPlane::start_alone(&install, run.dir(), "control-plane", &arguments).await?;
    let mut bench = Bench {
        cluster,
        control_plane,
        written: 0,
    };
    bench.a_change_arrives().await?;
    bench.kill_the_leader().await?;
    bench.freeze_each().await?;
    bench.one_alone_is_told_from_one_that_serves().await?;
    let metrics = bench.control_plane.page("/metrics").await?;
    ensure!(!metrics.contains("relists_total{reason=\"out_of_order\"}"), "{metrics}");
    bench.control_plane.stop().await?;
    run.discard();
    Ok(())
}

impl Bench {
    /// Writes the policy through whichever member takes it, and waits until the control plane has it.
    async fn a_change_arrives(&mut self) -> Result<()> {
        self.written += 1;
        let key = Layout::default().key(&routing_key("m"));
        let document = routing("m", true, &self.written.to_string()).to_string();
        let mut args = self.cluster.member(0).args();
        args.endpoints = self.cluster.endpoints().split(',').map(ToOwned::to_owned).collect();
        args.timeout_ms = 1500;
        let revision = poll::until("a majority to take the write", DEADLINE, async || {
            let answer = args.connect().await?.put(key.as_str(), document.as_str(), None).await?;
            Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
        })
        .await?;
        eventually(&self.control_plane, "the change to arrive", |report| {
            let served = accepted(report, "m")?;
            ensure!(served >= revision, "{served} of {revision}");
            Ok(())
        })
        .await
        .map(drop)
    }

    async fn kill_the_leader(&mut self) -> Result<()> {
        let leader = self.cluster.leader().await?;
        self.cluster.member(leader).kill().await?;
        self.a_change_arrives().await?;
        self.cluster.member(leader).restart().await
    }

    /// Whichever of them the control plane watches, its connection falls silent without an end.
    async fn freeze_each(&mut self) -> Result<()> {
        for index in 0..3 {
            self.cluster.member(index).pause();
            let arrived = self.a_change_arrives().await;
            self.cluster.member(index).resume();
            arrived?;
        }
        Ok(())
    }

    /// Without a majority nothing can be read that is known to be new: the last good state stays, and says so.
    async fn one_alone_is_told_from_one_that_serves(&mut self) -> Result<()> {
        let before = accepted(&self.control_plane.report().await?, "m")?;
        for index in 0..2 {
            self.cluster.member(index).kill().await?;
        }
        eventually(&self.control_plane, "the loss of the majority to be told", |report| {
            ensure!(!report.control_plane.etcd_connected && accepted(report, "m")? == before);
            Ok(())
        })
        .await?;
        self.cluster.member(0).restart().await?;
        self.a_change_arrives().await
    }
}
