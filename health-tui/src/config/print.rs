//! The output of `--print-config`.

use std::fmt::Write as _;

use crate::keys::{BINDINGS, Scope};

/// Everything before the list of keys.
const SETTINGS: &str = r#"# Settings of health-tui. Every setting is optional; these are the defaults.
# Save this file as ~/.config/health/tui.toml, or name it with --config.

# The theme: dark, light, high-contrast, colour-blind or mono.
theme = "dark"
# The colours of the terminal: 16, 256 or true. By default the TERM and COLORTERM variables decide.
# colours = "true"
# Draw only ASCII characters.
ascii = false
# React to the mouse.
mouse = true
# The most frames a second while data arrives, from 1 to 60. The default over SSH is 4.
fps = 10
# The time zone of all times. The default is the time zone of this machine.
# tz = "Europe/Berlin"
# A file with names for users: on each line an id and a name.
# names = "names.txt"
# The columns of the live table from left to right.
columns = ["user", "heart-rate", "steps", "calories", "age"]
# Each row of the live table has its own scale, in place of one scale for all visible rows.
row_scales = false
# The maximal heart rate in beats per minute. The zones are shares of it.
heart_rate_max = 190.0

[alerts]
# A heart rate of at least `high` or below `low` is an alert, in beats per minute.
high = 150.0
low = 40.0
# A user without a new sample for this many seconds is stale.
stale_s = 120

# The keys of each action. An empty list removes the keys of an action.
[keys]
"#;

/// Returns a settings file with the defaults.
pub(crate) fn print() -> String {
    let mut out = SETTINGS.to_owned();
    for scope in Scope::ALL {
        // Writing to a String cannot fail.
        _ = writeln!(out, "# {}", scope.title());
        for binding in BINDINGS.iter().filter(|b| b.scope == scope) {
            let keys: Vec<String> = binding.keys.iter().map(|key| format!("{key:?}")).collect();
            _ = writeln!(out, "{} = [{}]", binding.name, keys.join(", "));
        }
    }
    out
}
