//! Directories, programs and users: odd ones, foreign ones, missing ones.

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

use crate::scratch::{Scratch, count, owner, we_are_root};

async fn starts_twice_in(data: PathBuf) {
    for _ in 0..2 {
        let cluster = Cluster::start(Options::new().data_dir(&data).durable(false))
            .await
            .unwrap();
        assert_eq!(count(&cluster.url("postgres"), "pg_database").await, 3);
        let attached = Cluster::attach(Options::new().data_dir(&data)).await.unwrap();
        assert!(!attached.is_owner());
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_long_path_works() {
    let scratch = Scratch::new("long");
    let path = scratch.path().join("a".repeat(150)).join("b".repeat(150));
    starts_twice_in(path).await;
}

#[tokio::test]
async fn a_path_at_the_limit_of_a_socket_works() {
    let scratch = Scratch::new("limit");
    // One byte a step over where a direct path ends and the short link begins.
    let taken = scratch.path().as_os_str().len() + "/".len() + "/run/.s.PGSQL.5432".len();
    for length in [103, 104] {
        starts_twice_in(scratch.path().join("x".repeat(length - taken))).await;
    }
}

#[tokio::test]
async fn a_path_of_odd_characters_works() {
    let scratch = Scratch::new("odd");
    let odd = OsString::from_vec(b" it's, \"50%\" of $HOME; \\ & ?host=x #\xc3\xa9 \xff ".to_vec());
    starts_twice_in(scratch.path().join(odd)).await;
}

#[tokio::test]
async fn files_belong_to_whoever_runs_postgresql_and_to_nobody_else() {
    let scratch = Scratch::new("owner");
    let cluster = Cluster::start(scratch.quick()).await.unwrap();
    let data = scratch.data();
    let expected = owner(&data.join("pgdata/PG_VERSION"));
    assert_ne!(expected, 0, "PostgreSQL never runs as root");
    assert_eq!(we_are_root(), expected != rustix::process::geteuid().as_raw());
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
async fn a_directory_closed_to_the_user_of_postgresql_is_named() {
    let scratch = Scratch::new("closed");
    let closed = scratch.path().join("home");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let started = Cluster::start(Options::new().data_dir(closed.join("deep/data")).durable(false)).await;
    if !we_are_root() {
        // Then PostgreSQL runs as we do, and what is open to us is open to it.
        return started.unwrap().stop().await.unwrap();
    }
    let error = started.unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::Unreachable { closed: it, .. } if *it == closed),
        "{error}"
    );
    assert!(!closed.join("deep").exists(), "nothing is made where nothing can run");
}

#[tokio::test]
async fn without_programs_the_message_says_how_to_get_them() {
    let scratch = Scratch::new("programs");
    let error = Cluster::start(scratch.quick().bindir(scratch.path()))
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("No database: DATABASE_URL is not set, and no PostgreSQL server was found"),
        "{message}"
    );
    let looked_in = format!("Looked in: HEALTH_PG_BINDIR ({})", scratch.path().display());
    assert_eq!(message.lines().last(), Some(&*looked_in));
    assert!(!scratch.data().exists(), "nothing is made");
}

#[tokio::test]
async fn data_of_another_major_version_is_left_alone() {
    let scratch = Scratch::new("foreign-version");
    Cluster::start(scratch.quick()).await.unwrap().stop().await.unwrap();
    let file = scratch.data().join("pgdata/PG_VERSION");
    fs::write(&file, "13\n").unwrap();
    let error = Cluster::start(scratch.quick()).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::OtherVersion { made_by: 13, .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.contains("was made by PostgreSQL 13"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "13\n");
}

#[tokio::test]
async fn a_directory_with_other_files_is_used_but_not_taken_over() {
    let scratch = Scratch::new("shared");
    fs::write(scratch.path().join("notes.txt"), "mine").unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let mode_and_owner = |it: &Path| fs::metadata(it).map(|it| (it.mode(), it.uid())).unwrap();
    let before = mode_and_owner(scratch.path());
    let cluster = Cluster::start(Options::new().data_dir(scratch.path()).durable(false))
        .await
        .unwrap();
    assert_eq!(mode_and_owner(scratch.path()), before);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_not_safe_to_use_is_refused() {
    let scratch = Scratch::new("unsafe");
    let refused = async |path: &Path| {
        let error = Cluster::start(Options::new().data_dir(path).durable(false))
            .await
            .unwrap_err();
        assert!(matches!(error, EmbeddedError::ForeignDirectory { .. }), "{error}");
        error.to_string()
    };
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file).await.contains("it is a file"));

    let open = scratch.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::write(open.join("notes.txt"), "").unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&open).await.contains("others may write"));

    let cluster = scratch.path().join("cluster");
    fs::create_dir(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
    assert!(refused(&cluster).await.contains("another PostgreSQL"));
}
