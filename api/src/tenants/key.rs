//! API keys. A key is generated here and shown once; from then on only its hash is known.

use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};

/// The prefix of all keys, by which scanners for leaked secrets recognise them.
const PREFIX: &str = "cw_";

/// Number of random bytes in a key.
const BYTES: usize = 32;

/// A new key.
#[derive(Clone)]
pub struct Key {
    /// The key itself, for its tenant.
    pub text: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text is a secret and must not appear in logs.
        f.write_str("Key(…)")
    }
}

/// Generates a key of 256 random bits.
///
/// # Errors
/// If the system has no randomness.
pub fn new_key() -> std::io::Result<Key> {
    let mut bytes = [0; BYTES];
    // Directly from the system, because keys must be unpredictable.
    OsRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    let text = format!("{PREFIX}{}", hexadecimal(&bytes));
    let sha256 = Sha256::digest(text.as_bytes()).into();
    Ok(Key { text, sha256 })
}

/// Encodes bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses a SHA-256 in hexadecimal.
pub(super) fn digest(text: &str) -> Option<[u8; 32]> {
    let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    // `from_str_radix` accepts a sign, so the digits are checked apart.
    bytes.filter(|_| is_hexadecimal && text.len() == 64)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash() {
        let (one, two) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one.text, two.text);
        assert_eq!((one.text.len(), one.text.starts_with(PREFIX)), (67, true));
        let hash: [u8; 32] = Sha256::digest(one.text.as_bytes()).into();
        assert_eq!(digest(&hexadecimal(&hash)), Some(one.sha256));
        assert!(!format!("{one:?}").contains(&one.text));
        assert_eq!(digest("ab"), None);
        assert_eq!(digest(&"+1".repeat(32)), None);
    }
}
