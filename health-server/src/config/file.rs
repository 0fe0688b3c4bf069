//! The configuration file: TOML with one setting a line.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{Spanned, Value};

use super::{
    error::ConfigError,
    setting::{Kind, Setting},
};
use crate::secret_file::others_can_read;

/// The settings of a file as texts, as a command line would have them.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

/// Something wrong in the file, and where it stands.
struct Fault {
    at: Range<usize>,
    reason: String,
}

impl FileValues {
    /// Reads a file and checks every setting in it.
    pub(super) fn read(path: &Path, settings: &[Setting]) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        let values = parse(&text, settings, path.parent()).map_err(|fault| ConfigError::File {
            path: path.to_owned(),
            line: line_at(&text, fault.at.start),
            reason: fault.reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            values,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(Vec::as_slice)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// Returns the path of a file that has the URL of the database with a password, and that others can read.
    pub(super) fn shows_password(&self) -> Option<PathBuf> {
        let has_password = self.get("database-url").is_some_and(|values| {
            let is_password = |url: &String| url.contains("password=") || url.contains('@');
            values.iter().any(is_password)
        });
        let is_shown = has_password && fs::metadata(&self.path).is_ok_and(|metadata| others_can_read(&metadata));
        is_shown.then(|| self.path.clone())
    }
}

fn parse(text: &str, settings: &[Setting], folder: Option<&Path>) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let file: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(text).map_err(|error| Fault {
        at: error.span().unwrap_or_default(),
        reason: error.message().to_owned(),
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in file {
        let at = key.span();
        let key = key.into_inner();
        let setting = settings
            .iter()
            .find(|setting| setting.key == key)
            .ok_or_else(|| Fault {
                reason: unknown_key(&key, value.get_ref(), settings),
                at: at.clone(),
            })?;
        let texts = texts(setting, value.get_ref()).map_err(|reason| Fault {
            at: at.clone(),
            reason: format!("{key}: {reason}"),
        })?;
        for text in &texts {
            if let Some(reason) = setting.fault(text) {
                let shown = if super::SECRET_KEYS.contains(&key.as_str()) {
                    String::new()
                } else {
                    format!(" \"{text}\"")
                };
                return Err(Fault {
                    at,
                    reason: format!("{key}: the value{shown} cannot be used: {reason}"),
                });
            }
        }
        // A relative path starts at the directory of the file, wherever the program was started.
        let texts = match folder {
            Some(folder) if setting.is_path => {
                let in_folder = |text: &String| folder.join(text).into_os_string().into_string();
                texts
                    .iter()
                    .map(|text| in_folder(text).unwrap_or_else(|_| text.clone()))
                    .collect()
            }
            _ => texts,
        };
        values.insert(key, texts);
    }
    Ok(values)
}

/// Returns the values as the command line would have them, or what to write in place of this type.
fn texts(setting: &Setting, value: &Value) -> Result<Vec<String>, String> {
    if let Value::Array(values) = value
        && setting.is_list
    {
        let texts = values.iter().map(|value| text(setting, value));
        return texts.collect();
    }
    Ok(vec![text(setting, value)?])
}

fn text(setting: &Setting, value: &Value) -> Result<String, String> {
    match (value, setting.kind) {
        (Value::Boolean(is_on), Kind::Switch) => Ok(is_on.to_string()),
        (Value::Integer(number), Kind::Count | Kind::Quantity) => Ok(number.to_string()),
        (Value::String(text), Kind::Text | Kind::Quantity) => Ok(text.clone()),
        (value, kind) => {
            let expected = match kind {
                Kind::Switch => "true or false",
                Kind::Count => "a whole number without quotation marks",
                Kind::Quantity => "a whole number, or a text with a unit such as \"16MiB\" or \"30s\"",
                Kind::Text if setting.is_list => "a list of texts such as [\"a\", \"b\"]",
                Kind::Text => "a text in quotation marks",
            };
            Err(format!("the value is {}. Write {expected}.", type_name(value)))
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

fn unknown_key(key: &str, value: &Value, settings: &[Setting]) -> String {
    let written = key.replace('_', "-").to_lowercase();
    // The variable of a setting is a likely mistake.
    let written = written.strip_prefix("health-").unwrap_or(&written);
    let similarity = |setting: &&Setting| strsim::jaro_winkler(&setting.key, written);
    let nearest = settings
        .iter()
        .max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let nearest = nearest.map_or("", |setting| setting.key.as_str());
    if value.is_table() {
        return format!(
            "there is no section [{key}]: settings stand without sections. The nearest setting is `{nearest}`."
        );
    }
    format!("the setting `{key}` is not known. Did you mean `{nearest}`?")
}

/// Returns the line of a byte, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
