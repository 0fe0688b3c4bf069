//! Secrets that stand in files.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The reason why a file with a secret cannot be used. No message shows the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("cannot read {}, which {flag} names: {cause}", path.display())]
    Unreadable {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Others can read or write the file.
    #[error(
        "others can read or change {}, which {flag} names: its mode is {mode:03o}. Make it private with `chmod 600 {}`.",
        path.display(), path.display()
    )]
    NotPrivate {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
    },
    /// The file has no text, or too much.
    #[error("{}, which {flag} names, {reason}. Write the secret alone into it.", path.display())]
    Content {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The largest file with a secret. A database URL has some hundred bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where Docker and Podman put secrets. The files there have the mode 444, but only processes of the container see
/// them.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// Bits of a file's mode.
const GROUP_OR_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// Reads a secret from a file. White space around it does not belong to it.
///
/// # Errors
/// [`SecretFileError`] if the file cannot be read, others can read it, or it has no text.
pub(crate) fn read_secret(path: &Path, flag: &'static str) -> Result<String, SecretFileError> {
    let unreadable = |cause| SecretFileError::Unreadable {
        flag,
        path: path.to_owned(),
        cause,
    };
    let content = |reason| SecretFileError::Content {
        flag,
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        // chmod 600 would lock its owner out.
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let in_container = path
        .canonicalize()
        .is_ok_and(|path| path.starts_with(CONTAINER_SECRETS));
    if !is_private(metadata.mode(), metadata.uid(), in_container) {
        return Err(SecretFileError::NotPrivate {
            flag,
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    let mut text = String::new();
    match file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(content("is no text")),
        Err(error) => return Err(unreadable(error)),
        Ok(_) => {}
    }
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > SECRET_BYTES_MAX) {
        return Err(content("has more than 64 KiB"));
    }
    match text.trim() {
        "" => Err(content("is empty")),
        secret => Ok(secret.to_owned()),
    }
}

/// Returns whether others can read a file, which may have a password in it.
pub(crate) fn others_can_read(metadata: &Metadata) -> bool {
    !is_private(metadata.mode(), metadata.uid(), false)
}

/// Returns whether only trusted users can read and change a file. The rule is that of libpq for keys, and root's group
/// may read, too, as systemd's credentials and Kubernetes' secrets need it.
fn is_private(mode: u32, owner: u32, in_container: bool) -> bool {
    if mode & GROUP_OR_OTHERS_WRITE != 0 {
        return false;
    }
    let readers = if owner == 0 { OTHERS } else { GROUP_OR_OTHERS };
    in_container || mode & readers == 0
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    use test_support::test_directory;

    use super::*;

    #[test]
    fn a_secret_is_read_from_a_private_file_only() {
        let directory = test_directory();
        let path = directory.path().join("url");
        fs::write(&path, "postgres://secret\n").unwrap();
        for (mode, is_accepted) in [
            (0o600, true),
            (0o400, true),
            (0o644, false),
            (0o666, false),
            (0o620, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read_secret(&path, "--flag") {
                Ok(secret) => {
                    assert!(is_accepted, "{mode:o}");
                    assert_eq!(secret, "postgres://secret");
                }
                Err(error) => {
                    assert!(!is_accepted, "{mode:o}");
                    let message = error.to_string();
                    for part in ["--flag", "chmod 600", &format!("{mode:o}"), &path.display().to_string()] {
                        assert!(message.contains(part), "{part} is missing: {message}");
                    }
                    assert!(
                        !message.contains("secret\n") && !message.contains("postgres"),
                        "{message}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_directory_is_no_file_with_a_secret() {
        let directory = test_directory();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let message = read_secret(directory.path(), "--flag").unwrap_err().to_string();
        assert!(
            message.contains("is a directory") && !message.contains("chmod"),
            "{message}"
        );
    }

    #[test]
    fn secrets_of_docker_kubernetes_and_systemd_are_private() {
        assert!(is_private(0o444, 0, true), "Docker");
        assert!(is_private(0o440, 0, false), "Kubernetes with defaultMode 0440, systemd");
        assert!(!is_private(0o440, 1000, false));
        assert!(!is_private(0o446, 0, true), "others can change it");
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        let directory = test_directory();
        let path = directory.path().join("url");
        assert!(
            read_secret(&path, "--flag")
                .unwrap_err()
                .to_string()
                .contains("cannot read")
        );
        for (content, part) in [
            (&b" \n"[..], "empty"),
            (&[0xff], "no text"),
            (&"a".repeat(70_000).into_bytes(), "64 KiB"),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let message = read_secret(&path, "--flag").unwrap_err().to_string();
            assert!(message.contains(part), "{part} is missing: {message}");
        }
    }
}
