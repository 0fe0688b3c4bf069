//! The settings: the defaults, the settings file and the command line, combined into one [`Settings`].

mod names;
mod print;
mod zone;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use chrono::Utc;
use chrono_tz::Tz;
use etcetera::BaseStrategy;
use health_core::AlertThresholds;
use serde::Deserialize;
use toml::Spanned;

pub(crate) use self::print::print;
use self::zone::LocalZone;
use crate::{
    caps::{Caps, ColourDepth},
    keys::{KeyError, Keymap},
    options::Options,
    store::Column,
    theme::{Theme, ThemeName},
};

/// Frames a second while data arrives. Ten are smooth for numbers that change every few seconds.
const FPS: u8 = 10;
/// Fewer over SSH, to save bandwidth.
const FPS_REMOTE: u8 = 4;

/// The maximal heart rate that the zones are shares of: 220 minus an age of 30 (Fox and Haskell, 1971).
const HEART_RATE_MAX: f64 = 190.0;

/// The largest settings or names file. 100 000 names take less than half of it.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The settings of the dashboard.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) keymap: Keymap,
    pub(crate) theme: ThemeName,
    pub(crate) depth: ColourDepth,
    /// False draws only ASCII.
    pub(crate) unicode: bool,
    pub(crate) alert_thresholds: AlertThresholds,
    /// Names of users by id.
    pub(crate) names: HashMap<i64, String>,
    pub(crate) tz: Tz,
    /// A sentence for the user, if the time zone of this machine is not understood.
    pub(crate) tz_note: Option<String>,
    /// Each row of the live table has its own scale, in place of one for all visible rows.
    pub(crate) row_scales: bool,
    /// The columns of the live table from left to right.
    pub(crate) columns: Vec<Column>,
    /// The heart rate in beats per minute that the zones are shares of.
    pub(crate) heart_rate_max: f64,
    pub(crate) mouse: bool,
    /// The most frames a second while data arrives.
    pub(crate) fps: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keymap: Keymap::default(),
            theme: ThemeName::Dark,
            depth: ColourDepth::True,
            unicode: true,
            alert_thresholds: AlertThresholds::default(),
            names: HashMap::new(),
            tz: Tz::UTC,
            tz_note: None,
            row_scales: false,
            columns: Column::ALL.to_vec(),
            heart_rate_max: HEART_RATE_MAX,
            mouse: true,
            fps: FPS,
        }
    }
}

/// The settings file. Every key is optional; an unknown key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsFile {
    theme: Option<ThemeName>,
    colours: Option<ColourDepth>,
    ascii: Option<bool>,
    mouse: Option<bool>,
    fps: Option<Spanned<u8>>,
    tz: Option<Spanned<String>>,
    names: Option<PathBuf>,
    columns: Option<Spanned<Vec<Column>>>,
    row_scales: Option<bool>,
    heart_rate_max: Option<f64>,
    alerts: AlertThresholds,
    keys: BTreeMap<Spanned<String>, Vec<String>>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The settings file or the names file cannot be read.
    #[error("Cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The settings file or the names file is larger than 8 MiB.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes. Is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The settings file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{}, line {line}: {reason}", path.display())]
    Toml {
        /// The settings file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The message of the TOML parser.
        reason: String,
    },
    /// A value of the settings file or the names file is not allowed.
    #[error("{}, line {line}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// The time zone of `--tz` does not exist.
    #[error("{}", unknown_zone(name))]
    Zone {
        /// The name on the command line.
        name: String,
    },
}

impl Settings {
    /// Combines the settings: the command line wins over the settings file, and the file over `caps` and `defaults`.
    pub(crate) fn load(options: &Options, caps: Caps, defaults: &MachineDefaults) -> Result<Self, ConfigError> {
        let default_path = defaults.settings_file.as_ref().filter(|path| path.exists());
        let (path, text) = match options.config.as_ref().or(default_path) {
            Some(path) => (path.as_path(), read(path)?),
            None => (Path::new(""), String::new()),
        };
        let (mut settings, file) = parse(path, &text, caps)?;
        if let Some(theme) = options.theme {
            settings.theme = theme;
        }
        if options.ascii {
            settings.unicode = false;
        }
        if let Some(fps) = options.fps {
            settings.fps = fps;
        }
        if let Some(name) = &options.tz {
            settings.tz = name.parse().map_err(|_| ConfigError::Zone { name: name.clone() })?;
        } else if file.tz.is_none() {
            settings.tz = defaults.zone.tz;
            settings.tz_note.clone_from(&defaults.zone.note);
        }
        // A relative path in the settings file starts at the directory of the file.
        let in_file = |names: PathBuf| path.parent().map_or_else(|| names.clone(), |dir| dir.join(&names));
        if let Some(path) = options.names.clone().or(file.names.map(in_file)) {
            settings.names = names::parse(&read(&path)?).map_err(|error| ConfigError::Value {
                line: error.line,
                reason: error.fault.to_string(),
                path,
            })?;
        }
        Ok(settings)
    }

