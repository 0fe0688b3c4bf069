//! What the terminal can show, read from its environment once.

use clap::ValueEnum;
use serde::Deserialize;

/// How many colours there are to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Depth {
    /// The sixteen of ECMA-48, as the terminal's own palette draws them.
    #[value(name = "16")]
    #[serde(rename = "16")]
    Ansi16,
    /// The 256 of xterm.
    #[value(name = "256")]
    #[serde(rename = "256")]
    Ansi256,
    /// 24 bits.
    True,
}

/// What this terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    pub(crate) depth: Depth,
    /// The locale speaks UTF-8, so block and Braille glyphs may be drawn.
    pub(crate) unicode: bool,
    /// `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub(crate) no_color: bool,
    /// The terminal is at the other end of SSH: draw less often.
    pub(crate) remote: bool,
}

impl Caps {
    /// Reads the environment through `var`, so that tests need not change the process's own.
    pub(crate) fn detect(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let term = set("TERM").unwrap_or_default();
        let depth = if matches!(set("COLORTERM").as_deref(), Some("truecolor" | "24bit")) || term.ends_with("-direct") {
            Depth::True
        } else if term.contains("256color") {
            Depth::Ansi256
        } else {
            Depth::Ansi16
        };
        let locale = set("LC_ALL")
            .or_else(|| set("LC_CTYPE"))
            .or_else(|| set("LANG"))
            .unwrap_or_default()
            .to_lowercase();
        // A container often has no locale at all, and a UTF-8 terminal around it: only a locale that says otherwise counts.
        let unicode = term != "linux"
            && (locale.is_empty()
                || locale.contains("utf-8")
                || locale.contains("utf8")
                || matches!(locale.as_str(), "c" | "posix"));
        Self {
            depth,
            unicode,
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
    fn reads_the_environment() {
        assert_eq!(caps(&[("TERM", "xterm")]).depth, Depth::Ansi16);
        assert_eq!(caps(&[("TERM", "tmux-256color")]).depth, Depth::Ansi256);
        assert_eq!(caps(&[("COLORTERM", "truecolor")]).depth, Depth::True);
        assert!(caps(&[("NO_COLOR", "1")]).no_color);
        assert!(!caps(&[("NO_COLOR", "")]).no_color);
        assert!(caps(&[("LANG", "de_DE.UTF-8")]).unicode);
        assert!(!caps(&[("LANG", "de_DE.ISO-8859-1")]).unicode);
        assert!(caps(&[]).unicode);
        assert!(caps(&[("SSH_TTY", "/dev/pts/1")]).remote);
    }
}
