//! An etcd that asks its clients for certificates and passwords, and every program of ours that reaches it.

use crate::store::{accepted, eventually, routing, routing_key};
use anyhow::{Context, Result, ensure};
use etcd_client::{Client, Permission, PermissionType};
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::Layout;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::certificates::Certificates;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::etcd::{Etcd, Options};
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use std::fs;
use std::path::Path;
use std::process::Command;

const PASSWORD: &str = "a secret of the mesh";

#[tokio::test]
async fn etcd_is_reached_over_tls_with_a_certificate_and_as_a_user_and_never_without() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-credentials")?);
    let certificates = Certificates::make(&run.dir().join("certificates"))?;
    let options = Options {
        arguments: Vec::new(),
        tls: Some(certificates.clone()),
    };
    let etcd = Etcd::start_with(&install, run.dir(), options).await?;
    let password_file = run.dir().join("password");
    fs::write(&password_file, format!("{PASSWORD}\n"))?;
    let mut args = etcd.args();
    enable_authentication(&mut args.connect().await?).await?;
    refused_without(&args).await?;

    args.user = Some("kilocard".to_owned());
    args.password_file = Some(password_file.clone());
    let flags = flags(&args)?;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut control_plane = ControlPlane::start_alone(&install, run.dir(), "control-plane", &flags).await?;
    // The command line shares the flags, and so does the worker: all take them from one crate.
    let policy = run.dir().join("policy.yaml");
    fs::write(&policy, routing("m", true, "1").to_string())?;
    poll::until("the policy to be applied", DEADLINE, async || {
        kilocard(&install.cli, &flags, &["apply", "-f", &policy.display().to_string()])
    })
    .await?;
    eventually(&control_plane, "the policy to be in force", |report| {
        accepted(report, "m").map(drop)
    })
    .await?;
    // Written as the elected one, which takes permission for the election's keys.
    let status = format!("{}policies/RoutingPolicy/m", Layout::default().statuses());
    poll::until("the verdict to be written", DEADLINE, async || {
        let found = args.connect().await?.get(status.as_str(), None).await?;
        found.kvs().first().context("none").map(drop)
    })
    .await?;
    let help = Command::new(&install.worker).args(["serve", "--help"]).output()?;
    ensure!(String::from_utf8_lossy(&help.stdout).contains("--etcd-password-file"));

    // Another authority's certificate, and a wrong password, are told as such.
    let other = Certificates::make(&run.dir().join("other"))?;
    let wrong = EtcdArgs {
        ca: Some(other.authority),
        ..args.clone()
    };
    let error = refusal(&wrong).await?;
    ensure!(
        error.contains("certificate") || error.contains("UnknownIssuer"),
        "{error}"
    );
    fs::write(&password_file, "another")?;
    let error = refusal(&args).await?;
    ensure!(error.contains("authentication failed"), "{error}");
    control_plane.stop().await?;
    run.discard();
    Ok(())
}

/// A user of the mesh's keys and no others, besides etcd's `root`.
async fn enable_authentication(client: &mut Client) -> Result<()> {
    client.user_add("root", "root", None).await?;
    client.role_add("root").await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("mesh").await?;
    let prefix = Layout::default().root();
    let prefix = prefix.trim_end_matches('/');
    // One range for the mesh, its history and its election.
    let permission = Permission::new(PermissionType::Readwrite, prefix).with_prefix();
    client.role_grant_permission("mesh", permission).await?;
    client.user_add("kilocard", PASSWORD, None).await?;
    client.user_grant_role("kilocard", "mesh").await?;
    client.auth_enable().await?;
    Ok(())
}

async fn refused_without(args: &EtcdArgs) -> Result<()> {
    let key = Layout::default().key(&routing_key("m"));
    let mut nobody = args.connect().await?;
    ensure!(
        nobody.get(key, None).await.is_err(),
        "etcd took a request without a user"
    );
    let without = EtcdArgs {
        cert: None,
        key: None,
        ..args.clone()
    };
    let error = refusal(&without).await?;
    ensure!(error.contains("cannot reach etcd"), "{error}");
    Ok(())
}

async fn refusal(args: &EtcdArgs) -> Result<String> {
    match args.connect().await {
        Ok(_) => anyhow::bail!("etcd let it in"),
        Err(error) => Ok(error.to_string()),
    }
}

/// As a command line.
fn flags(args: &EtcdArgs) -> Result<Vec<String>> {
    let path = |path: &Option<std::path::PathBuf>| Ok(path.as_ref().context("a path")?.display().to_string());
    let pairs: [(&str, Result<String>); 6] = [
        ("--etcd", Ok(args.endpoints.join(","))),
        ("--etcd-ca", path(&args.ca)),
        ("--etcd-cert", path(&args.cert)),
        ("--etcd-key", path(&args.key)),
        ("--etcd-user", args.user.clone().context("a user")),
        ("--etcd-password-file", path(&args.password_file)),
    ];
    let mut flags = Vec::new();
    for (flag, value) in pairs {
        flags.extend([flag.to_owned(), value?]);
    }
    Ok(flags)
}

fn kilocard(program: &Path, flags: &[&str], arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(flags).args(arguments).output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