    pub(crate) fn theme(&self) -> Theme {
        Theme::new(self.theme, self.depth)
    }
}

/// Parses a settings file. The result has no names and the time zone UTC if the file has none.
fn parse(path: &Path, text: &str, caps: Caps) -> Result<(Settings, SettingsFile), ConfigError> {
    let file: SettingsFile = toml::from_str(text).map_err(|error| ConfigError::Toml {
        path: path.to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    let settings = file.settings(caps).map_err(|error| ConfigError::Value {
        path: path.to_owned(),
        line: line_at(text, error.offset),
        reason: error.reason,
    })?;
    Ok((settings, file))
}

/// A value of the settings file that is not allowed.
struct ValueError {
    /// The byte in the file where the value starts.
    offset: usize,
    reason: String,
}

impl ValueError {
    fn new<T>(value: &Spanned<T>, reason: impl Into<String>) -> Self {
        Self {
            offset: value.span().start,
            reason: reason.into(),
        }
    }
}

impl SettingsFile {
    fn settings(&self, caps: Caps) -> Result<Settings, ValueError> {
        Ok(Settings {
            keymap: self.keymap()?,
            // `NO_COLOR` was set for this run, so it wins over the file (<https://no-color.org>).
            theme: if caps.no_color {
                ThemeName::Mono
            } else {
                self.theme.unwrap_or_default()
            },
            depth: self.colours.unwrap_or(caps.depth),
            unicode: caps.unicode && !self.ascii.unwrap_or(false),
            alert_thresholds: self.alerts,
            names: HashMap::new(),
            tz: self.tz()?,
            tz_note: None,
            row_scales: self.row_scales.unwrap_or(false),
            columns: self.columns()?,
            heart_rate_max: self.heart_rate_max.unwrap_or(HEART_RATE_MAX),
            mouse: self.mouse.unwrap_or(true),
            fps: self.fps(caps)?,
        })
    }

    fn keymap(&self) -> Result<Keymap, ValueError> {
        let overrides = self
            .keys
            .iter()
            .map(|(name, keys)| (name.as_ref().as_str(), keys.as_slice()));
        Keymap::with_overrides(overrides).map_err(|error| {
            let find = |name: &str| self.keys.keys().find(|key| key.as_ref() == name);
            let entry = match &error {
                KeyError::UnknownAction { name } | KeyError::InvalidKey { name, .. } => find(name),
                // At least one of the two is in the file: the defaults have no conflict.
                KeyError::Conflict { first, second, .. } => find(second).or_else(|| find(first)),
            };
            ValueError {
                offset: entry.map_or(0, |name| name.span().start),
                reason: error.to_string(),
            }
        })
    }

    fn tz(&self) -> Result<Tz, ValueError> {
        match &self.tz {
            Some(name) => {
                let parsed = name.as_ref().parse();
                parsed.map_err(|_| ValueError::new(name, unknown_zone(name.as_ref())))
            }
            None => Ok(Tz::UTC),
        }
    }

    fn fps(&self, caps: Caps) -> Result<u8, ValueError> {
        match &self.fps {
            Some(fps) if (1..=60).contains(fps.as_ref()) => Ok(*fps.as_ref()),
            Some(fps) => {
                let reason = format!("fps is {}. Write a number from 1 to 60.", fps.as_ref());
                Err(ValueError::new(fps, reason))
            }
            None if caps.remote => Ok(FPS_REMOTE),
            None => Ok(FPS),
        }
    }

    fn columns(&self) -> Result<Vec<Column>, ValueError> {
        let Some(spanned) = &self.columns else {
            return Ok(Column::ALL.to_vec());
        };
        let columns = spanned.as_ref();
        if columns.is_empty() {
            return Err(ValueError::new(spanned, "columns is empty. Name at least one column."));
        }
        if (1..columns.len()).any(|i| columns[..i].contains(&columns[i])) {
            return Err(ValueError::new(
                spanned,
                "columns names a column twice. Name each column once.",
            ));
        }
        Ok(columns.clone())
    }
}

fn unknown_zone(name: &str) -> String {
    format!("`{name}` is not a time zone. Write a name such as Europe/Berlin.")
}

/// What this machine says about the settings file and the time zone.
#[derive(Clone, Debug)]
pub(crate) struct MachineDefaults {
    settings_file: Option<PathBuf>,
    zone: LocalZone,
}

impl MachineDefaults {
    /// Finds `health/tui.toml` in `$XDG_CONFIG_HOME` or `~/.config`, and the time zone of `$TZ` or of the system.
    pub(crate) fn detect(var: impl Fn(&str) -> Option<String>) -> Self {
        let config_dir = etcetera::base_strategy::Xdg::new().map(|xdg| xdg.config_dir()).ok();
        Self {
            settings_file: config_dir.map(|dir| dir.join("health").join("tui.toml")),
            zone: LocalZone::detect(var("TZ").as_deref(), Utc::now()),
        }
    }
}

/// Returns the line of a byte, from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let reason = "the text is not UTF-8. Save it as UTF-8";
        unreadable(io::Error::new(io::ErrorKind::InvalidData, reason))
    })?;
    Ok(without_byte_order_mark(&text).to_owned())
}

