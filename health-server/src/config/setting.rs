//! The settings: every flag that has a variable, and what its value is in a file.

use std::{any::TypeId, path::PathBuf};

use clap::{Arg, ArgAction, Command, builder::ValueParser};
use health_core::flags::refusal_reason;

/// A setting: its key in the file is the name of its flag.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    /// The name of the flag inside clap.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// The setting has a list of values.
    pub(super) is_list: bool,
    pub(super) is_path: bool,
    parser: ValueParser,
}

/// The form of a value in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count,
    /// A whole number, or a text with a unit, like `"16MiB"` or `"30s"`.
    Quantity,
    Text,
}

/// The settings whose values must not be shown.
pub(crate) const SECRET_KEYS: [&str; 2] = ["database-url", "token"];

/// The names of values that may have a unit. The help text explains them.
const QUANTITIES: [&str; 2] = ["BYTES", "TIME"];

/// The setting that names the file itself.
const CONFIG: &str = "config";

/// Returns the settings of a command and of all its subcommands, in the order of their definition.
pub(super) fn settings(command: &Command) -> Vec<Setting> {
    let mut found: Vec<Setting> = Vec::new();
    for arg in arguments(command) {
        if let Some(setting) = Setting::new(arg)
            && !found.iter().any(|known| known.key == setting.key)
        {
            found.push(setting);
        }
    }
    found
}

/// Returns the flags of a command and of all its subcommands.
pub(super) fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let inner: Vec<&Arg> = command.get_subcommands().flat_map(arguments).collect();
    command.get_arguments().chain(inner)
}

impl Setting {
    /// Returns `None` for a flag that is no setting: it is meant for one call.
    pub(super) fn new(arg: &Arg) -> Option<Self> {
        let key = arg.get_long().filter(|key| *key != CONFIG)?;
        arg.get_env()?;
        let parser = arg.get_value_parser().clone();
        let value_type = parser.type_id();
        let is_quantity = arg
            .get_value_names()
            .is_some_and(|names| names.iter().any(|name| QUANTITIES.contains(&name.as_str())));
        let kind = if !arg.get_action().takes_values() {
            Kind::Switch
        } else if is_quantity {
            Kind::Quantity
        } else if [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>()]
            .iter()
            .any(|number| value_type == *number)
        {
            Kind::Count
        } else {
            Kind::Text
        };
        Some(Self {
            key: key.to_owned(),
            id: arg.get_id().to_string(),
            kind,
            is_list: matches!(arg.get_action(), ArgAction::Append),
            is_path: value_type == TypeId::of::<PathBuf>(),
            parser,
        })
    }

    /// Returns why the flag would refuse a value.
    pub(super) fn fault(&self, value: &str) -> Option<String> {
        let flag = Arg::new("value")
            .long("value")
            .value_parser(self.parser.clone())
            .action(ArgAction::Set);
        let probe = Command::new("probe").no_binary_name(true).arg(flag);
        let error = probe.try_get_matches_from([format!("--value={value}")]).err()?;
        Some(refusal_reason(&error).unwrap_or_else(|| "the value must not be empty".to_owned()))
    }
}
