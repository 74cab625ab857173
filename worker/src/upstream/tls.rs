//! TLS to upstreams: the trusted roots and the client certificate.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    server::ParsedCertificate,
};

/// The TLS files of an upstream, each in PEM form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that are trusted in addition to the system's roots.
    pub ca: Option<PathBuf>,
    /// The client certificate with its chain, for servers that require one, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// The file cannot be read, or its PEM is damaged.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: pem::Error,
    },
    /// The file has no item of the required kind.
    #[error("{} has no {missing} in PEM form (-----BEGIN …)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The missing kind of item.
        missing: &'static str,
    },
    /// The certificates are damaged, or the key does not match.
    #[error("cannot use {}: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: Error,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set TLS up: {0}")]
    Setup(#[from] Error),
}

/// The system's roots, read once for all upstreams.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "cannot read some of the system's root certificates");
    }
    found.certs
});

/// Returns the TLS configuration of a client. It trusts the system's roots (or those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`) and those of `files`.
///
/// # Errors
/// If one of the `files` is unusable.
pub(crate) fn configuration(files: &TlsFiles) -> Result<ClientConfig, InvalidTls> {
    let provider = Arc::new(ring::default_provider());
    let mut trusted = SYSTEM.clone();
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        let own = certificates(path)?;
        let unusable = |error| InvalidTls::Unusable { path: path.clone(), error };
        own.iter().try_for_each(|root| roots.add(root.clone())).map_err(unusable)?;
        trusted.extend(own);
    }
    // Damaged or unknown certificates of the system are skipped.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier = UpstreamVerifier::new(roots, trusted, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &files.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| InvalidTls::Unusable { path: key.clone(), error })?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let wrong = |error| InvalidTls::File { path: path.to_owned(), error };
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(InvalidTls::Empty { path: path.to_owned(), missing: "certificate" });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, InvalidTls> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            InvalidTls::Empty { path: path.to_owned(), missing: "private key without a passphrase" }
        }
        error => InvalidTls::File { path: path.to_owned(), error },
    })
}

/// Verifies servers by webpki, and accepts a certificate that is itself trusted, as curl does. webpki accepts trusted
/// certificates as issuers only, so it refuses the usual self-signed certificate, which OpenSSL marks as a CA.
#[derive(Debug)]
struct UpstreamVerifier {
    /// `None` if there are no roots.
    inner: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl UpstreamVerifier {
    fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        // Fails only without roots: upstreams without TLS still work, and the others get a clear error.
        let inner = inner.build().ok();
        Self { inner, trusted, provider: Arc::clone(provider) }
    }
}

/// True if only the issuer of the certificate is wrong. webpki checks the dates before it looks for the issuer, so
/// the dates are valid.
fn is_about_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature)
        || is_about_ca(error)
}

/// True if the certificate is marked as a CA, which webpki does not accept as a server's.
fn is_about_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            let message = "no root certificate is trusted: install the system's (ca-certificates), or \
                           name a file in ca_file or SSL_CERT_FILE";
            return Err(Error::General(message.to_owned()));
        };
        let verified =
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verified else { return verified };
        // The server name is still checked: a trusted certificate is valid for its own names only.
        if is_about_issuer(&error) && self.trusted.iter().any(|trusted| trusted == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(match error {
            Error::InvalidCertificate(why) if is_about_ca(&why) => {
                CertificateError::UnknownIssuer.into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
