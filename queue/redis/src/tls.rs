//! TLS to the store, with the roots of the system, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use redis::{ConnectionAddr, RedisResult};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The configuration of all connections of a process, or the reason why there is none.
static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> =
    LazyLock::new(|| config().map(Arc::new));

fn config() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "cannot read some of the trusted root certificates");
    }
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs.iter().cloned());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    // Fails only without any root.
    let inner = inner.build().map_err(|_| {
        Error::General(
            "no root certificate is trusted: install the system's (ca-certificates), or name a \
             file in SSL_CERT_FILE"
                .to_owned(),
        )
    })?;
    let verifier = Verifier { inner, trusted: found.certs, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Connects to `address` over TLS.
pub(super) async fn connect(address: &ConnectionAddr) -> RedisResult<TlsStream<TcpStream>> {
    let ConnectionAddr::Tcp(host, port) = address else {
        return Err(io::Error::other(format!("{address} cannot be reached by TLS")).into());
    };
    let config = CONFIG.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    // This tries all addresses of the name.
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(config));
    let connected = connector.connect(name, stream).await;
    Ok(connected.map_err(|error| io::Error::other(explain(address, &error)))?)
}

/// Explains the failure of a handshake, with advice.
fn explain(address: &ConnectionAddr, error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let advice = match cause {
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {
            "its certificate has an issuer that is not trusted: name the issuer's certificate, or a \
             self-signed one, in SSL_CERT_FILE"
        }
        Some(Error::InvalidCertificate(_)) => "its certificate cannot be accepted",
        Some(Error::InvalidMessage(_)) => "redis:// is without TLS",
        Some(_) | None => "see its log",
    };
    format!("no TLS with {address}: {error}; {advice}")
}

/// A verifier of server certificates by `WebPKI` and, as in curl, by equality with a trusted certificate. `WebPKI`
/// accepts a trusted certificate as an issuer only, so it refuses the usual self-signed certificate, which OpenSSL
/// marks as a CA.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

/// Returns true if only the issuer is wrong, or the certificate is marked as a CA, which `WebPKI` refuses for
/// servers.
fn is_about_issuer(error: &CertificateError) -> bool {
    // A newly created authority has the name of the old one, and other signatures.
    if matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        return true;
    }
    let CertificateError::Other(other) = error else { return false };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // WebPKI checks the dates before it looks for the issuer, so the dates are valid in both cases.
            Err(Error::InvalidCertificate(why)) if is_about_issuer(&why) => {
                if !self.trusted.iter().any(|trusted| trusted == end_entity) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                // A trusted certificate is trusted for its own names only.
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
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