/// Returns the text without the mark that editors on Windows write before it.
pub(crate) fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        depth: ColourDepth::Ansi256,
        unicode: true,
        no_color: false,
        remote: false,
    };

    fn settings(text: &str, caps: Caps) -> Result<Settings, String> {
        let parsed = parse(Path::new("tui.toml"), text, caps);
        parsed.map(|(settings, _)| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_printed_settings_file_has_the_defaults() {
        let printed = settings(&print(), CAPS).unwrap();
        let default = Settings {
            depth: ColourDepth::Ansi256,
            ..Settings::default()
        };
        assert_eq!(format!("{printed:?}"), format!("{default:?}"));
    }

    #[test]
    fn an_error_names_its_line() {
        for (text, error) in [
            ("theme = \"dark\"\nfsp = 3\n", "line 2: unknown field `fsp`"),
            ("[alerts]\nhight = 3\n", "line 2: unknown field `hight`"),
            ("\n[keys]\nfly = [\"f\"]\n", "line 3: `fly` is not an action"),
            (
                "[keys]\nquit = [\"hyper-q\"]\n",
                "line 2: `hyper-q` of `quit` is not a key",
            ),
            (
                "[keys]\nhelp = [\"f2\"]\nfilter = [\"q\"]\n",
                "line 3: `quit` and `filter` have the same key `q`",
            ),
            ("fps = 0\n", "line 1: fps is 0"),
            ("\ntz = \"Mars\"", "line 2: `Mars` is not a time zone"),
            ("\n\ncolumns = []", "line 3: columns is empty"),
            (
                "columns = [\"age\", \"user\", \"age\"]",
                "line 1: columns names a column twice",
            ),
            ("theme = \"pink\"", "line 1: unknown variant `pink`"),
        ] {
            let got = settings(text, CAPS).unwrap_err();
            assert!(got.starts_with(&format!("tui.toml, {error}")), "{got}");
        }
    }

    #[test]
    fn files_of_editors_on_windows_are_read() {
        let directory = test_support::test_directory();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let defaults = MachineDefaults {
            settings_file: None,
            zone: LocalZone::detect(Some(""), Utc::now()),
        };
        let load = |names: PathBuf, config: PathBuf| {
            let options = Options {
                names: Some(names),
                config: Some(config),
                ..Options::default()
            };
            Settings::load(&options, CAPS, &defaults)
        };
        let names = write("names.txt", b"\xef\xbb\xbf101 Ada\r\n202 Grace\r\n");
        let config = write("tui.toml", b"\xef\xbb\xbftheme = \"light\"\r\n");
        let settings = load(names, config.clone()).unwrap();
        assert_eq!(
            (settings.theme, settings.names[&101].as_str()),
            (ThemeName::Light, "Ada")
        );
        let utf16 = write("utf16.txt", b"\xff\xfe1\x000\x001\x00");
        let error = load(utf16, config).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with("Save it as UTF-8"), "{cause}");
    }

    #[test]
    fn no_color_wins_over_the_settings_file() {
        let caps = Caps { no_color: true, ..CAPS };
        assert_eq!(settings("theme = \"light\"", caps).unwrap().theme, ThemeName::Mono);
    }

    #[test]
    fn fewer_frames_are_drawn_over_ssh() {
        let caps = Caps { remote: true, ..CAPS };
        assert_eq!(settings("", caps).unwrap().fps, FPS_REMOTE);
        assert_eq!(settings("fps = 30", caps).unwrap().fps, 30);
    }
}
