//! Which of the two settings that name an external database counts: the URL, or the file with the URL.

use clap::{ArgMatches, Command, builder::Resettable, parser::ValueSource};

use super::{chosen, error::ConfigError, file::FileValues};

const URL: (&str, &str) = ("database-url", "database_url");
const URL_FILE: (&str, &str) = ("database-url-file", "database_url_file");

/// Where a value comes from. The greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Nowhere,
    File,
    Variable,
    Flag,
}

/// Leaves out the setting that the other one wins over: a flag wins over a variable, a variable over the file.
///
/// # Errors
/// [`ConfigError::TwoDatabases`] if both come from the same place.
pub(super) fn choose(command: Command, matches: &ArgMatches, file: &mut FileValues) -> Result<Command, ConfigError> {
    let (url, url_file) = (origin(URL, matches, file), origin(URL_FILE, matches, file));
    if url == Origin::Nowhere || url_file == Origin::Nowhere {
        return Ok(command);
    }
    if url == url_file {
        let name = |(key, _): (&str, _), variable: &str| match url {
            Origin::Variable => variable.to_owned(),
            Origin::Flag => format!("--{key}"),
            _ => format!("`{key}` in the configuration file"),
        };
        return Err(ConfigError::TwoDatabases {
            first: name(URL, "DATABASE_URL"),
            second: name(URL_FILE, "DATABASE_URL_FILE"),
        });
    }
    let ((key, id), origin) = if url < url_file {
        (URL, url)
    } else {
        (URL_FILE, url_file)
    };
    if origin == Origin::File {
        file.remove(key);
        return Ok(command);
    }
    Ok(without_variable(command, id))
}

fn origin((key, id): (&str, &str), matches: &ArgMatches, file: &FileValues) -> Origin {
    // A command without a database does not know the flag.
    let source = match chosen(matches).try_contains_id(id) {
        Ok(true) => chosen(matches).value_source(id),
        _ => None,
    };
    match source {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Variable,
        _ if file.get(key).is_some() => Origin::File,
        _ => Origin::Nowhere,
    }
}

fn without_variable(command: Command, id: &str) -> Command {
    command
        .mut_args(|arg| {
            if arg.get_id() == id {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(|command| without_variable(command, id))
}
