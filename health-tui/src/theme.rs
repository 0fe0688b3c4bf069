//! Themes: what each role on the screen looks like, in the colours the terminal has.
//!
//! Widgets ask for roles (`heart`, `dim`, `selected`), never for colours. The mono theme, which `NO_COLOR` chooses, has
//! no colour at all and speaks by bold, dim, reverse and underline.

mod palette;

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use self::palette::{COLOUR_BLIND, DARK, HIGH_CONTRAST, LIGHT, Palette, Rgb};
use crate::caps::Depth;

/// The themes by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThemeName {
    /// Light text on a dark ground.
    #[default]
    Dark,
    /// Dark text on a light ground.
    Light,
    /// Pure colours on black.
    HighContrast,
    /// Blue, orange and yellow (Okabe and Ito, 2008), told apart with any colour vision.
    ColourBlind,
    /// No colour: bold, dim, reverse, underline.
    Mono,
}

impl ThemeName {
    /// The next one, for the key that walks through them.
    pub(crate) fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|t| *t == self).unwrap_or(0);
        all[(at + 1) % all.len()]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
            Self::HighContrast => "high-contrast",
            Self::ColourBlind => "colour-blind",
            Self::Mono => "mono",
        }
    }
}

/// The colour of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink {
    /// What is now, and lines.
    pub(crate) full: Style,
    /// What was, and areas: the eye is to find the newest value first.
    pub(crate) soft: Style,
    /// What stands behind a line: from the lowest to the highest reading.
    pub(crate) faint: Style,
}

impl Ink {
    pub(crate) fn all(style: Style) -> Self {
        Self {
            full: style,
            soft: style,
            faint: style,
        }
    }
}

/// A style for each role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    /// The ground everything stands on.
    pub(crate) ground: Style,
    /// Ordinary text. No style of text has a ground of its own, so that it can stand on a bar or a selected row.
    pub(crate) base: Style,
    pub(crate) strong: Style,
    pub(crate) dim: Style,
    /// The sparklines of somebody who has fallen silent.
    pub(crate) stale: Style,
    /// Lines around and between things: fainter than `dim`.
    pub(crate) line: Style,
    pub(crate) accent: Style,
    pub(crate) heart: Ink,
    pub(crate) steps: Ink,
    pub(crate) calories: Ink,
    pub(crate) good: Style,
    pub(crate) warn: Style,
    pub(crate) bad: Style,
    /// Laid over the row under the cursor: a ground, never REVERSED (that turns sparklines over).
    pub(crate) selected: Style,
    /// The bar at the top.
    pub(crate) bar: Style,
    pub(crate) tab_on: Style,
    /// What must not be overlooked: the picture stands still.
    pub(crate) banner: Style,
    /// A text field, and the one being edited.
    pub(crate) field: Style,
    pub(crate) field_on: Style,
    /// Lines that tell users apart when several are compared.
    pub(crate) hues: [Style; 6],
}

impl Theme {
    pub(crate) fn new(name: ThemeName, depth: Depth) -> Self {
        match name {
            ThemeName::Mono => Self::mono(),
            ThemeName::Dark => Self::from_palette(&DARK, depth),
            ThemeName::Light => Self::from_palette(&LIGHT, depth),
            ThemeName::HighContrast => Self::from_palette(&HIGH_CONTRAST, depth),
            ThemeName::ColourBlind => Self::from_palette(&COLOUR_BLIND, depth),
        }
    }

    fn mono() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let dim = plain.add_modifier(Modifier::DIM);
        let reverse = plain.add_modifier(Modifier::REVERSED);
        let ink = Ink {
            full: plain,
            soft: plain,
            faint: dim,
        };
        Self {
            ground: plain,
            base: plain,
            strong: bold,
            dim,
            stale: dim,
            line: dim,
            accent: bold,
            heart: ink,
            steps: ink,
            calories: ink,
            good: plain,
            warn: plain.add_modifier(Modifier::UNDERLINED),
            bad: bold.add_modifier(Modifier::UNDERLINED),
            selected: bold,
            bar: plain,
            tab_on: reverse,
            banner: reverse,
            field: plain.add_modifier(Modifier::UNDERLINED),
            field_on: reverse,
            hues: [plain, bold, dim, plain, bold, dim],
        }
    }

    fn from_palette(p: &Palette, depth: Depth) -> Self {
        let c = |rgb: Rgb| rgb.at(depth);
        // With sixteen colours the terminal's own ground is the right one: its palette was chosen for it.
        let ground = |rgb: Rgb| {
            if depth == Depth::Ansi16 {
                Color::Reset
            } else {
                rgb.at(depth)
            }
        };
        let on = |rgb: Rgb| Style::new().fg(c(rgb));
        let ink = |rgb: Rgb| Ink {
            full: on(rgb),
            soft: if depth == Depth::Ansi16 {
                on(rgb)
            } else {
                on(rgb.towards(p.ground, 38))
            },
            faint: if depth == Depth::Ansi16 {
                on(rgb).add_modifier(Modifier::DIM)
            } else {
                on(rgb.towards(p.ground, 60))
            },
        };
        let bold = Modifier::BOLD;
        let raised = if depth == Depth::Ansi16 {
            Style::new().add_modifier(bold)
        } else {
            Style::new().bg(c(p.raised))
        };
        Self {
            ground: Style::new().fg(ground(p.text)).bg(ground(p.ground)),
            base: Style::new().fg(ground(p.text)),
            strong: Style::new().fg(ground(p.strong)).add_modifier(bold),
            dim: on(p.dim),
            stale: on(p.dim.towards(p.ground, 45)),
            line: on(p.line),
            accent: on(p.accent),
            heart: ink(p.heart),
            steps: ink(p.steps),
            calories: ink(p.calories),
            good: on(p.good),
            warn: on(p.warn),
            bad: on(p.bad).add_modifier(bold),
            selected: raised,
            bar: Style::new().bg(ground(p.bar)),
            tab_on: if depth == Depth::Ansi16 {
                on(p.accent).add_modifier(bold | Modifier::REVERSED)
            } else {
                on(p.accent).bg(c(p.raised)).add_modifier(bold)
            },
            banner: Style::new().fg(c(p.ground)).bg(c(p.accent)).add_modifier(bold),
            field: if depth == Depth::Ansi16 {
                Style::new().add_modifier(Modifier::UNDERLINED)
            } else {
                Style::new().bg(c(p.bar))
            },
            field_on: if depth == Depth::Ansi16 {
                Style::new().add_modifier(Modifier::REVERSED)
            } else {
                Style::new().bg(c(p.raised)).fg(c(p.strong))
            },
            hues: p.hues.map(on),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mono_has_no_colour_anywhere() {
        let t = Theme::new(ThemeName::Mono, Depth::True);
        let text = format!("{t:?}");
        assert!(!text.contains("Rgb") && !text.contains("Indexed"), "{text}");
    }

    #[test]
    fn names_walk_in_a_circle() {
        let mut t = ThemeName::Dark;
        for _ in 0..5 {
            t = t.next();
        }
        assert_eq!(t, ThemeName::Dark);
    }
}
