//! What can be set: the configuration file under the command line, made into one [`Settings`].

mod names;
mod print;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use chrono_tz::Tz;
use serde::Deserialize;
use toml::Spanned;

use crate::{
    caps::{Caps, Depth},
    keys::{KeyError, Keymap},
    options::Options,
    store::{Column, Limits},
    theme::{Theme, ThemeName},
};

pub(crate) use self::print::print;

/// Frames a second while data arrives, here and over SSH.
const FPS: u8 = 10;
const FPS_REMOTE: u8 = 4;

/// The largest file of names or settings that is read: a hundred thousand names are below it.
const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Everything the dashboard can be told to do differently.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) keymap: Keymap,
    pub(crate) theme: ThemeName,
    pub(crate) depth: Depth,
    /// False draws with ASCII alone.
    pub(crate) unicode: bool,
    pub(crate) limits: Limits,
    pub(crate) names: HashMap<i64, String>,
    pub(crate) tz: Tz,
    pub(crate) columns: Vec<Column>,
    /// Beats per minute of which the zones are shares.
    pub(crate) heart_rate_max: f64,
    pub(crate) mouse: bool,
    /// Frames a second at most while data arrives.
    pub(crate) fps: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keymap: Keymap::default(),
            theme: ThemeName::Dark,
            depth: Depth::True,
            unicode: true,
            limits: Limits::default(),
            names: HashMap::new(),
            tz: Tz::UTC,
            columns: Column::ALL.to_vec(),
            heart_rate_max: 190.0,
            mouse: true,
            fps: FPS,
        }
    }
}

/// The configuration file. Every key may be left out, none may be misspelt.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    theme: Option<ThemeName>,
    colours: Option<Depth>,
    ascii: Option<bool>,
    mouse: Option<bool>,
    fps: Option<Spanned<u8>>,
    tz: Option<Spanned<String>>,
    names: Option<PathBuf>,
    columns: Option<Spanned<Vec<Column>>>,
    heart_rate_max: Option<f64>,
    alerts: Limits,
    keys: BTreeMap<Spanned<String>, Vec<String>>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that was named cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is far too large to be what it should be.
    #[error("{} is larger than {FILE_MAX_BYTES} bytes: is it the right file?", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It is not TOML, or has a key that is not known.
    #[error("{}: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong with it.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{}, line {line}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What to write.
        reason: String,
    },
    /// A zone on the command line that does not exist.
    #[error("`{0}` is no time zone; write for example Europe/Berlin")]
    Zone(String),
}

impl Settings {
    /// The command line over the file over what the terminal can do.
    pub(crate) fn load(options: &Options, caps: Caps, home: &Home) -> Result<Self, ConfigError> {
        let (path, text) = match &options.config {
            Some(path) => (path.clone(), read(path)?),
            None => match home.config.as_ref().filter(|p| p.exists()) {
                Some(path) => (path.clone(), read(path)?),
                None => (PathBuf::new(), String::new()),
            },
        };
        let file = parse(&path, &text)?;
        let mut settings = file.settings(&path, &text, caps)?;
        if let Some(theme) = options.theme {
            settings.theme = theme;
        }
        if options.ascii {
            settings.unicode = false;
        }
        if let Some(fps) = options.fps {
            settings.fps = fps;
        }
        settings.tz = match (&options.tz, file.tz) {
            (Some(name), _) => name.parse().map_err(|_| ConfigError::Zone(name.clone()))?,
            (None, Some(_)) => settings.tz,
            (None, None) => home.zone.unwrap_or(Tz::UTC),
        };
        let beside = |names: PathBuf| path.parent().map_or_else(|| names.clone(), |dir| dir.join(&names));
        if let Some(path) = options.names.clone().or(file.names.map(beside)) {
            settings.names =
                names::parse(&read(&path)?).map_err(|(line, reason)| ConfigError::Value { path, line, reason })?;
        }
        Ok(settings)
    }

    pub(crate) fn theme(&self) -> Theme {
        Theme::new(self.theme, self.depth)
    }
}

