//! A certificate authority for tests. Must never sign for longer than a test may last.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Scratch;

/// Its certificate is a file that is removed with the value.
#[derive(Debug)]
pub struct CertificateAuthority(Scratch);

impl CertificateAuthority {
    #[expect(clippy::new_without_default, reason = "makes a key: not a default value")]
    pub fn new() -> Self {
        let this = Self(Scratch::new());
        certify(&this.key(), &this.certificate(), &["-subj", "/CN=a test authority"]);
        this
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("authority.pem")
    }

    /// Makes a key and a certificate for the host of that name, such as `IP:127.0.0.1`.
    pub fn sign(&self, name: &str, key: &Path, certificate: &Path) {
        let (name, ours, own) = (format!("subjectAltName={name}"), self.certificate(), self.key());
        let signed = ["-CA", &ours.display().to_string(), "-CAkey", &own.display().to_string()];
        let server = ["-subj", "/CN=a test server", "-addext", &name, "-addext", "basicConstraints=critical,CA:FALSE"];
        certify(key, certificate, &[&signed[..], &server[..]].concat());
    }

    /// Its own key, PEM.
    pub fn key(&self) -> PathBuf {
        self.0.path().join("authority.key")
    }
}

fn certify(key: &Path, certificate: &Path, args: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]);
    let done = openssl.args(args).arg("-keyout").arg(key).arg("-out").arg(certificate).output();
    let done = done.expect("openssl is installed with PostgreSQL's package");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
