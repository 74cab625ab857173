use std::net::IpAddr;

use super::*;
use crate::upstream::tls::{self, TlsFiles};

async fn failure(url: &str, from: Option<IpAddr>) -> Failure {
    let tls = tls::configuration(&TlsFiles::default()).unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    let client = builder.local_address(from).build().unwrap();
    unsent(&client.post(url).send().await.unwrap_err())
}

#[tokio::test]
async fn an_invalid_request_is_unsendable() {
    let failure = failure("http://[", None).await;
    assert!(matches!(failure, Failure::Unsendable(_)), "{failure:?}");
}

#[tokio::test]
async fn an_unavailable_address_exhausts_nothing() {
    // TEST-NET-1 of RFC 5737: an address that no machine has.
    let failure = failure("http://127.0.0.1:9", Some(IpAddr::from([192, 0, 2, 1]))).await;
    assert!(matches!(failure, Failure::Connect(_)), "{failure:?}");
}

#[test]
fn acronyms_keep_their_first_letter() {
    for (text, wanted) in
        [("Connection refused", "connection refused"), ("SOCKS error", "SOCKS error"), ("", "")]
    {
        assert_eq!(uncapitalized(text), wanted);
    }
}
