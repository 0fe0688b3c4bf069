//! Finds the PostgreSQL server programs to run.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::embedded::error::EmbeddedError;

/// The oldest supported major version. The schema and the statements are written for 14.
const MAJOR_MIN: u32 = 14;

/// The variable that names the only directory to look in.
const BINDIR_VARIABLE: &str = "HEALTH_PG_BINDIR";

/// The directories where packages install the server programs. A `*` stands for the rest of a name.
const PACKAGED: [&str; 5] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
];

/// A directory that holds both `postgres` and `initdb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) bindir: PathBuf,
    pub(crate) major: u32,
}

impl Programs {
    pub(crate) fn postgres(&self) -> PathBuf {
        self.bindir.join("postgres")
    }

    pub(crate) fn initdb(&self) -> PathBuf {
        self.bindir.join("initdb")
    }
}

/// The directories that are searched for server programs.
#[derive(Debug, Default)]
pub(crate) struct SearchPath {
    bindirs: Vec<PathBuf>,
    /// Where the directories come from, for the error message: `PATH`, `pg_config`, a pattern.
    origins: Vec<String>,
}

impl SearchPath {
    /// Returns only `bindir` or the directory in `HEALTH_PG_BINDIR` if it is given, otherwise the usual directories.
    pub(crate) fn new(bindir: Option<&Path>) -> SearchPath {
        let mut search_path = SearchPath::default();
        let variable = env::var_os(BINDIR_VARIABLE).filter(|value| !value.is_empty());
        if let Some(bindir) = bindir.map(Path::to_owned).or(variable.map(PathBuf::from)) {
            search_path.add(format!("{BINDIR_VARIABLE} ({})", bindir.display()), [bindir]);
            return search_path;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        search_path.add("PATH", env::split_paths(&path));
        search_path.add("pg_config", pg_config());
        for pattern in PACKAGED {
            search_path.add(pattern, matching(pattern));
        }
        search_path
    }

    fn add(&mut self, origin: impl Into<String>, bindirs: impl IntoIterator<Item = PathBuf>) {
        self.origins.push(origin.into());
        self.bindirs.extend(bindirs);
    }

    /// Returns the programs in these directories, in order and each directory once.
    fn programs(&self) -> Vec<Programs> {
        let mut found: Vec<Programs> = Vec::new();
        for bindir in &self.bindirs {
            if !is_program(&bindir.join("postgres")) || !is_program(&bindir.join("initdb")) {
                continue;
            }
            // Links such as /usr/local/bin/postgres lead to directories that may be in this list as well.
            let Some(bindir) = fs::canonicalize(bindir.join("postgres"))
                .ok()
                .and_then(|postgres| Some(postgres.parent()?.to_owned()))
            else {
                continue;
            };
            if found.iter().any(|programs| programs.bindir == bindir) || !is_program(&bindir.join("initdb")) {
                continue;
            }
            if let Some(major) = version_of(&bindir.join("postgres")) {
                found.push(Programs { bindir, major });
            }
        }
        found
    }
}

/// Returns the programs for the data in `pgdata`.
///
/// PostgreSQL cannot read the files of another major version, so the versions must be equal. Without data, returns the
/// newest version.
pub(crate) fn choose(search_path: &SearchPath, pgdata: &Path) -> Result<Programs, EmbeddedError> {
    let made_by = major_of_data(pgdata)?;
    let found = search_path.programs();
    if let Some(made_by) = made_by {
        let exact = found
            .iter()
            .find(|programs| programs.major == made_by && programs.major >= MAJOR_MIN)
            .cloned();
        let found = versions_and_directories(&found);
        return exact.ok_or(EmbeddedError::OtherVersion {
            directory: pgdata.to_owned(),
            made_by,
            found,
        });
    }
    // `max_by_key` returns the last of several equals, but the first directory is preferred.
    let newest = found.iter().rev().max_by_key(|programs| programs.major);
    match newest {
        None => Err(EmbeddedError::NotFound {
            looked_in: search_path.origins.clone(),
        }),
        Some(newest) if newest.major < MAJOR_MIN => Err(EmbeddedError::TooOld {
            found: versions_and_directories(&found),
        }),
        Some(newest) => Ok(newest.clone()),
    }
}

/// Returns the major version that created the data, or `None` if there is no data yet.
fn major_of_data(pgdata: &Path) -> Result<Option<u32>, EmbeddedError> {
    match fs::symlink_metadata(pgdata) {
        // A file in place of the data directory is reported later, when the directory is prepared.
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(EmbeddedError::io("read the metadata of", pgdata)(error)),
        Ok(_) => {}
    }
    let not_a_cluster = || EmbeddedError::NotACluster {
        directory: pgdata.to_owned(),
    };
    let file = pgdata.join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => leading_number(text.trim()).map(Some).ok_or_else(not_a_cluster),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(EmbeddedError::io("read", file)(error)),
        Err(_) => Err(not_a_cluster()),
    }
}

