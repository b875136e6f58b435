//! What etcd asks of its clients: TLS, and a user with a password. Read from files for each connection, so that what was
//! renewed is used without a restart.

use crate::connect::{EtcdArgs, tls};
use rustls::ClientConfig;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flags or files with which etcd cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// `https://` without `--etcd-ca`.
    #[error("--etcd {0} is https://, so --etcd-ca must name the certificate of the authority that signed etcd's")]
    NoAuthority(String),
    /// TLS flags without `https://`.
    #[error("--etcd {0} is not https://, so {1} would be of no use: write https://, or leave it out")]
    Plain(String, &'static str),
    /// One of `--etcd-cert` and `--etcd-key`.
    #[error("--etcd-cert and --etcd-key belong together: {0} is missing")]
    HalfAPair(&'static str),
    /// One of `--etcd-user` and `--etcd-password-file`.
    #[error("--etcd-user and --etcd-password-file belong together: {0} is missing")]
    HalfAUser(&'static str),
    /// A file that cannot be read.
    #[error("{flag} {path}: {source}", path = path.display())]
    File {
        /// Which flag names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("{flag} {path} is no PEM file with {expected}: {problem}", path = path.display())]
    Pem {
        /// Which flag names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key that do not fit, or an authority that is none.
    #[error("the certificates of --etcd-ca, --etcd-cert and --etcd-key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Name and password.
    pub(super) user: Option<(String, String)>,
}

impl Credentials {
    pub(super) fn read(args: &EtcdArgs) -> Result<Self, CredentialsError> {
        Ok(Self {
            tls: tls(args)?,
            user: user(args)?,
        })
    }
}

fn tls(args: &EtcdArgs) -> Result<Option<Arc<ClientConfig>>, CredentialsError> {
    let pair = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
        (None, None) => None,
        (Some(_), None) => return Err(CredentialsError::HalfAPair("--etcd-key")),
        (None, Some(_)) => return Err(CredentialsError::HalfAPair("--etcd-cert")),
    };
    let endpoints = args.without_credentials();
    let plain = endpoints.iter().find(|endpoint| !endpoint.starts_with("https://"));
    let given = [("--etcd-ca", args.ca.is_some()), ("--etcd-cert", pair.is_some())];
    let given = given.iter().find_map(|(flag, given)| given.then_some(*flag));
    match (plain, given) {
        (Some(endpoint), Some(flag)) => Err(CredentialsError::Plain(endpoint.clone(), flag)),
        (_, None) => match endpoints.iter().find(|endpoint| endpoint.starts_with("https://")) {
            Some(endpoint) => Err(CredentialsError::NoAuthority(endpoint.clone())),
            None => Ok(None),
        },
        (None, Some(_)) => match &args.ca {
            Some(ca) => tls::config(ca, pair).map(Some),
            None => Err(CredentialsError::NoAuthority(endpoints.join(", "))),
        },
    }
}

fn user(args: &EtcdArgs) -> Result<Option<(String, String)>, CredentialsError> {
    match (&args.user, &args.password_file) {
        (Some(user), Some(path)) => {
            let password = read("--etcd-password-file", path)?;
            // Editors and `echo` end a file with a new line that is not meant.
            Ok(Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(CredentialsError::HalfAUser("--etcd-password-file")),
        (None, Some(_)) => Err(CredentialsError::HalfAUser("--etcd-user")),
    }
}

fn read(flag: &'static str, path: &Path) -> Result<String, CredentialsError> {
    std::fs::read_to_string(path).map_err(|source| CredentialsError::File {
        flag,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut EtcdArgs)) -> String {
        let mut args = EtcdArgs {
            endpoints: vec!["https://etcd:2379".into()],
            ..EtcdArgs::default()
        };
        change(&mut args);
        args.check_credentials().unwrap_err().to_string()
    }

    #[test]
    fn flags_that_do_not_fit_together_are_told_with_the_one_that_is_missing() {
        let path = || Some(PathBuf::from("/nonexistent/x.pem"));
        for (error, told) in [
            (refusal(|_| ()), "--etcd-ca must name"),
            (refusal(|args| args.cert = path()), "--etcd-key is missing"),
            (refusal(|args| args.key = path()), "--etcd-cert is missing"),
            (refusal(|args| args.ca = path()), "--etcd-ca /nonexistent/x.pem: "),
            (
                refusal(|args| {
                    args.ca = path();
                    args.endpoints = vec!["http://root:secret@etcd:2379".into()];
                }),
                "http://***@etcd:2379 is not https://, so --etcd-ca would be of no use",
            ),
            (
                refusal(|args| {
                    args.endpoints.clear();
                    args.user = Some("root".into());
                }),
                "--etcd-password-file is missing",
            ),
            (
                refusal(|args| {
                    args.endpoints.clear();
                    (args.user, args.password_file) = (Some("root".into()), path());
                }),
                "--etcd-password-file /nonexistent/x.pem: ",
            ),
        ] {
            assert!(error.contains(told), "{error}");
        }
    }
}
