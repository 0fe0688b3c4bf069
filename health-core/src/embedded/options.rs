//! The options of an embedded PostgreSQL.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    embedded::{directory::Directory, error::EmbeddedError},
    outage::DatabaseStatus,
};

/// The default limit of connections: writers, a pool of readers, the feed's connection, and some for `psql`.
const CONNECTIONS_MAX: u32 = 100;

/// The port in the name of the socket. PostgreSQL listens on no TCP address.
const PORT: u16 = 5432;

/// The data directory of a service of the system. The package creates it for the user of the service.
const SYSTEM_DATA_DIR: &str = "/var/lib/health";

/// The options of an embedded PostgreSQL.
///
/// ```
/// use health_core::embedded::Options;
///
/// let options = Options::new().data_dir("/srv/health").max_connections(200);
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a cluster is started with them"]
pub struct Options {
    data_dir: Option<PathBuf>,
    bindir: Option<PathBuf>,
    durable: bool,
    throw_away: bool,
    max_connections: u32,
    port: u16,
    settings: Vec<(String, String)>,
    restart: bool,
    status: DatabaseStatus,
}

impl Options {
    /// Returns options for a durable cluster in the [default data directory](default_data_dir), run by the server
    /// programs that are found on this machine.
    pub fn new() -> Options {
        Options {
            data_dir: None,
            bindir: None,
            durable: true,
            throw_away: false,
            max_connections: CONNECTIONS_MAX,
            port: PORT,
            settings: Vec::new(),
            restart: true,
            status: DatabaseStatus::default(),
        }
    }

    /// Returns options for tests: a new temporary data directory, without waiting for the disk.
    ///
    /// The directory is removed when PostgreSQL ends, even if this process is killed.
    pub fn throw_away() -> Options {
        Options {
            durable: false,
            throw_away: true,
            restart: false,
            ..Options::new()
        }
    }

