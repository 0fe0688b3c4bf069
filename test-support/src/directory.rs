//! Temporary directories for tests.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use tempfile::{Builder, TempDir};

/// Creates an empty directory that is removed when the value is dropped.
///
/// Every user may enter it. If the tests run as root, PostgreSQL runs as another user and must reach its data there.
///
/// # Panics
///
/// If the directory cannot be created.
pub fn test_directory() -> TempDir {
    Builder::new()
        .prefix("health-test-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap_or_else(|error| panic!("cannot create a temporary directory: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_test_directory_is_open_to_all_users_and_removed_when_dropped() {
        let directory = super::test_directory();
        let path = directory.path().to_owned();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o755);
        std::fs::write(path.join("file"), "").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