impl File {
    fn settings(&self, path: &Path, text: &str, caps: Caps) -> Result<Settings, ConfigError> {
        let wrong = |at: usize, reason: String| ConfigError::Value {
            path: path.to_owned(),
            line: line_of(text, at),
            reason,
        };
        let keys = self
            .keys
            .iter()
            .map(|(name, keys)| (name.as_ref().as_str(), keys.as_slice()));
        let keymap = Keymap::with(keys).map_err(|error| {
            let name = match &error {
                KeyError::NoAction { name } | KeyError::NoKey { name, .. } => name.as_str(),
                KeyError::Conflict { first, second, .. } => {
                    // The line of whichever of the two the file changes.
                    if self.keys.keys().any(|k| k.as_ref() == *second) {
                        second
                    } else {
                        first
                    }
                }
            };
            let at = self
                .keys
                .keys()
                .find(|k| k.as_ref() == name)
                .map_or(0, |k| k.span().start);
            wrong(at, error.to_string())
        })?;
        let tz = match &self.tz {
            Some(name) => name.as_ref().parse().map_err(|_| {
                wrong(
                    name.span().start,
                    format!("`{}` is no time zone; write for example Europe/Berlin", name.as_ref()),
                )
            })?,
            None => Tz::UTC,
        };
        let fps = match &self.fps {
            Some(fps) if (1..=60).contains(fps.as_ref()) => *fps.as_ref(),
            Some(fps) => return Err(wrong(fps.span().start, "fps is 1 to 60".to_owned())),
            None if caps.remote => FPS_REMOTE,
            None => FPS,
        };
        let columns = match &self.columns {
            Some(columns) if columns.as_ref().is_empty() => {
                return Err(wrong(columns.span().start, "at least one column is needed".to_owned()));
            }
            Some(columns) => {
                let mut seen = columns.as_ref().clone();
                seen.dedup();
                let twice =
                    (1..seen.len()).any(|i| seen[..i].contains(&seen[i])) || seen.len() < columns.as_ref().len();
                if twice {
                    return Err(wrong(columns.span().start, "a column is named twice".to_owned()));
                }
                columns.as_ref().clone()
            }
            None => Column::ALL.to_vec(),
        };
        Ok(Settings {
            keymap,
            theme: match self.theme {
                // <https://no-color.org>: a file is not asked for by this run, the variable is.
                _ if caps.no_color => ThemeName::Mono,
                Some(theme) => theme,
                None => ThemeName::Dark,
            },
            depth: self.colours.unwrap_or(caps.depth),
            unicode: caps.unicode && !self.ascii.unwrap_or(false),
            limits: self.alerts,
            names: HashMap::new(),
            tz,
            columns,
            heart_rate_max: self.heart_rate_max.unwrap_or(190.0),
            mouse: self.mouse.unwrap_or(true),
            fps,
        })
    }
}

/// Where the person's own files and clock are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Home {
    config: Option<PathBuf>,
    zone: Option<Tz>,
}

impl Home {
    /// `$XDG_CONFIG_HOME/health/tui.toml`, and the zone of `$TZ` or of `/etc/localtime`.
    pub(crate) fn find(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let base = set("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")));
        let zone = set("TZ")
            .and_then(|tz| tz.trim_start_matches(':').parse().ok())
            .or_else(|| {
                let link = fs::read_link("/etc/localtime").ok()?;
                link.to_str()?.split_once("/zoneinfo/")?.1.parse().ok()
            });
        Self {
            config: base.map(|b| b.join("health").join("tui.toml")),
            zone,
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(String::new(), |s| format!("line {}: ", line_of(text, s.start)));
        ConfigError::Toml {
            path: path.to_owned(),
            reason: format!("{line}{}", error.message()),
        }
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        depth: Depth::Ansi256,
        unicode: true,
        no_color: false,
        remote: false,
    };

    fn settings(text: &str) -> Result<Settings, String> {
        let path = Path::new("tui.toml");
        let file = parse(path, text).map_err(|e| e.to_string())?;
        file.settings(path, text, CAPS).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_printed_is_read_and_is_the_default() {
        let printed = settings(&print()).unwrap();
        let default = Settings {
            depth: Depth::Ansi256,
            ..Settings::default()
        };
        assert_eq!(format!("{printed:?}"), format!("{default:?}"));
    }

    #[test]
    fn errors_name_their_line() {
        for (text, error) in [
            ("theme = \"dark\"\nfsp = 3\n", "tui.toml: line 2: unknown field `fsp`"),
            ("[alerts]\nhight = 3\n", "tui.toml: line 2: unknown field `hight`"),
            ("\n[keys]\nfly = [\"f\"]\n", "tui.toml, line 3: `fly` is not an action"),
            (
                "[keys]\nquit = [\"hyper-q\"]\n",
                "tui.toml, line 2: `hyper-q` of `quit` is not a key",
            ),
            (
                "[keys]\nhelp = [\"f2\"]\nfilter = [\"q\"]\n",
                "tui.toml, line 3: the key `q` is given to both `quit` and `filter`",
            ),
            ("fps = 0\n", "tui.toml, line 1: fps is 1 to 60"),
            ("\ntz = \"Mars\"", "tui.toml, line 2: `Mars` is no time zone"),
            (
                "columns = [\"age\", \"user\", \"age\"]",
                "tui.toml, line 1: a column is named twice",
            ),
            ("theme = \"pink\"", "tui.toml: line 1: unknown variant `pink`"),
        ] {
            let got = settings(text).unwrap_err();
            assert!(got.starts_with(error), "{got}");
        }
    }

    #[test]
    fn no_color_wins_over_the_file() {
        let file = parse(Path::new(""), "theme = \"light\"").unwrap();
        let caps = Caps { no_color: true, ..CAPS };
        assert_eq!(file.settings(Path::new(""), "", caps).unwrap().theme, ThemeName::Mono);
    }
}