    /// Sets the data directory. It is created if it is missing. A relative path starts at the working directory.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Options {
        self.data_dir = Some(directory.into());
        self
    }

    /// Sets the only directory to look for the server programs, as the variable `HEALTH_PG_BINDIR` does.
    pub fn bindir(mut self, bindir: impl Into<PathBuf>) -> Options {
        self.bindir = Some(bindir.into());
        self
    }

    /// Sets whether a commit waits until it is on the disk.
    ///
    /// If not (`fsync=off`), a crash of the machine may lose or damage all data.
    pub fn durable(mut self, durable: bool) -> Options {
        self.durable = durable;
        self
    }

    /// Sets how many connections PostgreSQL accepts at the same time. The default is 100.
    pub fn max_connections(mut self, connections: u32) -> Options {
        self.max_connections = connections;
        self
    }

    /// Sets whether PostgreSQL is started again if it ends unexpectedly. The default is true, except for a throw-away
    /// cluster. See [`Cluster`](crate::embedded::Cluster).
    pub fn restart(mut self, restart: bool) -> Options {
        self.restart = restart;
        self
    }

    /// Sets the status to which outages of PostgreSQL are reported.
    pub fn status(mut self, status: DatabaseStatus) -> Options {
        self.status = status;
        self
    }

    /// Sets the port. The default is 5432. It is part of the socket's name, so it matters to others only if the setting
    /// `listen_addresses` lets PostgreSQL listen in the network as well.
    pub fn port(mut self, port: u16) -> Options {
        self.port = port;
        self
    }

    /// Sets one of PostgreSQL's configuration parameters for this run.
    ///
    /// If a name is set twice, the later value counts.
    ///
    /// ```
    /// # use health_core::embedded::Options;
    /// let options = Options::new().setting("max_wal_size", "4GB");
    /// ```
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Returns whether the data directory holds a cluster. For a throw-away cluster, it never does.
    ///
    /// # Errors
    /// [`EmbeddedError::NoHome`] if no directory was given and none can be chosen.
    pub fn has_cluster(&self) -> Result<bool, EmbeddedError> {
        if self.is_throw_away() {
            return Ok(false);
        }
        Ok(Directory::new(self.resolve_data_dir()?).pgdata().exists())
    }

    /// Returns the process id of the server that runs on the data directory, if the system tells it and it is a
    /// `health-server`. It may end at any moment.
    pub fn server_process(&self) -> Option<u32> {
        if self.is_throw_away() {
            return None;
        }
        let process = Directory::new(self.resolve_data_dir().ok()?).server_process()?;
        // The number may be an old one, and belong to another program now.
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        (name.trim_end() == "health-server").then_some(process)
    }

    pub(crate) fn restarts(&self) -> bool {
        self.restart
    }

    pub(crate) fn database_status(&self) -> &DatabaseStatus {
        &self.status
    }

    pub(crate) fn chosen_bindir(&self) -> Option<&Path> {
        self.bindir.as_deref()
    }

    pub(crate) fn chosen_port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Returns the absolute path of the data directory. For a throw-away cluster, each call creates a new directory.
    ///
    /// # Errors
    /// [`EmbeddedError::NoHome`] if no directory was given and none can be chosen.
    pub fn resolve_data_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let directory = match &self.data_dir {
            Some(directory) => directory.clone(),
            None if self.throw_away => create_temporary_directory()?,
            None => default_data_dir()?,
        };
        std::path::absolute(&directory).map_err(EmbeddedError::io("make absolute the path", directory))
    }

    /// Returns whether the data directory is removed when PostgreSQL ends. A directory that was given never is.
    pub(crate) fn is_throw_away(&self) -> bool {
        self.throw_away && self.data_dir.is_none()
    }

    /// Returns PostgreSQL's parameters as `name=value`. Those of the caller come last, so they win.
    pub(crate) fn settings(&self) -> Vec<String> {
        let sync = if self.durable { "on" } else { "off" };
        let mut settings = vec![
            "listen_addresses=".to_owned(),
            format!("fsync={sync}"),
            format!("synchronous_commit={sync}"),
            format!("full_page_writes={sync}"),
            "logging_collector=off".to_owned(),
            // Compiling statements takes longer than ours run, and a service that may not make memory executable cannot
            // do it.
            "jit=off".to_owned(),
            format!("max_connections={}", self.max_connections),
        ];
        settings.extend(self.settings.iter().map(|(name, value)| format!("{name}={value}")));
        settings
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

/// Returns the data directory that is used if none is given.
///
/// This is `/var/lib/health` for root and for the user who owns that directory, which is the user of the service. For
/// others it is `$XDG_DATA_HOME/health` or `~/.local/share/health`, and on macOS
/// `~/Library/Application Support/health`.
///
/// # Errors
///
/// [`EmbeddedError::NoHome`] if neither `HOME` nor `XDG_DATA_HOME` is an absolute path.
///
/// # Examples
///
/// ```
/// let directory = health_core::embedded::default_data_dir()?;
/// assert!(directory.is_absolute());
/// # Ok::<(), health_core::embedded::EmbeddedError>(())
/// ```
pub fn default_data_dir() -> Result<PathBuf, EmbeddedError> {
    let path_in = |variable| env::var_os(variable).map(PathBuf::from);
    let user = rustix::process::geteuid();
    // Commands of the service's user must not create another database in the home directory.
    let owns = |directory: &str| fs::metadata(directory).is_ok_and(|metadata| metadata.uid() == user.as_raw());
    data_dir_for(
        user.is_root() || owns(SYSTEM_DATA_DIR),
        path_in("XDG_DATA_HOME"),
        path_in("HOME"),
    )
}

/// Returns the default data directory for the values of `XDG_DATA_HOME` and `HOME`.
///
/// The XDG Base Directory Specification says to ignore relative paths in these variables. The crates `dirs` and
/// `etcetera` would look up the home directory in the user database if `HOME` is missing. A service without `HOME`
/// must get an error instead of a data directory that was not chosen.
fn data_dir_for(
    is_of_system: bool,
    data_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf, EmbeddedError> {
    if is_of_system {
        return Ok(PathBuf::from(SYSTEM_DATA_DIR));
    }
    if let Some(data_home) = data_home.filter(|path| path.is_absolute()) {
        return Ok(data_home.join("health"));
    }
    let home = home.filter(|path| path.is_absolute()).ok_or(EmbeddedError::NoHome)?;
    let inside_home = if cfg!(target_os = "macos") {
        "Library/Application Support/health"
    } else {
        ".local/share/health"
    };
    Ok(home.join(inside_home))
}

/// Creates a private directory. The watchdog of PostgreSQL removes it, so that it is removed even after a kill.
fn create_temporary_directory() -> Result<PathBuf, EmbeddedError> {
    let created = tempfile::Builder::new().prefix("health-throw-away-").tempdir();
    created
        .map(tempfile::TempDir::keep)
        .map_err(EmbeddedError::io("create a directory in", env::temp_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_follows_the_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        let chosen = |is_of_system, data_home, home| data_dir_for(is_of_system, data_home, home).ok();
        assert_eq!(chosen(true, path("/x"), path("/root")), path("/var/lib/health"));
        assert_eq!(chosen(false, path("/x"), path("/home/a")), path("/x/health"));
        let inside_home = if cfg!(target_os = "macos") {
            "Library/Application Support"
        } else {
            ".local/share"
        };
        assert_eq!(
            chosen(false, path("relative"), path("/home/a")),
            path(&format!("/home/a/{inside_home}/health"))
        );
        assert_eq!(chosen(false, None, None), None);
        assert_eq!(chosen(false, None, path("")), None);
    }

    #[test]
    fn a_data_directory_that_was_given_is_never_removed() {
        assert!(Options::throw_away().is_throw_away());
        assert!(!Options::throw_away().data_dir("/srv/health").is_throw_away());
    }
}
