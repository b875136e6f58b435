//! SDS: certificates from the folder `--secrets` on a listener of Envoy's own bootstrap, as a TLS client sees them.

use crate::scene::{Given, Place, Scene, routing};
use anyhow::{Context, Result, anyhow, ensure};
use kilocard_registry::report::SecretReport;
use kilocard_testbed::harness::certificates::Certificates;
use kilocard_testbed::harness::envoy::{Ads, Envoy, documented_bootstrap};
use kilocard_testbed::harness::static_envoy::config;
use kilocard_testbed::poll::{self, DEADLINE};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LISTENER: &str = "tls";
const GREETING: &str = "hello over TLS";

/// The documented bootstrap, and a listener that greets whoever has a certificate of `edge/ca`, under the certificate `edge`.
fn bootstrap(place: &Place, xds: SocketAddr) -> Result<Value> {
    let secret = |name: &str| json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let mut listener =
        config::bootstrap(Vec::new(), &[config::answer(200, GREETING)], &[])["static_resources"]["listeners"][0].take();
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [secret("edge")],
                "validation_context_sds_secret_config": secret("edge/ca"),
            },
        },
    });
    listener["name"] = json!(LISTENER);
    let mut document = documented_bootstrap(&place.install, xds, Ads::Incremental)?;
    document["static_resources"]["listeners"] = json!([listener]);
    Ok(document)
}

/// Where the listener is, once it is bound.
async fn listener(envoy: &Envoy) -> Result<SocketAddr> {
    poll::until("the TLS listener", DEADLINE, async || {
        let page = envoy.json("/listeners?format=json").await?;
        let mut statuses = page["listener_statuses"].as_array().context("none")?.iter();
        let status = statuses.find(|status| status["name"] == LISTENER).context("not yet")?;
        let port = &status["local_address"]["socket_address"]["port_value"];
        let port = u16::try_from(port.as_u64().context("no port")?)?;
        ensure!(port != 0, "not bound");
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    })
    .await
}

/// Greets as the client of `own`, trusting the authority of `trusted` alone; the certificate that was presented.
async fn greet(address: SocketAddr, own: &Certificates, trusted: &Certificates) -> Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    roots.add(first(&trusted.authority)?)?;
    let (certificate, key) = &own.client;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![first(certificate)?], PrivateKeyDer::from_pem_file(key)?)?;
    tokio::task::spawn_blocking(move || {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let client = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
        let mut stream = StreamOwned::new(client, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n")?;
        let mut reply = Vec::new();
        // In TLS 1.3 the client learns only now whether its own certificate was taken.
        stream.read_to_end(&mut reply)?;
        let reply = String::from_utf8_lossy(&reply);
        ensure!(
            reply.starts_with("HTTP/1.1 200") && reply.ends_with(GREETING),
            "{reply}"
        );
        let presented = stream.conn.peer_certificates().and_then(<[_]>::first);
        Ok(presented.context("no certificate")?.clone().into_owned())
    })
    .await?
}

async fn ensure_turned_away(address: SocketAddr, own: &Certificates, trusted: &Certificates) -> Result<()> {
    let refused = greet(address, own, trusted)
        .await
        .err()
        .context("a stranger was greeted")?;
    ensure!(
        format!("{refused:#}").contains("alert"),
        "by Envoy, and for its certificate: {refused:#}"
    );
    Ok(())
}

fn first(pem: &Path) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(pem).map_err(|error| anyhow!("{}: {error}", pem.display()))
}

/// The folder of the secret `edge`.
struct Edge<'e>(&'e Path);

impl Edge<'_> {
    fn pair(&self, certificate: &Path, key: &Path) -> Result<()> {
        self.replace(certificate, "tls.crt")?;
        self.replace(key, "tls.key")
    }

    fn replace(&self, with: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(self.0)?;
        let beside = self.0.join(".beside");
        fs::copy(with, &beside)?;
        Ok(fs::rename(beside, self.0.join(name))?)
    }
}

async fn secret(scene: &Scene) -> Result<SecretReport> {
    let report = scene.control_plane.report().await?;
    let found = report.secrets.iter().find(|secret| secret.name == "edge");
    Ok(found.with_context(|| format!("{:?}", report.secrets))?.clone())
}

#[tokio::test]
async fn a_certificate_is_served_and_rotated_and_one_without_its_key_leaves_the_last_good_one() -> Result<()> {
    let place = Place::new("e2e-xds-secrets")?;
    let dir = place.run.dir().to_owned();
    let old = Certificates::make(&dir.join("old"))?;
    let new = Certificates::make(&dir.join("new"))?;
    let secrets = dir.join("secrets");
    let folder = secrets.join("edge");
    let edge = Edge(&folder);
    edge.pair(&old.server.0, &old.server.1)?;
    edge.replace(&old.authority, "ca.crt")?;
    let given = Given {
        arguments: &["--secrets", &secrets.display().to_string()],
        versions: &["v1"],
        policies: &[routing(&[("v1", 100)])],
    };
    let scene = Scene::start(place, given).await?;
    let envoy = Envoy::start_with(
        &scene.place.install,
        &dir,
        &bootstrap(&scene.place, scene.control_plane.xds())?,
        None,
    )?;
    scene.await_served("v1").await?;
    let address = listener(&envoy).await?;

    let presented = poll::until("the certificate", DEADLINE, async || greet(address, &old, &old).await).await?;
    ensure!(presented == first(&old.server.0)?);
    // A client of another authority is turned away, so the validation context is in force as well.
    ensure_turned_away(address, &new, &old).await?;

    // Half of a rotation: the certificate is there, its key is not yet.
    let good = secret(&scene).await?;
    edge.replace(&new.server.0, "tls.crt")?;
    let kept = poll::until("the pair to be refused", DEADLINE, async || {
        let kept = secret(&scene).await?;
        let problem = kept.problem.as_deref().unwrap_or_default();
        ensure!(problem.contains("tls.key is not the key"), "{kept:?}");
        Ok(kept)
    })
    .await?;
    ensure!(kept.version.is_some() && kept.version == good.version, "{kept:?}");
    ensure!(greet(address, &old, &old).await? == first(&old.server.0)?);

    // The other half.
    edge.replace(&new.server.1, "tls.key")?;
    let presented = poll::until("the new certificate", DEADLINE, async || {
        greet(address, &old, &new).await
    })
    .await?;
    ensure!(presented == first(&new.server.0)?);
    let now = secret(&scene).await?;
    ensure!(now.problem.is_none() && now.version != good.version, "{now:?}");

    edge.replace(&new.authority, "ca.crt")?;
    poll::until("the new authority", DEADLINE, async || greet(address, &new, &new).await).await?;
    ensure!(
        greet(address, &old, &new).await.is_err(),
        "a client of the old authority was greeted"
    );

    let report = scene
        .await_report("Secret", "all secrets to be accepted", |report| {
            ensure!(report.behind_ms.is_none() && report.refused.is_empty());
            Ok(())
        })
        .await?;
    ensure!(report.nack.is_none(), "{report:?}");
    scene.ensure_served("v1").await?;
    scene.finish(envoy).await
}
