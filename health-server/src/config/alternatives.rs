//! Which of two settings counts that set one thing: a value, or the file with the value.

use clap::{ArgMatches, Command, parser::ValueSource};
use health_core::flags::without_variable;

use super::{chosen, error::ConfigError, file::FileValues};

/// A setting: its key in the configuration file, which is its flag, and its id in the command line.
type Setting = (&'static str, &'static str);

const URL: Setting = ("database-url", "database_url");
const URL_FILE: Setting = ("database-url-file", "database_url_file");
const DATA_DIR: Setting = ("data-dir", "data_dir");
const TOKEN: Setting = ("token", "token");
const TOKEN_FILE: Setting = ("token-file", "token_file");

/// Where a value comes from. The greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Nowhere,
    File,
    Variable,
    Flag,
}

/// Leaves out the settings that others win over: a flag wins over a variable, a variable over the file.
///
/// # Errors
/// [`ConfigError::TwoDatabases`] if a database URL and its file come from the same place. Of two tokens, the one that
/// is not in a file of its own wins then.
pub(super) fn choose(command: Command, matches: &ArgMatches, file: &mut FileValues) -> Result<Command, ConfigError> {
    let (url, url_file) = (origin(URL, matches, file), origin(URL_FILE, matches, file));
    if url == url_file && url != Origin::Nowhere {
        let name = |(key, _): Setting, variable: &str| match url {
            Origin::Variable => variable.to_owned(),
            Origin::Flag => format!("--{key}"),
            _ => format!("`{key}` in the configuration file"),
        };
        return Err(ConfigError::TwoDatabases {
            first: name(URL, "DATABASE_URL"),
            second: name(URL_FILE, "DATABASE_URL_FILE"),
        });
    }
    let command = prefer(command, matches, file, (URL, URL_FILE));
    Ok(prefer(command, matches, file, (TOKEN, TOKEN_FILE)))
}

/// Returns whether the command line has `--data-dir` although another database is set, so that the flag has no effect.
pub(super) fn ignores_data_dir(matches: &ArgMatches, file: &FileValues) -> bool {
    let is_set = |setting| origin(setting, matches, file) != Origin::Nowhere;
    origin(DATA_DIR, matches, file) == Origin::Flag && (is_set(URL) || is_set(URL_FILE))
}

/// Leaves out the setting of a pair that the other one wins over. If both come from the same place, leaves both.
fn prefer(
    command: Command,
    matches: &ArgMatches,
    file: &mut FileValues,
    (first, second): (Setting, Setting),
) -> Command {
    let [of_first, of_second] = [first, second].map(|setting| origin(setting, matches, file));
    if of_first == of_second {
        return command;
    }
    let ((key, id), origin) = if of_first < of_second {
        (first, of_first)
    } else {
        (second, of_second)
    };
    match origin {
        Origin::Nowhere => command,
        Origin::File => {
            file.remove(key);
            command
        }
        Origin::Variable | Origin::Flag => without_variable(command, id),
    }
}

fn origin((key, id): Setting, matches: &ArgMatches, file: &FileValues) -> Origin {
    let matches = chosen(matches);
    // A command without a database does not know its flag. An empty token is none, because a variable may be set to
    // nothing.
    let values = matches.try_get_raw(id).ok().flatten();
    let is_set = values.is_some_and(|mut values| values.any(|value| !value.is_empty()));
    match is_set.then(|| matches.value_source(id)).flatten() {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Variable,
        _ if file.get(key).is_some() => Origin::File,
        _ => Origin::Nowhere,
    }
}
