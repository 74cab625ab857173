//! Content codings of answers (RFC 9110, section 8.4.1): an upstream, or a proxy before it, may compress although
//! the request accepts `identity` only.

use std::pin::Pin;

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};

/// Most codings of one answer, applied one after the other.
const MAX_CODINGS: usize = 3;

/// A supported coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// A reader of coded bytes.
pub(super) type Coded = Pin<Box<dyn AsyncBufRead + Send>>;
/// A reader of decoded bytes.
pub(super) type Decoded = Pin<Box<dyn AsyncRead + Send>>;

/// Returns the codings of an answer, in the order in which they were applied.
///
/// # Errors
/// The name of an unknown coding.
pub(super) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let text: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let text = text.join(",").to_ascii_lowercase();
    let mut codings = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "identity" => {}
            "gzip" | "x-gzip" => codings.push(Coding::Gzip),
            "deflate" => codings.push(Coding::Deflate),
            "br" => codings.push(Coding::Brotli),
            "zstd" => codings.push(Coding::Zstd),
            _ => return Err(name.to_owned()),
        }
    }
    if codings.len() > MAX_CODINGS { Err(text) } else { Ok(codings) }
}

/// Decodes `coding`.
///
/// # Errors
/// If the first byte cannot be read.
pub(super) async fn decode(mut coded: Coded, coding: Coding) -> std::io::Result<Decoded> {
    Ok(match coding {
        Coding::Gzip => {
            let mut decoder = GzipDecoder::new(coded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        // The name means the zlib format (RFC 9110, 8.4.1.2), but some servers send a bare deflate stream. Its first
        // byte never has the method number of zlib.
        Coding::Deflate if is_zlib(coded.fill_buf().await?) => Box::pin(ZlibDecoder::new(coded)),
        Coding::Deflate => Box::pin(DeflateDecoder::new(coded)),
        Coding::Brotli => Box::pin(BrotliDecoder::new(coded)),
        Coding::Zstd => {
            let mut decoder = ZstdDecoder::new(coded);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
    })
}

/// True if a stream with this beginning has a zlib header (RFC 1950) with the method 8.
fn is_zlib(beginning: &[u8]) -> bool {
    beginning.first().is_none_or(|byte| byte & 0x0f == 8)
}

/// Decodes all codings, the last applied first.
///
/// # Errors
/// The errors of [`decode`].
pub(super) async fn decode_all(coded: Coded, codings: &[Coding]) -> std::io::Result<Decoded> {
    let mut decoded: Decoded = Box::pin(coded);
    for coding in codings.iter().rev() {
        decoded = decode(Box::pin(BufReader::new(decoded)), *coding).await?;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(lines: &[&str]) -> Result<Vec<Coding>, String> {
        let line = |line: &&str| (CONTENT_ENCODING, line.parse().unwrap());
        codings(&lines.iter().map(line).collect())
    }

    #[test]
    fn codings_are_known_by_name() {
        assert_eq!(named(&[]), Ok(vec![]));
        assert_eq!(named(&["identity"]), Ok(vec![]));
        assert_eq!(named(&["X-GZIP"]), Ok(vec![Coding::Gzip]));
        let all = vec![Coding::Deflate, Coding::Brotli, Coding::Zstd];
        assert_eq!(named(&["deflate, br", "zstd"]), Ok(all));
        assert_eq!(named(&["compress"]), Err("compress".to_owned()));
        assert!(named(&["gzip, gzip, gzip, gzip"]).is_err());
    }
}
