//! Themes: a style for each role on the screen, in the colours that the terminal has.
//!
//! Widgets use roles (`heart_rate`, `dim`, `selected`), never colours. The mono theme, which `NO_COLOR` selects, has
//! only bold, dim, reverse and underline.

mod palette;

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use self::palette::{COLOUR_BLIND, DARK, HIGH_CONTRAST, LIGHT, Palette, Rgb};
use crate::caps::ColourDepth;

/// The name of a theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThemeName {
    /// Light text on a dark background.
    #[default]
    Dark,
    /// Dark text on a light background.
    Light,
    /// Pure colours on black.
    HighContrast,
    /// Colours that everybody can tell apart (the palette of Okabe and Ito, 2008).
    ColourBlind,
    /// No colours: bold, dim, reverse and underline.
    Mono,
}

impl ThemeName {
    /// Returns the next theme, for the key that goes through them all.
    pub(crate) fn next(self) -> Self {
        let all = Self::value_variants();
        let index = all.iter().position(|t| *t == self).unwrap_or(0);
        all[(index + 1) % all.len()]
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

/// The colour of a metric in three strengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MetricStyle {
    /// Lines, and the newest value of a sparkline: the eye finds it first.
    pub(crate) full: Style,
    /// Bars and older values.
    pub(crate) soft: Style,
    /// The range from the lowest to the highest reading behind a line.
    pub(crate) faint: Style,
}

impl MetricStyle {
    /// Uses one style for all three strengths.
    pub(crate) fn uniform(style: Style) -> Self {
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
    pub(crate) background: Style,
    /// Ordinary text. Styles of text have no background of their own, so text can be drawn on a bar or a selected row.
    pub(crate) text: Style,
    pub(crate) strong: Style,
    pub(crate) dim: Style,
    /// The sparklines of a user without recent samples.
    pub(crate) stale: Style,
    /// Borders, separators and gridlines: fainter than `dim`.
    pub(crate) border: Style,
    pub(crate) accent: Style,
    pub(crate) heart_rate: MetricStyle,
    pub(crate) steps: MetricStyle,
    pub(crate) calories: MetricStyle,
    pub(crate) good: Style,
    pub(crate) warn: Style,
    pub(crate) bad: Style,
    /// The row under the cursor. It changes the background and is never reversed: reversed sparklines are upside down.
    pub(crate) selected: Style,
    /// The header and the footer.
    pub(crate) bar: Style,
    pub(crate) active_tab: Style,
    /// A message that must not be overlooked, such as "frozen".
    pub(crate) banner: Style,
    pub(crate) field: Style,
    pub(crate) focused_field: Style,
    /// The lines of several users in one chart.
    pub(crate) users: [Style; 6],
}

impl Theme {
    pub(crate) fn new(name: ThemeName, depth: ColourDepth) -> Self {
        let palette = match name {
            ThemeName::Mono => return Self::mono(),
            ThemeName::Dark => &DARK,
            ThemeName::Light => &LIGHT,
            ThemeName::HighContrast => &HIGH_CONTRAST,
            ThemeName::ColourBlind => &COLOUR_BLIND,
        };
        match depth {
            ColourDepth::Ansi16 => Self::with_16_colours(palette),
            ColourDepth::Ansi256 | ColourDepth::True => Self::with_palette(palette, depth),
        }
    }

    fn mono() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let dim = plain.add_modifier(Modifier::DIM);
        let reversed = plain.add_modifier(Modifier::REVERSED);
        let metric = MetricStyle {
            full: plain,
            soft: plain,
            faint: dim,
        };
        Self {
            background: plain,
            text: plain,
            strong: bold,
            dim,
            stale: dim,
            border: dim,
            accent: bold,
            heart_rate: metric,
            steps: metric,
            calories: metric,
            good: plain,
            warn: plain.add_modifier(Modifier::UNDERLINED),
            bad: bold.add_modifier(Modifier::UNDERLINED),
            selected: bold,
            bar: plain,
            active_tab: reversed,
            banner: reversed,
            field: plain.add_modifier(Modifier::UNDERLINED),
            focused_field: reversed,
            users: [plain, bold, dim, plain, bold, dim],
        }
    }

