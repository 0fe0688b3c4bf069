//! The capabilities of the terminal, read from the environment variables once.

use serde::Deserialize;

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColourDepth {
    /// The 16 of ECMA-48, drawn in the palette of the terminal.
    #[serde(rename = "16")]
    Ansi16,
    /// The 256 of xterm.
    #[serde(rename = "256")]
    Ansi256,
    /// 24 bits for each colour.
    True,
}

/// The capabilities of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    pub(crate) depth: ColourDepth,
    /// True if the locale uses UTF-8, so that block and Braille symbols can be drawn.
    pub(crate) unicode: bool,
    /// True if `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub(crate) no_color: bool,
    /// True over SSH: the dashboard then draws fewer frames a second.
    pub(crate) remote: bool,
}

impl Caps {
    /// Reads the environment variables through `var`, so that tests do not change those of the process.
    pub(crate) fn detect(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let term = set("TERM").unwrap_or_default();
        let has_true_colour = matches!(set("COLORTERM").as_deref(), Some("truecolor" | "24bit"));
        let depth = if has_true_colour || term.ends_with("-direct") {
            ColourDepth::True
        } else if term.contains("256color") {
            ColourDepth::Ansi256
        } else {
            ColourDepth::Ansi16
        };
        let locale = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"))
            .unwrap_or_default()
            .to_lowercase();
        // A container often has no locale although its terminal uses UTF-8. So only a locale that names another
        // encoding means ASCII.
        let may_be_utf8 = locale.is_empty()
            || locale.contains("utf-8")
            || locale.contains("utf8")
            || matches!(locale.as_str(), "c" | "posix");
        Self {
            depth,
            // The Linux console has no Braille symbols in its font.
            unicode: term != "linux" && may_be_utf8,
            no_color: set("NO_COLOR").is_some(),
            remote: set("SSH_TTY").is_some() || set("SSH_CONNECTION").is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(vars: &[(&str, &str)]) -> Caps {
        Caps::detect(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn capabilities_follow_the_environment() {
        assert_eq!(caps(&[("TERM", "xterm")]).depth, ColourDepth::Ansi16);
        assert_eq!(caps(&[("TERM", "tmux-256color")]).depth, ColourDepth::Ansi256);
        assert_eq!(caps(&[("COLORTERM", "truecolor")]).depth, ColourDepth::True);
        assert!(caps(&[("NO_COLOR", "1")]).no_color);
        assert!(!caps(&[("NO_COLOR", "")]).no_color);
        assert!(caps(&[("LANG", "de_DE.UTF-8")]).unicode);
        assert!(!caps(&[("LANG", "de_DE.ISO-8859-1")]).unicode);
        assert!(caps(&[]).unicode);
        assert!(caps(&[("SSH_TTY", "/dev/pts/1")]).remote);
    }
}
