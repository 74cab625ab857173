//! Certificates for a test, as PEM files.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A private authority, a server certificate that it signed, and a self-signed server certificate.
pub(crate) struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Makes the certificates of a server with this name or address.
    pub(crate) fn of(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let one = Self { directory };
        let key = || KeyPair::generate().expect("a key");
        let params = |names: &[&str], subject: &str| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).expect("names");
            // OpenSSL takes a certificate for self-signed if its issuer has the same name.
            params.distinguished_name.push(DnType::CommonName, subject);
            params
        };
        let mut authority = params(&[], "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
        one.write("ca.pem", &authority.pem());
        let server_key = key();
        let server =
            params(&[name], "server").signed_by(&server_key, &authority).expect("a certificate");
        one.write("server.pem", &server.pem());
        one.write("server.key", &server_key.serialize_pem());
        // OpenSSL marks its self-signed certificates as a CA.
        let mut own = params(&[name], "server");
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own_key = key();
        one.write("own.pem", &own.self_signed(&own_key).expect("a certificate").pem());
        one.write("own.key", &own_key.serialize_pem());
        one
    }

    /// Returns the path of the file of this name.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Returns the options of a `redis-server` that presents the certificate `name` on `port`.
    pub(crate) fn options(&self, name: &str, port: u16) -> Vec<String> {
        let (certificate, key) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let port = port.to_string();
        let ca = self.path("ca.pem");
        let options = [
            ("--tls-port", port.as_str()),
            ("--tls-cert-file", &certificate),
            ("--tls-key-file", &key),
            ("--tls-ca-cert-file", &ca),
            ("--tls-auth-clients", "no"),
            ("--save", ""),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, pem: &str) {
        std::fs::write(self.file(name), pem).expect("a file");
    }
}
