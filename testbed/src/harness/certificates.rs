//! Certificates for one test, signed by an authority of its own.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};

/// Files in PEM: an authority, and a certificate with its key for a server on loopback and for a client.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate and key.
    pub server: (PathBuf, PathBuf),
    /// The client's certificate and key.
    pub client: (PathBuf, PathBuf),
}

impl Certificates {
    /// Makes them in this folder.
    ///
    /// # Errors
    /// If they cannot be made or written.
    pub fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let authority = dir.join("ca.pem");
        fs::write(&authority, certificate.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self {
            authority,
            // etcd's own gateway is a client of its server, with the server's certificate.
            server: issue(&issuer, dir, "etcd", true)?,
            // Of no user's name, which etcd might take for the user.
            client: issue(&issuer, dir, "client", false)?,
        })
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, dir: &Path, name: &str, server: bool) -> Result<(PathBuf, PathBuf)> {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    let (cert_file, key_file) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    fs::write(&cert_file, certificate.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    Ok((cert_file, key_file))
}
