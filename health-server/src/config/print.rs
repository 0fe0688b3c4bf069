//! The output of `--print-config`.

use std::fmt::Write as _;

use clap::{Arg, CommandFactory};

use super::setting::{Kind, Setting, arguments};
use crate::args::Args;

const HEAD: &str = "\
# Settings of health-server, each with its default. This file changes nothing until you change a value.
# Name the file with --config FILE or HEALTH_CONFIG. Each setting is also a flag, and the variable that stands beside it:
# a flag wins over the variable, the variable over this file. A relative path starts at the directory of this file.
# SIGHUP makes a running server read the file again. The log then says what changed, and what needs a restart.
";

/// The width of comments.
const WIDTH: usize = 100;

/// Returns a file with every setting, its default and its meaning.
pub(crate) fn print() -> String {
    let command = Args::command();
    let mut text = HEAD.to_owned();
    let mut printed = Vec::new();
    for arg in arguments(&command) {
        let Some(setting) = Setting::new(arg) else { continue };
        if printed.contains(&setting.key) {
            continue;
        }
        let variable = arg.get_env().unwrap_or_default().display();
        let help = arg.get_long_help().or(arg.get_help());
        let meaning = format!("{} ({variable})", help.map(ToString::to_string).unwrap_or_default());
        text.push('\n');
        for line in textwrap::wrap(&meaning, WIDTH) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "{}", line(&setting, arg));
        printed.push(setting.key);
    }
    text
}

/// Returns the line of a setting. Without a default, it is a comment with an example in it.
fn line(setting: &Setting, arg: &Arg) -> String {
    let key = &setting.key;
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    match (setting.kind, defaults.as_slice()) {
        (Kind::Switch, _) => format!("{key} = false"),
        (Kind::Count, [number]) => format!("{key} = {number}"),
        (_, []) if setting.is_list => format!("{key} = []"),
        (_, [text]) => format!("{key} = {}", quoted(text)),
        (kind, _) => {
            let name = arg
                .get_value_names()
                .and_then(<[_]>::first)
                .map_or("…", |name| name.as_str());
            let example = match (kind, name) {
                (Kind::Count, _) => "1".to_owned(),
                (Kind::Quantity, "TIME") => quoted("90d"),
                (Kind::Quantity, _) => quoted("16MiB"),
                _ => quoted(name),
            };
            format!("# {key} = {example}")
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
