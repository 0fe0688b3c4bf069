//! The environment variables of PostgreSQL's programs.

use std::{env, ffi::OsString};

/// The variables that a program may need to find its libraries and tools. It inherits no others.
const INHERITED_VARIABLES: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Returns all variables that a program of PostgreSQL gets. Its messages are in English.
pub(crate) fn program_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let inherited = INHERITED_VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, env::var_os(name)?)));
    inherited.chain([("LC_ALL", OsString::from("C"))])
}
