use std::io::Write as _;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tempfile::NamedTempFile;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A certificate with its key.
struct Identity {
    params: CertificateParams,
    key: KeyPair,
    certificate: rcgen::Certificate,
}

fn params() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned()]).unwrap()
}

/// Returns the parameters of `openssl req -x509`: a server certificate that is marked as a CA.
fn marked_as_ca() -> CertificateParams {
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn self_signed(params: CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity { params, key, certificate }
}

fn signed_by(issuer: &Identity) -> Identity {
    let (params, key) = (params(), KeyPair::generate().unwrap());
    let issuer = Issuer::from_params(&issuer.params, &issuer.key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Identity { params, key, certificate }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> PathBuf {
    file.path().to_owned()
}

fn server(identity: &Identity, clients: Option<&Identity>) -> ServerConfig {
    let chain = vec![identity.certificate.der().clone()];
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let Some(clients) = clients else {
        return builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    };
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().unwrap();
    builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}

async fn handshake(files: &TlsFiles, server: ServerConfig, name: &str) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let connector = TlsConnector::from(Arc::new(configuration(files).unwrap()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (accepted, connected) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
    connected.map_err(|error| error.to_string())?;
    accepted.map(drop).map_err(|error| error.to_string())
}

/// Performs a handshake with `identity` under `name`, by a client that trusts `trusted`.
async fn reach(identity: &Identity, trusted: Option<&Identity>, name: &str) -> Result<(), String> {
    let ca = trusted.map(|trusted| file(&trusted.certificate.pem()));
    let files = TlsFiles { ca: ca.as_ref().map(path), client: None };
    handshake(&files, server(identity, None), name).await
}

#[tokio::test]
async fn a_root_in_a_file_is_trusted() {
    let root = self_signed(marked_as_ca());
    let leaf = signed_by(&root);
    assert_eq!(reach(&leaf, Some(&root), "localhost").await, Ok(()));
    assert!(reach(&leaf, None, "localhost").await.unwrap_err().contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_named_certificate_is_trusted_itself() {
    let marked = self_signed(marked_as_ca());
    assert_eq!(reach(&marked, Some(&marked), "localhost").await, Ok(()));
    let plain = self_signed(params());
    assert_eq!(reach(&plain, Some(&plain), "localhost").await, Ok(()));
    let leaf = signed_by(&marked);
    assert_eq!(reach(&leaf, Some(&leaf), "localhost").await, Ok(()));
}

#[tokio::test]
async fn a_named_certificate_opens_nothing_else() {
    let named = self_signed(marked_as_ca());
    let other = self_signed(marked_as_ca());
    let refused = reach(&other, Some(&named), "localhost").await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let refused = reach(&named, Some(&named), "elsewhere").await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    let mut past = marked_as_ca();
    past.not_after = date_time_ymd(2020, 1, 1);
    let past = self_signed(past);
    let refused = reach(&past, Some(&past), "localhost").await.unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let (root, client) = (self_signed(marked_as_ca()), self_signed(marked_as_ca()));
    let (leaf, presented) = (signed_by(&root), signed_by(&client));
    let ca = file(&root.certificate.pem());
    let certificate = file(&presented.certificate.pem());
    let key = file(&presented.key.serialize_pem());
    let mut files =
        TlsFiles { ca: Some(path(&ca)), client: Some((path(&certificate), path(&key))) };
    assert_eq!(handshake(&files, server(&leaf, Some(&client)), "localhost").await, Ok(()));
    files.client = None;
    assert!(handshake(&files, server(&leaf, Some(&client)), "localhost").await.is_err());
}

#[test]
fn errors_name_the_unusable_file() {
    let identity = self_signed(params());
    let (certificate, key) =
        (file(&identity.certificate.pem()), file(&KeyPair::generate().unwrap().serialize_pem()));
    let (empty, absent) = (file("nothing"), PathBuf::from("/no/such/file"));
    let of_ca = |ca: &Path| TlsFiles { ca: Some(ca.to_owned()), client: None };
    let of_client =
        |key: &NamedTempFile| TlsFiles { ca: None, client: Some((path(&certificate), path(key))) };
    for (files, named, why) in [
        (of_ca(&absent), absent.as_path(), "No such file"),
        (of_ca(empty.path()), empty.path(), "no certificate"),
        (of_client(&empty), empty.path(), "no private key without a passphrase"),
        (of_client(&key), key.path(), "keys may not be consistent"),
    ] {
        let message = configuration(&files).unwrap_err().to_string();
        assert!(message.contains(&named.display().to_string()), "{message}");
        assert!(message.contains(why), "{message}");
    }
}
