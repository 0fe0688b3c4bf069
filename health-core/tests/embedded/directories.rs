//! Tests of unusual, foreign and missing directories, programs and users.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use health_core::embedded::{Cluster, EmbeddedError, Options};

use crate::support::{TestDirectory, count_rows, is_root, owner};

async fn start_twice_in(data: PathBuf) {
    for _ in 0..2 {
        let cluster = Cluster::start(Options::new().data_dir(&data).durable(false))
            .await
            .unwrap();
        assert_eq!(count_rows(&cluster.url("postgres"), "pg_database").await, 3);
        let attached = Cluster::attach(Options::new().data_dir(&data)).await.unwrap();
        assert!(!attached.is_owner());
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_long_path_is_usable() {
    let directory = TestDirectory::new();
    let path = directory.path().join("a".repeat(150)).join("b".repeat(150));
    start_twice_in(path).await;
}

#[tokio::test]
async fn a_path_at_the_length_limit_of_a_socket_is_usable() {
    let directory = TestDirectory::new();
    // The first length is the longest that fits directly. The second needs the short link.
    let used = directory.path().as_os_str().len() + "/".len() + "/run/.s.PGSQL.5432".len();
    for length in [103, 104] {
        start_twice_in(directory.path().join("x".repeat(length - used))).await;
    }
}

#[tokio::test]
async fn a_path_with_special_characters_is_usable() {
    let directory = TestDirectory::new();
    let name = OsString::from_vec(b" it's, \"50%\" of $HOME; \\ & ?host=x #\xc3\xa9 \xff ".to_vec());
    start_twice_in(directory.path().join(name)).await;
}

#[tokio::test]
async fn files_belong_to_the_user_of_postgresql_and_are_private() {
    let directory = TestDirectory::new();
    let cluster = Cluster::start(directory.options()).await.unwrap();
    let data = directory.data();
    let expected = owner(&data.join("pgdata/PG_VERSION"));
    assert_ne!(expected, 0, "PostgreSQL never runs as root");
    assert_eq!(is_root(), expected != rustix::process::geteuid().as_raw());
    for name in [
        "",
        "pg.lock",
        "server.lock",
        "postgres.log",
        "run",
        "run/.s.PGSQL.5432",
        "pgdata",
    ] {
        assert_eq!(owner(&data.join(name)), expected, "{name}");
    }
    for name in ["", "run", "pgdata"] {
        assert_eq!(fs::metadata(data.join(name)).unwrap().mode() & 0o777, 0o700, "{name}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_error_names_the_directory_that_the_user_of_postgresql_cannot_enter() {
    let directory = TestDirectory::new();
    let closed = directory.path().join("home");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let started = Cluster::start(Options::new().data_dir(closed.join("deep/data")).durable(false)).await;
    if !is_root() {
        // PostgreSQL runs as the same user, so it can enter every directory that this process can enter.
        return started.unwrap().stop().await.unwrap();
    }
    let error = started.unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::Unreachable { closed: named, .. } if *named == closed),
        "{error}"
    );
    assert!(
        !closed.join("deep").exists(),
        "no directory is created if PostgreSQL cannot run"
    );
}

#[tokio::test]
async fn without_server_programs_the_message_says_how_to_install_them() {
    let directory = TestDirectory::new();
    let error = Cluster::start(directory.options().bindir(directory.path()))
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("No database: DATABASE_URL is not set, and no PostgreSQL server was found"),
        "{message}"
    );
    let looked_in = format!("Looked in: HEALTH_PG_BINDIR ({})", directory.path().display());
    assert_eq!(message.lines().last(), Some(&*looked_in));
    assert!(!directory.data().exists(), "no directory is created");
}

#[tokio::test]
async fn data_of_another_major_version_is_not_changed() {
    let directory = TestDirectory::new();
    Cluster::start(directory.options()).await.unwrap().stop().await.unwrap();
    let file = directory.data().join("pgdata/PG_VERSION");
    fs::write(&file, "13\n").unwrap();
    let error = Cluster::start(directory.options()).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::OtherVersion { made_by: 13, .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.contains("was created by PostgreSQL 13"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "13\n");
}

#[tokio::test]
async fn a_directory_with_other_files_is_used_but_keeps_its_owner_and_mode() {
    let directory = TestDirectory::new();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let mode_and_owner = |path: &Path| {
        fs::metadata(path)
            .map(|metadata| (metadata.mode(), metadata.uid()))
            .unwrap()
    };
    let before = mode_and_owner(directory.path());
    let cluster = Cluster::start(Options::new().data_dir(directory.path()).durable(false))
        .await
        .unwrap();
    assert_eq!(mode_and_owner(directory.path()), before);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_not_safe_to_use_is_refused() {
    let directory = TestDirectory::new();
    let refused = async |path: &Path| {
        let error = Cluster::start(Options::new().data_dir(path).durable(false))
            .await
            .unwrap_err();
        assert!(matches!(error, EmbeddedError::ForeignDirectory { .. }), "{error}");
        error.to_string()
    };
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file).await.contains("it is a file"));

    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::write(open.join("notes.txt"), "").unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&open).await.contains("other users may write"));

    let cluster = directory.path().join("cluster");
    fs::create_dir(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
    assert!(refused(&cluster).await.contains("another PostgreSQL"));
}
