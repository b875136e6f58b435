//! TLS to etcd, by rustls. etcd's own name or address must stand in its certificate; there is no way to skip that.

use crate::connect::CredentialsError;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::Service;

/// The protocol that gRPC speaks, by ALPN (RFC 7301).
const HTTP2: &[u8] = b"h2";
const HTTPS_PORT: u16 = 443;

/// A configuration that trusts the authorities in `ca`, and shows the certificate of `pair` (with its key) if asked.
pub(super) fn config(ca: &Path, pair: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--etcd-ca", ca)? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder.with_client_auth_cert(certificates("--etcd-cert", cert)?, private_key(key)?)?,
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let failed = |error| unusable(flag, path, "certificates", error);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if found.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable("--etcd-key", path, "a private key", error))
}

fn unusable(flag: &'static str, path: &Path, expected: &'static str, error: pem::Error) -> CredentialsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => CredentialsError::File { flag, path, source },
        other => CredentialsError::Pem {
            flag,
            path,
            expected,
            problem: other.to_string(),
        },
    }
}

/// What makes connections for a channel.
pub(super) fn connector(
    config: Arc<ClientConfig>,
) -> impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send> + Send + 'static {
    let connector = TlsConnector::from(config);
    tower::service_fn(move |uri: Uri| connect(connector.clone(), uri))
}

async fn connect(connector: TlsConnector, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    // Brackets are the URL's; a name or an address is what stands between them.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(connector.connect(name, stream).await?))
}
