//! What can be chosen about an embedded PostgreSQL before it runs.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::embedded::error::EmbeddedError;

/// Connections PostgreSQL accepts unless told otherwise: the writers, a pool of readers, the listener, and room for `psql`.
const CONNECTIONS_MAX: u32 = 100;

/// How to run an embedded PostgreSQL.
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
    settings: Vec<(String, String)>,
}

impl Options {
    /// Durable, in the [default data directory](default_data_dir), with the programs found on this machine.
    pub fn new() -> Options {
        Options {
            data_dir: None,
            bindir: None,
            durable: true,
            throw_away: false,
            max_connections: CONNECTIONS_MAX,
            settings: Vec::new(),
        }
    }

    /// For tests: a new directory in the temporary directory, nothing synced to the disk, and all of it removed when PostgreSQL
    /// ends, also when that is because this process was killed.
    pub fn throw_away() -> Options {
        Options {
            durable: false,
            throw_away: true,
            ..Options::new()
        }
    }

    /// Keeps the data here. The directory is made where it is missing; a relative path is taken from the working directory.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Options {
        self.data_dir = Some(directory.into());
        self
    }

    /// Runs the server programs of this directory and of no other, as `HEALTH_PG_BINDIR` does.
    pub fn bindir(mut self, bindir: impl Into<PathBuf>) -> Options {
        self.bindir = Some(bindir.into());
        self
    }

    /// Whether a commit waits for the disk. Without it (`fsync=off`) a crash of the machine may lose or break everything.
    pub fn durable(mut self, durable: bool) -> Options {
        self.durable = durable;
        self
    }

    /// How many connections PostgreSQL accepts at the same time.
    pub fn max_connections(mut self, connections: u32) -> Options {
        self.max_connections = connections;
        self
    }

    /// Sets one of PostgreSQL's own settings for this run, such as `("max_wal_size", "4GB")`. The last of a name counts.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    pub(crate) fn bindir_chosen(&self) -> Option<&Path> {
        self.bindir.as_deref()
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The directory to use, absolute. A throw-away one is made by this, once a call.
    pub(crate) fn resolve_data_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let directory = match &self.data_dir {
            Some(directory) => directory.clone(),
            None if self.throw_away => make_temporary()?,
            None => default_data_dir()?,
        };
        std::path::absolute(&directory).map_err(EmbeddedError::io("find", directory))
    }

    /// Whether the data directory is to be removed when PostgreSQL ends. One that was named never is.
    pub(crate) fn is_throw_away(&self) -> bool {
        self.throw_away && self.data_dir.is_none()
    }

    /// PostgreSQL's settings as `name=value`, ours first.
    pub(crate) fn settings(&self) -> Vec<String> {
        let sync = if self.durable { "on" } else { "off" };
        let mut settings = vec![
            "listen_addresses=".to_owned(),
            format!("fsync={sync}"),
            format!("synchronous_commit={sync}"),
            format!("full_page_writes={sync}"),
            "logging_collector=off".to_owned(),
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

/// Where the data is kept unless told otherwise: `/var/lib/health` for root, else `$XDG_DATA_HOME/health` or
/// `~/.local/share/health` (macOS: `~/Library/Application Support/health`).
///
/// # Errors
///
/// [`EmbeddedError::NoHome`] where the environment names no home directory.
pub fn default_data_dir() -> Result<PathBuf, EmbeddedError> {
    let named = |variable| env::var_os(variable).map(PathBuf::from);
    data_dir_for(
        rustix::process::geteuid().is_root(),
        named("XDG_DATA_HOME"),
        named("HOME"),
    )
}

/// A relative path in these variables means nothing, by the rule of the XDG base directories.
fn data_dir_for(root: bool, data: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, EmbeddedError> {
    if root {
        return Ok(PathBuf::from("/var/lib/health"));
    }
    if let Some(data) = data.filter(|it| it.is_absolute()) {
        return Ok(data.join("health"));
    }
    let home = home.filter(|it| it.is_absolute()).ok_or(EmbeddedError::NoHome)?;
    let inside = if cfg!(target_os = "macos") {
        "Library/Application Support/health"
    } else {
        ".local/share/health"
    };
    Ok(home.join(inside))
}

/// A new private directory that no other process has.
fn make_temporary() -> Result<PathBuf, EmbeddedError> {
    let process = std::process::id();
    let mut number = 0_u32;
    loop {
        let path = env::temp_dir().join(format!("health-throw-away-{process}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => {
                return created
                    .map(|()| path.clone())
                    .map_err(EmbeddedError::io("create the directory", path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_follows_the_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        let chosen = |root, data, home| data_dir_for(root, data, home).ok();
        assert_eq!(chosen(true, path("/x"), path("/root")), path("/var/lib/health"));
        assert_eq!(chosen(false, path("/x"), path("/home/a")), path("/x/health"));
        let inside = if cfg!(target_os = "macos") {
            "Library/Application Support"
        } else {
            ".local/share"
        };
        assert_eq!(
            chosen(false, path("relative"), path("/home/a")),
            path(&format!("/home/a/{inside}/health"))
        );
        assert_eq!(chosen(false, None, None), None);
        assert_eq!(chosen(false, None, path("")), None);
    }

    #[test]
    fn a_directory_that_was_named_is_never_thrown_away() {
        assert!(Options::throw_away().is_throw_away());
        assert!(!Options::throw_away().data_dir("/srv/health").is_throw_away());
    }
}
