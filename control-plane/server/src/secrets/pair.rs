//! From PEM files to SDS resources, checked. Pure.

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use kilocard_xds::snapshot::Resource;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::path::PathBuf;

/// Why files make no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenSecret {
    /// A folder that cannot be named in a configuration.
    #[error(
        "the folder {0:?} is no name for a secret: 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit"
    )]
    Name(String),
    /// One of the two files is not there.
    #[error("tls.crt and tls.key belong together, and one is missing")]
    Half,
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing of ours is so large.
    #[error("{file} has {bytes} bytes, more than 1 MiB")]
    Large {
        /// Which.
        file: PathBuf,
        /// How large.
        bytes: u64,
    },
    /// No PEM in it.
    #[error("{0} holds no certificate in PEM")]
    Empty(&'static str),
    /// Not what it says it is.
    #[error("{file}: {problem}")]
    Pem {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Two halves of different things.
    #[error("tls.key is not the key of the first certificate in tls.crt")]
    Mismatch,
}

/// A certificate chain and its key.
pub(super) fn certificate(name: &str, chain: Vec<u8>, key: Vec<u8>) -> Result<Resource, BrokenSecret> {
    let certificates = certificates("tls.crt", &chain)?;
    let broken = |problem: String| BrokenSecret::Pem {
        file: "tls.key",
        problem,
    };
    let parsed = PrivateKeyDer::from_pem_slice(&key).map_err(|error| broken(error.to_string()))?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&parsed).map_err(|error| broken(error.to_string()))?;
    match CertifiedKey::new(certificates, signing).keys_match() {
        // The last: a kind of key that does not tell its public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(BrokenSecret::Mismatch),
        Err(error) => {
            return Err(BrokenSecret::Pem {
                file: "tls.crt",
                problem: error.to_string(),
            });
        }
    }
    let certificate = TlsCertificate {
        certificate_chain: inline(chain),
        private_key: inline(key),
        ..TlsCertificate::default()
    };
    Ok(resource(name, secret::Type::TlsCertificate(certificate)))
}

/// The certificates of those whose signature is trusted.
pub(super) fn authority(name: &str, bundle: Vec<u8>) -> Result<Resource, BrokenSecret> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.crt", &bundle)? {
        roots.add(certificate).map_err(|error| BrokenSecret::Pem {
            file: "ca.crt",
            problem: error.to_string(),
        })?;
    }
    let context = CertificateValidationContext {
        trusted_ca: inline(bundle),
        ..CertificateValidationContext::default()
    };
    Ok(resource(name, secret::Type::ValidationContext(context)))
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BrokenSecret> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| BrokenSecret::Pem {
        file,
        problem: error.to_string(),
    })?;
    if certificates.is_empty() {
        return Err(BrokenSecret::Empty(file));
    }
    Ok(certificates)
}

fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineBytes(bytes)),
        ..DataSource::default()
    })
}

fn resource(name: &str, secret: secret::Type) -> Resource {
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(secret),
    };
    Resource::new(name, secret.encode_to_vec())
}