    fn with_palette(palette: &Palette, depth: ColourDepth) -> Self {
        let colour = |rgb: Rgb| rgb.to_colour(depth);
        let fg = |rgb: Rgb| Style::new().fg(colour(rgb));
        let bg = |rgb: Rgb| Style::new().bg(colour(rgb));
        let blended = |rgb: Rgb, percent| fg(rgb.blend(palette.background, percent));
        let metric = |rgb: Rgb| MetricStyle {
            full: fg(rgb),
            soft: blended(rgb, 38),
            faint: blended(rgb, 60),
        };
        let bold = Modifier::BOLD;
        Self {
            background: fg(palette.text).bg(colour(palette.background)),
            text: fg(palette.text),
            strong: fg(palette.strong).add_modifier(bold),
            dim: fg(palette.dim),
            stale: blended(palette.dim, 45),
            border: fg(palette.border),
            accent: fg(palette.accent),
            heart_rate: metric(palette.heart_rate),
            steps: metric(palette.steps),
            calories: metric(palette.calories),
            good: fg(palette.good),
            warn: fg(palette.warn),
            bad: fg(palette.bad).add_modifier(bold),
            selected: bg(palette.raised),
            bar: bg(palette.bar),
            active_tab: fg(palette.accent).bg(colour(palette.raised)).add_modifier(bold),
            banner: fg(palette.background).bg(colour(palette.accent)).add_modifier(bold),
            field: bg(palette.bar),
            focused_field: fg(palette.strong).bg(colour(palette.raised)),
            users: palette.users.map(fg),
        }
    }

    /// Keeps the background and the text colour of the terminal, because its 16 colours were chosen for them, and uses
    /// bold, dim, reverse and underline for the shades that 16 colours do not have.
    fn with_16_colours(palette: &Palette) -> Self {
        let depth = ColourDepth::Ansi16;
        let plain = Style::new();
        let text = plain.fg(Color::Reset);
        // The yellow of many terminals cannot be read on white.
        let fg = |rgb: Rgb| match rgb.to_colour(depth) {
            Color::Yellow if palette.is_light() => plain.fg(Color::Magenta),
            colour => plain.fg(colour),
        };
        let metric = |rgb: Rgb| MetricStyle {
            faint: fg(rgb).add_modifier(Modifier::DIM),
            ..MetricStyle::uniform(fg(rgb))
        };
        Self {
            background: text.bg(Color::Reset),
            text,
            strong: text.add_modifier(Modifier::BOLD),
            heart_rate: metric(palette.heart_rate),
            steps: metric(palette.steps),
            calories: metric(palette.calories),
            warn: fg(palette.warn),
            selected: plain.add_modifier(Modifier::BOLD),
            bar: plain.bg(Color::Reset),
            active_tab: fg(palette.accent).add_modifier(Modifier::BOLD | Modifier::REVERSED),
            field: plain.add_modifier(Modifier::UNDERLINED),
            focused_field: plain.add_modifier(Modifier::REVERSED),
            ..Self::with_palette(palette, depth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mono_theme_has_no_colours() {
        let theme = Theme::new(ThemeName::Mono, ColourDepth::True);
        let text = format!("{theme:?}");
        assert!(!text.contains("Rgb") && !text.contains("Indexed"), "{text}");
    }

    #[test]
    fn sixteen_colours_on_white_have_no_yellow_text() {
        let theme = Theme::new(ThemeName::Light, ColourDepth::Ansi16);
        for style in [theme.warn, theme.calories.full, theme.calories.soft] {
            assert!(
                !matches!(style.fg, Some(Color::Yellow | Color::LightYellow)),
                "{style:?}"
            );
        }
        let dark = Theme::new(ThemeName::Dark, ColourDepth::Ansi16);
        assert!(matches!(dark.warn.fg, Some(Color::Yellow | Color::LightYellow)));
    }

    #[test]
    fn after_the_last_theme_comes_the_first() {
        let mut theme = ThemeName::Dark;
        for _ in 0..ThemeName::value_variants().len() {
            theme = theme.next();
        }
        assert_eq!(theme, ThemeName::Dark);
    }
}
