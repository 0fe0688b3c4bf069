//! Which of the machine's PostgreSQL server programs to run.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::embedded::error::EmbeddedError;

/// The oldest major version we run. 14 is what the schema and the statements are written for.
const MAJOR_MIN: u32 = 14;

/// Names the one directory to look in, before anything else.
const BINDIR_VARIABLE: &str = "HEALTH_PG_BINDIR";

/// Where packagers put the server programs; a `*` stands for any rest of a name.
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

/// The places to look in: every pattern or directory with the name a person knows it by.
#[derive(Debug, Default)]
pub(crate) struct Places {
    bindirs: Vec<PathBuf>,
    names: Vec<String>,
}

impl Places {
    /// What `bindir` or `HEALTH_PG_BINDIR` names and nothing else, or all the usual places.
    pub(crate) fn of_this_machine(bindir: Option<&Path>) -> Places {
        let mut places = Places::default();
        let named = env::var_os(BINDIR_VARIABLE).filter(|value| !value.is_empty());
        if let Some(bindir) = bindir.map(Path::to_owned).or(named.map(PathBuf::from)) {
            places.add(format!("{BINDIR_VARIABLE} ({})", bindir.display()), [bindir]);
            return places;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        places.add("PATH", env::split_paths(&path));
        places.add("pg_config", pg_config());
        for pattern in PACKAGED {
            places.add(pattern, matching(pattern));
        }
        places
    }

    fn add(&mut self, name: impl Into<String>, bindirs: impl IntoIterator<Item = PathBuf>) {
        self.names.push(name.into());
        self.bindirs.extend(bindirs);
    }

    /// The programs in these places, by their order, each directory once.
    fn programs(&self) -> Vec<Programs> {
        let mut found: Vec<Programs> = Vec::new();
        for bindir in &self.bindirs {
            if !is_program(&bindir.join("postgres")) || !is_program(&bindir.join("initdb")) {
                continue;
            }
            // Links (/usr/local/bin/postgres, Homebrew's opt) lead to directories that are looked in as well.
            let Some(bindir) = fs::canonicalize(bindir.join("postgres"))
                .ok()
                .and_then(|it| Some(it.parent()?.to_owned()))
            else {
                continue;
            };
            if found.iter().any(|it| it.bindir == bindir) || !is_program(&bindir.join("initdb")) {
                continue;
            }
            if let Some(major) = version_of(&bindir.join("postgres")) {
                found.push(Programs { bindir, major });
            }
        }
        found
    }
}

/// The programs for the data in `pgdata`: exactly the major version that made it, or, where there is none, the newest.
pub(crate) fn choose(places: &Places, pgdata: &Path) -> Result<Programs, EmbeddedError> {
    let made_by = major_of_data(pgdata)?;
    let found = places.programs();
    if let Some(made_by) = made_by {
        let exact = found
            .iter()
            .find(|it| it.major == made_by && it.major >= MAJOR_MIN)
            .cloned();
        let found = listed(&found);
        return exact.ok_or(EmbeddedError::OtherVersion {
            directory: pgdata.to_owned(),
            made_by,
            found,
        });
    }
    // `max_by_key` gives the last of several equals; the first place named is the one to prefer.
    let newest = found.iter().rev().max_by_key(|it| it.major);
    match newest {
        None => Err(EmbeddedError::NotFound {
            looked_in: places.names.clone(),
        }),
        Some(newest) if newest.major < MAJOR_MIN => Err(EmbeddedError::TooOld { found: listed(&found) }),
        Some(newest) => Ok(newest.clone()),
    }
}

/// The major version that made the data, `None` where there is no data yet.
fn major_of_data(pgdata: &Path) -> Result<Option<u32>, EmbeddedError> {
    match fs::symlink_metadata(pgdata) {
        // A file in place of the data directory is told of when that directory is prepared.
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(EmbeddedError::io("look at", pgdata)(error)),
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

fn listed(found: &[Programs]) -> Vec<(u32, PathBuf)> {
    found.iter().map(|it| (it.major, it.bindir.clone())).collect()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let bindir = text.trim();
    (output.status.success() && !bindir.is_empty()).then(|| PathBuf::from(bindir))
}

/// The directories that match a pattern with one `*`, which stands for the rest of one path component's name.
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
    fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// Asks the program itself: `postgres (PostgreSQL) 15.14 (Debian …)`, `postgres (PostgreSQL) 18beta1`.
fn version_of(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    leading_number(text.split_whitespace().nth(2)?)
}

/// The major version in `15`, `15.14`, `18beta1` (and the 9 of `9.6`, which is as foreign as any).
fn leading_number(version: &str) -> Option<u32> {
    let digits = version.split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own that is gone after the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = env::temp_dir().join(format!("health-find-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        /// A directory whose `postgres` claims to be of this version.
        fn programs(&self, name: &str, version: &str) -> PathBuf {
            let bindir = self.0.join(name);
            fs::create_dir_all(&bindir).unwrap();
            // Written by another process: a program cannot be run while a copy of a descriptor that writes it is open, and
            // another test may be starting a process of its own at this moment, which has a copy for an instant.
            let write = r#"for it in postgres initdb; do
                printf '#!/bin/sh\necho "%s (PostgreSQL) %s"\n' $it "$2" >"$1/$it" && chmod 755 "$1/$it" || exit 1
            done"#;
            let status = Command::new("sh")
                .args(["-c", write, "sh"])
                .arg(&bindir)
                .arg(version)
                .status();
            assert!(status.unwrap().success());
            fs::canonicalize(bindir).unwrap()
        }

        fn data_of(&self, version: &str) -> PathBuf {
            let pgdata = self.0.join("pgdata");
            fs::create_dir_all(&pgdata).unwrap();
            fs::write(pgdata.join("PG_VERSION"), version).unwrap();
            pgdata
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn places(bindirs: &[&PathBuf]) -> Places {
        let mut places = Places::default();
        places.add("the test's", bindirs.iter().copied().cloned());
        places
    }

    #[test]
    fn without_data_the_newest_is_taken_and_of_equals_the_first() {
        let scratch = Scratch::new("newest");
        let old = scratch.programs("a", "14.2");
        let new = scratch.programs("b", "17.1 (Debian 17.1-1)");
        let same = scratch.programs("c", "17.3");
        let chosen = choose(&places(&[&old, &new, &same]), &scratch.0.join("none")).unwrap();
        assert_eq!(chosen, Programs { bindir: new, major: 17 });
    }

    #[test]
    fn data_wants_exactly_its_own_major() {
        let scratch = Scratch::new("exact");
        let old = scratch.programs("a", "14.2");
        let new = scratch.programs("b", "18beta1");
        let pgdata = scratch.data_of("14\n");
        assert_eq!(choose(&places(&[&old, &new]), &pgdata).unwrap().bindir, old);
        let error = choose(&places(&[&new]), &pgdata).unwrap_err();
        assert!(
            matches!(error, EmbeddedError::OtherVersion { made_by: 14, .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("Found here: 18 in {}", new.display())),
            "{error}"
        );
    }

    #[test]
    fn data_without_a_readable_version_is_no_cluster() {
        let scratch = Scratch::new("garbage");
        let pgdata = scratch.data_of("what?");
        let error = choose(&places(&[]), &pgdata).unwrap_err();
        assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
    }

    #[test]
    fn client_programs_alone_do_not_count() {
        let scratch = Scratch::new("client");
        let bindir = scratch.programs("a", "16.0");
        fs::remove_file(bindir.join("initdb")).unwrap();
        let error = choose(&places(&[&bindir]), &scratch.0.join("none")).unwrap_err();
        assert!(error.to_string().ends_with("Looked in: the test's"), "{error}");
    }

    #[test]
    fn a_version_before_14_is_too_old() {
        let scratch = Scratch::new("old");
        let bindir = scratch.programs("a", "13.9");
        let error = choose(&places(&[&bindir]), &scratch.0.join("none")).unwrap_err();
        assert!(matches!(error, EmbeddedError::TooOld { .. }), "{error}");
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let scratch = Scratch::new("star");
        for name in ["pgsql-15", "pgsql-16", "other"] {
            fs::create_dir_all(scratch.0.join(name)).unwrap();
        }
        let found = matching(&format!("{}/pgsql-*/bin", scratch.0.display()));
        assert_eq!(found, [scratch.0.join("pgsql-15/bin"), scratch.0.join("pgsql-16/bin")]);
        let whole = matching(&format!("{}/pgsql*", scratch.0.display()));
        assert_eq!(whole.len(), 2);
    }
}
