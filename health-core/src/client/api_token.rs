//! The API token that a client sends.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The permissions of a file that users other than its owner can read or change.
const OTHERS: u32 = 0o077;

/// A token has less than 100 bytes. A larger file is the wrong one.
const FILE_BYTES_MAX: u64 = 4096;

/// An API token. It has no `Display`, and `Debug` does not show it.
///
/// ```
/// use health_core::client::ApiToken;
///
/// assert_eq!(format!("{:?}", ApiToken::from("secret")), "ApiToken(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(String);

/// Why a token cannot be used. No message contains it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token has spaces or characters that cannot be sent.
    #[error(
        "The API token has characters that no token has. Copy it again from the output of `health-server token create`."
    )]
    Malformed,
    /// The file with the token cannot be read.
    #[error("Cannot read the API token from {}: {reason}. Write the path of its file to --token-file.", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// Others than the owner can read or change the file.
    #[error("Others than its owner can use {}, which has an API token (mode {mode:03o}). Run: chmod 600 {}", path.display(), path.display())]
    SharedFile {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is empty or too large.
    #[error("{} has no API token: it must have one line with the output of `health-server token create`.", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

impl ApiToken {
    /// Reads a token from a file that only its owner can read.
    ///
    /// # Errors
    /// [`TokenError`], with the name of the file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |reason| TokenError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            // chmod 600 would lock its owner out.
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        let mode = metadata.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(TokenError::SharedFile {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let token = Self::from(text);
        if token.0.is_empty() || token.0.contains('\n') {
            return Err(TokenError::NoToken { path: path.to_owned() });
        }
        Ok(token)
    }

    /// Returns the token, to send it.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], because such a token could not be a header of HTTP or a line of the feed.
    pub fn secret(&self) -> Result<&str, TokenError> {
        if !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(&self.0)
        } else {
            Err(TokenError::Malformed)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for ApiToken {
    /// Takes a text without the spaces around it. It never fails, because a parser of options would print a bad value.
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl From<String> for ApiToken {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused_and_no_message_shows_the_token() {
        let directory = test_support::test_directory();
        let path = directory.path().join("token");
        for (text, mode, expected) in [
            ("hlt_secret\n", 0o600, None),
            ("hlt_secret", 0o400, None),
            ("hlt_secret\n", 0o640, Some("chmod 600")),
            ("hlt_secret\n", 0o604, Some("chmod 600")),
            ("\n", 0o600, Some("has no API token")),
            ("hlt_secret\nhlt_secret\n", 0o600, Some("has no API token")),
        ] {
            _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (ApiToken::read(&path), expected) {
                (Ok(token), None) => assert_eq!(token.secret().unwrap(), "hlt_secret"),
                (Err(error), Some(expected)) => {
                    let text = format!("{error} {error:?}");
                    assert!(text.contains(expected) && !text.contains("secret"), "{text}");
                }
                other => panic!("{other:?} for {text:?} with mode {mode:o}"),
            }
        }
        for path in [directory.path(), &directory.path().join("missing")] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let error = ApiToken::read(path).unwrap_err().to_string();
            assert!(error.contains("--token-file") && !error.contains("chmod"), "{error}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        for text in ["", "two words", "line\nline", "schlüssel", "\u{7f}"] {
            let error = ApiToken::from(text).secret().unwrap_err();
            assert!(matches!(error, TokenError::Malformed), "{error}");
        }
    }
}
