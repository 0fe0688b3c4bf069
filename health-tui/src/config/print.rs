//! `--print-config`.

use std::fmt::Write as _;

use crate::keys::{BINDINGS, Scope};

/// The defaults as a file that can be edited.
pub(crate) fn print() -> String {
    let mut out = String::from(
        "# Settings of health-tui. All of them are optional; these are the defaults.\n\
         # Kept in ~/.config/health/tui.toml, or wherever --config says.\n\n\
         # dark, light, high-contrast, colour-blind, mono\n\
         theme = \"dark\"\n\
         # 16, 256 or true; without it the terminal is asked\n\
         # colours = \"true\"\n\
         ascii = false\n\
         mouse = true\n\
         # frames a second at most while data arrives; over SSH 4\n\
         fps = 10\n\
         # without it the zone of this machine\n\
         # tz = \"Europe/Berlin\"\n\
         # one user a line: the id, then the name\n\
         # names = \"names.txt\"\n\
         columns = [\"user\", \"heart-rate\", \"steps\", \"calories\", \"age\"]\n\
         # beats per minute of which the zones are shares\n\
         heart_rate_max = 190.0\n\n\
         [alerts]\n\
         # beats per minute; seconds\n\
         high = 150.0\n\
         low = 40.0\n\
         stale_s = 120\n\n\
         [keys]\n",
    );
    for scope in Scope::ALL {
        // Writing to a String cannot fail.
        _ = writeln!(out, "# {}", scope.title());
        for binding in BINDINGS.iter().filter(|b| b.scope == scope) {
            let keys: Vec<String> = binding.keys.iter().map(|k| format!("{k:?}")).collect();
            _ = writeln!(out, "{} = [{}]", binding.name, keys.join(", "));
        }
    }
    out
}
