//! What can be set: the configuration file, the command line and the environment, made into one [`Settings`].

use std::collections::HashMap;

use chrono_tz::Tz;

use crate::{
    caps::Depth,
    keys::Keymap,
    store::{Column, Limits},
    theme::{Theme, ThemeName},
};

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
        }
    }
}

impl Settings {
    pub(crate) fn theme(&self) -> Theme {
        Theme::new(self.theme, self.depth)
    }
}
