//! Three etcds that agree by majority.

use super::etcd::{Etcd, Member, Options, free_ports};
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use anyhow::{Context, Result};
use std::path::Path;

/// A cluster of three on loopback.
#[derive(Debug)]
pub struct EtcdCluster {
    members: [Etcd; 3],
}

impl EtcdCluster {
    /// Starts three members and waits until each has a leader.
    ///
    /// # Errors
    /// If they do not come to agree.
    pub async fn start(install: &Install, dir: &Path) -> Result<Self> {
        let [c0, c1, c2, p0, p1, p2] = free_ports()?;
        let cluster = format!("m0=http://127.0.0.1:{p0},m1=http://127.0.0.1:{p1},m2=http://127.0.0.1:{p2}");
        let member = |name: &str, client_port, peer_port| {
            let member = Member {
                name: name.to_owned(),
                client_port,
                peer_port,
                cluster: cluster.clone(),
            };
            let mut etcd = Etcd::prepare(install, dir, member, Options::default())?;
            etcd.spawn()?;
            anyhow::Ok(etcd)
        };
        let mut cluster = Self {
            members: [member("m0", c0, p0)?, member("m1", c1, p1)?, member("m2", c2, p2)?],
        };
        for etcd in &mut cluster.members {
            let args = etcd.args();
            let process = etcd.process_mut().context("it was started")?;
            poll::until("a member to have a leader", DEADLINE, async || {
                if let Err(ended) = process.check() {
                    return Ok(Err(ended));
                }
                args.connect().await?;
                Ok(Ok(()))
            })
            .await??;
        }
        Ok(cluster)
    }

    /// All client endpoints, as `--etcd` takes them.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<String> = self.members.iter().map(Etcd::endpoint).collect();
        endpoints.join(",")
    }

    /// One of the three.
    pub fn member(&mut self, index: usize) -> &mut Etcd {
        &mut self.members[index]
    }

    /// Which member leads now, as a majority sees it.
    ///
    /// # Errors
    /// If none does within the deadline.
    pub async fn leader(&self) -> Result<usize> {
        poll::until("the cluster to have a leader", DEADLINE, async || {
            for (index, etcd) in self.members.iter().enumerate() {
                let Ok(mut client) = etcd.args().connect().await else {
                    continue;
                };
                let status = client.status().await?;
                let id = status.header().context("a header")?.member_id();
                if status.leader() == id {
                    return Ok(index);
                }
            }
            anyhow::bail!("no member says that it leads")
        })
        .await
    }
}
