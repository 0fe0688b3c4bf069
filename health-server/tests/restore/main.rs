//! Cursors after the database was put back to an earlier state, and after restarts that lose nothing.
//!
//! Each test runs the real program on a PostgreSQL of its own, takes cursors, puts the database back, and resumes.

#![cfg(test)]

mod backup;
mod client;
mod history;
mod postgres;
mod server;
mod standby;

use std::path::Path;

use test_support::{Signal, test_directory};

use crate::{
    history::{History, Kept},
    postgres::{Postgres, add_host},
    server::Server,
};

/// What the server does while the database is put back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ServerMeanwhile {
    IsStopped,
    Runs,
}

use ServerMeanwhile::{IsStopped, Runs};

/// A server that was perhaps stopped.
struct MaybeServer<'a> {
    server: Option<Server>,
    url: String,
    directory: &'a Path,
}

impl<'a> MaybeServer<'a> {
    /// Stops the server, or leaves it running.
    async fn before_restore(server: Server, meanwhile: ServerMeanwhile, url: &str, directory: &'a Path) -> Self {
        let server = match meanwhile {
            IsStopped => {
                server.stop().await;
                None
            }
            Runs => Some(server),
        };
        let url = url.to_owned();
        Self { server, url, directory }
    }

    async fn after_restore(self) -> Server {
        match self.server {
            Some(server) => server,
            None => Server::start(&self.url, self.directory).await,
        }
    }
}

async fn a_cold_copy_is_put_back(meanwhile: ServerMeanwhile) {
    let directory = test_directory();
    let mut postgres = Postgres::start(directory.path(), "main", &[]).await;
    let server = Server::start(postgres.url(), directory.path()).await;
    let history = History::begin(&server).await;
    postgres.stop().await;
    postgres.copy_to("copy");
    postgres.restart(&[]).await;
    let history = history.write_lost(&server).await;

    let server = MaybeServer::before_restore(server, meanwhile, postgres.url(), directory.path()).await;
    postgres.stop().await;
    postgres.put_back("copy");
    postgres.restart(&[]).await;
    history
        .check_lost(&server.after_restore().await, meanwhile == Runs)
        .await;
}

#[tokio::test]
async fn a_cold_copy_put_back_while_the_server_is_stopped_refuses_lost_cursors() {
    a_cold_copy_is_put_back(IsStopped).await;
}

#[tokio::test]
async fn a_cold_copy_put_back_while_the_server_runs_refuses_lost_cursors() {
    a_cold_copy_is_put_back(Runs).await;
}

async fn the_database_is_recovered_to_a_point_in_time(meanwhile: ServerMeanwhile) {
    let directory = test_directory();
    let archive = directory.path().join("archive").display().to_string();
    let archiving = [
        ("wal_level", "replica".to_owned()),
        ("archive_mode", "on".to_owned()),
        ("archive_command", format!("cp %p {archive}/%f")),
    ];
    let mut postgres = Postgres::start(directory.path(), "main", &archiving).await;
    postgres.create_directory("archive");
    let server = Server::start(postgres.url(), directory.path()).await;
    postgres.base_backup("base").await;
    let history = History::begin(&server).await;
    let restore_point = "SELECT pg_create_restore_point('before the loss')";
    postgres.connect().await.batch_execute(restore_point).await.unwrap();
    let history = history.write_lost(&server).await;
    postgres.archive_wal().await;

    let server = MaybeServer::before_restore(server, meanwhile, postgres.url(), directory.path()).await;
    postgres.stop().await;
    postgres.put_back("base");
    postgres.create_signal_file("recovery.signal");
    let recovery = [
        ("restore_command", format!("cp {archive}/%f %p")),
        ("recovery_target_name", "before the loss".to_owned()),
        ("recovery_target_action", "promote".to_owned()),
    ];
    postgres.restart(&[&archiving[..], &recovery].concat()).await;
    postgres.recovered().await;
    history
        .check_lost(&server.after_restore().await, meanwhile == Runs)
        .await;
}

#[tokio::test]
async fn a_recovery_to_a_point_in_time_while_the_server_is_stopped_refuses_lost_cursors() {
    the_database_is_recovered_to_a_point_in_time(IsStopped).await;
}

#[tokio::test]
async fn a_recovery_to_a_point_in_time_while_the_server_runs_refuses_lost_cursors() {
    the_database_is_recovered_to_a_point_in_time(Runs).await;
}

async fn a_lagging_standby_is_promoted(meanwhile: ServerMeanwhile) {
    let directory = test_directory();
    let mut primary = Postgres::start(directory.path(), "primary", &[]).await;
    // Creates the database and its tables: a URL with a host that does not exist yet cannot.
    Server::start(primary.url(), directory.path()).await.stop().await;
    // The standby's socket has a name before the standby exists.
    let url = add_host(primary.url(), &directory.path().join("standby/run"));
    let server = Server::start(&url, directory.path()).await;
    let history = History::begin(&server).await;
    primary.base_backup_for_standby("standby/pgdata").await;
    let standby = Postgres::start(directory.path(), "standby", &[]).await;
    standby.stop_receiving_after(&primary).await;
    let history = history.write_lost(&server).await;

    let server = MaybeServer::before_restore(server, meanwhile, &url, directory.path()).await;
    primary.end(Signal::QUIT).await;
    let standby_client = standby.connect().await;
    standby_client.batch_execute("SELECT pg_promote()").await.unwrap();
    history
        .check_lost(&server.after_restore().await, meanwhile == Runs)
        .await;
}

#[tokio::test]
async fn the_promotion_of_a_lagging_standby_while_the_server_is_stopped_refuses_lost_cursors() {
    a_lagging_standby_is_promoted(IsStopped).await;
}

#[tokio::test]
async fn the_promotion_of_a_lagging_standby_while_the_server_runs_refuses_lost_cursors() {
    a_lagging_standby_is_promoted(Runs).await;
}

#[tokio::test]
async fn after_the_server_was_killed_every_cursor_resumes() {
    let directory = test_directory();
    let postgres = Postgres::start(directory.path(), "main", &[]).await;
    let server = Server::start(postgres.url(), directory.path()).await;
    let history = History::begin(&server).await;
    let history = history.write_lost(&server).await;
    server.kill().await;
    let server = Server::start(postgres.url(), directory.path()).await;
    history.check_kept(&server, Kept::ServerIsNew).await;
}

#[tokio::test]
async fn after_a_restart_of_postgresql_every_cursor_resumes() {
    let directory = test_directory();
    let mut postgres = Postgres::start(directory.path(), "main", &[]).await;
    let server = Server::start(postgres.url(), directory.path()).await;
    let history = History::begin(&server).await;
    let history = history.write_lost(&server).await;
    postgres.stop().await;
    postgres.restart(&[]).await;
    history.check_kept(&server, Kept::ServerRan).await;
}

#[tokio::test]
async fn after_postgresql_was_killed_and_has_recovered_every_cursor_resumes() {
    let directory = test_directory();
    let mut postgres = Postgres::start(directory.path(), "main", &[]).await;
    let server = Server::start(postgres.url(), directory.path()).await;
    let history = History::begin(&server).await;
    let history = history.write_lost(&server).await;
    postgres.end(Signal::KILL).await;
    postgres.restart(&[]).await;
    history.check_kept(&server, Kept::ServerRan).await;
}