fn versions_and_directories(found: &[Programs]) -> Vec<(u32, PathBuf)> {
    found
        .iter()
        .map(|programs| (programs.major, programs.bindir.clone()))
        .collect()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let bindir = text.trim();
    (output.status.success() && !bindir.is_empty()).then(|| PathBuf::from(bindir))
}

/// Returns the directories that match a pattern. Its one `*` stands for the rest of a path component.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or((".", before));
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut names: Vec<OsString> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        .collect();
    names.sort();
    let inside = after.trim_start_matches('/');
    names
        .into_iter()
        .map(|name| Path::new(parent).join(name).join(inside))
        .collect()
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Asks the program for its version.
///
/// It prints `postgres (PostgreSQL) 15.14 (Debian …)` or `postgres (PostgreSQL) 18beta1`.
fn version_of(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    leading_number(text.split_whitespace().nth(2)?)
}

/// Parses the major version of `15`, `15.14` and `18beta1`. Of `9.6` it returns 9, which is too old anyway.
fn leading_number(version: &str) -> Option<u32> {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Creates a directory whose `postgres` prints this version.
    fn programs(parent: &TempDir, name: &str, version: &str) -> PathBuf {
        let bindir = parent.path().join(name);
        fs::create_dir_all(&bindir).unwrap();
        // Another process writes the files. A program cannot be run while any process has it open for writing, and a
        // process that another test starts at this moment would inherit our descriptor for an instant.
        let write = r#"for program in postgres initdb; do
            printf '#!/bin/sh\necho "%s (PostgreSQL) %s"\n' $program "$2" >"$1/$program" || exit 1
            chmod 755 "$1/$program" || exit 1
        done"#;
        let status = Command::new("sh")
            .args(["-c", write, "sh"])
            .arg(&bindir)
            .arg(version)
            .status();
        assert!(status.unwrap().success());
        fs::canonicalize(bindir).unwrap()
    }

    fn data_of_version(parent: &TempDir, version: &str) -> PathBuf {
        let pgdata = parent.path().join("pgdata");
        fs::create_dir_all(&pgdata).unwrap();
        fs::write(pgdata.join("PG_VERSION"), version).unwrap();
        pgdata
    }

    fn search_path(bindirs: &[&PathBuf]) -> SearchPath {
        let mut search_path = SearchPath::default();
        search_path.add("the test", bindirs.iter().copied().cloned());
        search_path
    }

    #[test]
    fn without_data_the_newest_version_is_chosen_and_of_equals_the_first() {
        let directory = TempDir::new().unwrap();
        let old = programs(&directory, "a", "14.2");
        let new = programs(&directory, "b", "17.1 (Debian 17.1-1)");
        let same = programs(&directory, "c", "17.3");
        let chosen = choose(&search_path(&[&old, &new, &same]), &directory.path().join("none")).unwrap();
        assert_eq!(chosen, Programs { bindir: new, major: 17 });
    }

    #[test]
    fn data_needs_exactly_its_own_major_version() {
        let directory = TempDir::new().unwrap();
        let old = programs(&directory, "a", "14.2");
        let new = programs(&directory, "b", "18beta1");
        let pgdata = data_of_version(&directory, "14\n");
        assert_eq!(choose(&search_path(&[&old, &new]), &pgdata).unwrap().bindir, old);
        let error = choose(&search_path(&[&new]), &pgdata).unwrap_err();
        assert!(
            matches!(error, EmbeddedError::OtherVersion { made_by: 14, .. }),
            "{error}"
        );
        let found = format!("Versions found: 18 in {}", new.display());
        assert!(error.to_string().contains(&found), "{error}");
    }

    #[test]
    fn data_without_a_readable_version_is_refused() {
        let directory = TempDir::new().unwrap();
        let pgdata = data_of_version(&directory, "what?");
        let error = choose(&search_path(&[]), &pgdata).unwrap_err();
        assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
    }

    #[test]
    fn a_directory_without_initdb_does_not_count() {
        let directory = TempDir::new().unwrap();
        let bindir = programs(&directory, "a", "16.0");
        fs::remove_file(bindir.join("initdb")).unwrap();
        let error = choose(&search_path(&[&bindir]), &directory.path().join("none")).unwrap_err();
        assert!(error.to_string().ends_with("Looked in: the test"), "{error}");
    }

    #[test]
    fn a_version_below_14_is_too_old() {
        let directory = TempDir::new().unwrap();
        let bindir = programs(&directory, "a", "13.9");
        let error = choose(&search_path(&[&bindir]), &directory.path().join("none")).unwrap_err();
        assert!(matches!(error, EmbeddedError::TooOld { .. }), "{error}");
    }

    #[test]
    fn a_star_matches_the_rest_of_a_name() {
        let directory = TempDir::new().unwrap();
        for name in ["pgsql-15", "pgsql-16", "other"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let found = matching(&format!("{}/pgsql-*/bin", directory.path().display()));
        let expected = ["pgsql-15/bin", "pgsql-16/bin"].map(|name| directory.path().join(name));
        assert_eq!(found, expected);
        let whole = matching(&format!("{}/pgsql*", directory.path().display()));
        assert_eq!(whole.len(), 2);
    }
}
