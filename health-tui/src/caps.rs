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
    /// True if the terminal has no colours, or if the user wants none (`NO_COLOR`, `CLICOLOR=0`).
    pub(crate) no_color: bool,
    /// True over SSH: the dashboard then draws fewer frames a second.
    pub(crate) remote: bool,
}

impl Caps {
    /// Reads the environment variables through `var`, so that tests do not change those of the process.
    pub(crate) fn detect(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let term = set("TERM").unwrap_or_default();
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
            depth: depth(&term, set),
            // The Linux console has no Braille symbols in its font.
            unicode: !is_console(&term) && may_be_utf8,
            no_color: is_monochrome(&term) || refuses_colours(set),
            remote: set("SSH_TTY").is_some() || set("SSH_CONNECTION").is_some(),
        }
    }
}

/// Returns how many colours the terminal has. Programs inherit `COLORTERM` from an outer terminal, so `TERM` can lower
/// it.
fn depth(term: &str, set: impl Fn(&str) -> Option<String>) -> ColourDepth {
    let by_name = if term.ends_with("-direct") {
        ColourDepth::True
    } else if term.contains("256color") {
        ColourDepth::Ansi256
    } else {
        ColourDepth::Ansi16
    };
    // GNU screen takes a sequence with 24 bits apart and draws black on black. tmux also calls itself `screen`.
    let is_gnu_screen = set("STY").is_some() || (term.starts_with("screen") && set("TMUX").is_none());
    if is_gnu_screen && by_name == ColourDepth::True {
        return ColourDepth::Ansi256;
    }
    match set("COLORTERM").as_deref() {
        Some("truecolor" | "24bit") if !is_gnu_screen && !is_console(term) => ColourDepth::True,
        _ => by_name,
    }
}

/// Returns whether a terminal is the Linux console, which has 16 colours, whatever started the shell in it.
fn is_console(term: &str) -> bool {
    term == "linux" || term.starts_with("linux-")
}

/// Returns whether a terminal has no colours: those of DEC, and the entries of terminfo that say so.
fn is_monochrome(term: &str) -> bool {
    let is_dec = term
        .strip_prefix("vt")
        .is_some_and(|model| model.starts_with(|c: char| c.is_ascii_digit()));
    is_dec || term.ends_with("-mono") || term.ends_with("-m")
}

/// Returns whether the user wants no colours (<https://no-color.org>, <https://bixense.com/clicolors>).
fn refuses_colours(set: impl Fn(&str) -> Option<String>) -> bool {
    let is_forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    set("NO_COLOR").is_some() || (set("CLICOLOR").as_deref() == Some("0") && !is_forced)
}

/// Returns whether a terminal cannot place the cursor, as its `TERM` says.
pub(crate) fn is_dumb(term: &str) -> bool {
    matches!(term, "dumb" | "unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(vars: &[(&str, &str)]) -> Caps {
        Caps::detect(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn capabilities_follow_the_environment() {
        assert!(caps(&[("LANG", "de_DE.UTF-8")]).unicode);
        assert!(!caps(&[("LANG", "de_DE.ISO-8859-1")]).unicode);
        assert!(caps(&[]).unicode);
        for console in ["linux", "linux-16color"] {
            let caps = caps(&[("TERM", console), ("LANG", "C.UTF-8"), ("COLORTERM", "truecolor")]);
            assert!(!caps.unicode && caps.depth == ColourDepth::Ansi16, "{console}");
        }
        assert!(caps(&[("SSH_TTY", "/dev/pts/1")]).remote);
    }

    #[test]
    fn colours_are_those_of_the_innermost_terminal() {
        const TRUE: (&str, &str) = ("COLORTERM", "truecolor");
        let screen = ("STY", "1234.pts-0.host");
        let tmux = ("TMUX", "/tmp/tmux-0/default,1,0");
        for (vars, depth) in [
            (vec![], ColourDepth::Ansi16),
            (vec![TRUE], ColourDepth::True),
            (vec![("TERM", "xterm")], ColourDepth::Ansi16),
            (vec![("TERM", "xterm"), TRUE], ColourDepth::True),
            (vec![("TERM", "xterm-256color")], ColourDepth::Ansi256),
            (
                vec![("TERM", "xterm-256color"), ("COLORTERM", "24bit")],
                ColourDepth::True,
            ),
            (
                vec![("TERM", "xterm-256color"), ("COLORTERM", "yes")],
                ColourDepth::Ansi256,
            ),
            (vec![("TERM", "xterm-direct")], ColourDepth::True),
            (vec![("TERM", "tmux-256color")], ColourDepth::Ansi256),
            (vec![("TERM", "tmux-256color"), tmux, TRUE], ColourDepth::True),
            (vec![("TERM", "screen-256color"), tmux, TRUE], ColourDepth::True),
            (vec![("TERM", "screen-256color"), TRUE], ColourDepth::Ansi256),
            (
                vec![("TERM", "screen.xterm-256color"), screen, TRUE],
                ColourDepth::Ansi256,
            ),
            (vec![("TERM", "screen"), screen, TRUE], ColourDepth::Ansi16),
            (vec![("TERM", "xterm-256color"), screen, TRUE], ColourDepth::Ansi256),
            (vec![("TERM", "xterm-direct"), screen], ColourDepth::Ansi256),
            (vec![("TERM", "linux"), TRUE], ColourDepth::Ansi16),
        ] {
            assert_eq!(caps(&vars).depth, depth, "{vars:?}");
        }
    }

    #[test]
    fn a_terminal_or_a_user_without_colours_gets_none() {
        for (vars, no_color) in [
            (vec![("TERM", "vt100"), ("COLORTERM", "truecolor")], true),
            (vec![("TERM", "vt220")], true),
            (vec![("TERM", "xterm-mono")], true),
            (vec![("TERM", "linux-m")], true),
            (vec![("TERM", "vte-256color")], false),
            (vec![("TERM", "xterm")], false),
            (vec![("NO_COLOR", "1")], true),
            (vec![("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true),
            (vec![("NO_COLOR", "")], false),
            (vec![("CLICOLOR", "0")], true),
            (vec![("CLICOLOR", "1")], false),
            (vec![("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")], false),
        ] {
            assert_eq!(caps(&vars).no_color, no_color, "{vars:?}");
        }
    }
}
