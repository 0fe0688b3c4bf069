//! The secret of a token, and its hash.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The secret of a token: the text that a client sends.
///
/// It has 256 random bits, as `health_` and 64 hexadecimal digits. The prefix helps programs that search files for
/// secrets. `Debug` does not show the text.
#[derive(Clone)]
pub struct TokenSecret(String);

/// The SHA-256 hash of a secret's text, which is all that is stored of it.
///
/// A fast hash is enough. A password hash slows down guessing, but 256 random bits cannot be guessed.
#[derive(Clone, Copy)]
pub(crate) struct TokenHash([u8; 32]);

const PREFIX: &str = "health_";
const SECRET_BYTES: usize = 32;

impl TokenSecret {
    /// Makes a new secret from the random numbers of the operating system.
    ///
    /// # Errors
    /// The error of the operating system, which has no random numbers to give.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let mut text = String::from(PREFIX);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        Ok(Self(text))
    }

    /// Returns the text, to show it once to the person who created the token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a text has the form of a secret.
    pub fn has_form(text: &str) -> bool {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        digits.len() == 2 * SECRET_BYTES && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash::of_text(&self.0)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl TokenHash {
    /// Returns the hash of a text that a client has sent. `None` if no secret has this form.
    pub(crate) fn of_presented(text: &str) -> Option<Self> {
        TokenSecret::has_form(text).then(|| Self::of_text(text))
    }

    /// Makes a hash of its stored bytes. `None` unless there are 32.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the first 8 bytes, by which a table finds the few hashes to compare.
    pub(crate) fn prefix(&self) -> u64 {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(prefix)
    }

    /// Compares in a time that does not depend on the bytes.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn of_text(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_have_256_bits() {
        let (one, other) = (TokenSecret::generate().unwrap(), TokenSecret::generate().unwrap());
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(one.as_str().len(), "health_".len() + 64);
        assert!(TokenHash::of_presented(one.as_str()).unwrap().is_same(&one.hash()));
        assert!(!one.hash().is_same(&other.hash()));
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = TokenSecret::generate().unwrap();
        assert_eq!(format!("{secret:?}"), "TokenSecret(…)");
    }

    #[test]
    fn the_hash_is_sha_256_of_the_text() {
        // Computed with sha256sum.
        let text = format!("health_{}", "0".repeat(64));
        let hash = TokenHash::of_presented(&text).unwrap();
        let expected = "0d70867c9123f5906504a274c2ea0f4288aa8409abff6d53daede54e8d9f1247";
        for (index, byte) in hash.as_bytes().iter().enumerate() {
            assert_eq!(format!("{byte:02x}"), expected[2 * index..2 * index + 2]);
        }
    }

    #[test]
    fn a_text_of_another_form_has_no_hash() {
        let digits = "0".repeat(64);
        for text in [
            "",
            "health_",
            &digits,
            &format!("health_{}", &digits[1..]),
            &format!("health_{digits}0"),
        ] {
            assert!(TokenHash::of_presented(text).is_none(), "{text}");
        }
        assert!(TokenHash::of_presented(&format!("health_{}g", &digits[1..])).is_none());
    }
}
