//! Themes: what each role on the screen looks like, in the colours the terminal has.
//!
//! Widgets ask for roles (`heart`, `dim`, `selected`), never for colours. The mono theme, which `NO_COLOR` chooses, has
//! no colour at all and speaks by bold, dim, reverse and underline.

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

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

#[derive(Clone, Copy)]
struct Rgb(u8, u8, u8);

impl Rgb {
    fn at(self, depth: Depth) -> Color {
        match depth {
            Depth::True => Color::Rgb(self.0, self.1, self.2),
            Depth::Ansi256 => Color::Indexed(self.nearest_256()),
            Depth::Ansi16 => self.nearest_16(),
        }
    }

    /// The nearest of xterm's 6x6x6 cube (16 to 231) and its grey ramp (232 to 255).
    fn nearest_256(self) -> u8 {
        const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        let near = |v: u8| (0u8..6).min_by_key(|i| STEPS[usize::from(*i)].abs_diff(v)).unwrap_or(0);
        let (r, g, b) = (near(self.0), near(self.1), near(self.2));
        let cube = Self(STEPS[usize::from(r)], STEPS[usize::from(g)], STEPS[usize::from(b)]);
        let mean = (u16::from(self.0) + u16::from(self.1) + u16::from(self.2)) / 3;
        let step = u8::try_from((mean.saturating_sub(3) / 10).min(23)).unwrap_or(23);
        let level = 8 + 10 * step;
        if self.far(Self(level, level, level)) < self.far(cube) {
            232 + step
        } else {
            16 + 36 * r + 6 * g + b
        }
    }

    fn nearest_16(self) -> Color {
        const ANSI: [(Rgb, Color); 14] = [
            (Rgb(205, 49, 49), Color::Red),
            (Rgb(13, 188, 121), Color::Green),
            (Rgb(190, 150, 16), Color::Yellow),
            (Rgb(36, 114, 200), Color::Blue),
            (Rgb(188, 63, 188), Color::Magenta),
            (Rgb(17, 168, 205), Color::Cyan),
            (Rgb(110, 110, 110), Color::DarkGray),
            (Rgb(200, 200, 200), Color::Gray),
            (Rgb(241, 76, 76), Color::LightRed),
            (Rgb(35, 209, 139), Color::LightGreen),
            (Rgb(245, 215, 67), Color::LightYellow),
            (Rgb(59, 142, 234), Color::LightBlue),
            (Rgb(41, 184, 219), Color::LightCyan),
            (Rgb(10, 10, 10), Color::Black),
        ];
        ANSI.iter()
            .min_by_key(|(rgb, _)| self.far(*rgb))
            .map_or(Color::Reset, |(_, colour)| *colour)
    }

    /// So many hundredths of the way to another.
    fn towards(self, other: Self, hundredths: u16) -> Self {
        let mix = |a: u8, b: u8| {
            let sum = u16::from(a) * (100 - hundredths) + u16::from(b) * hundredths;
            u8::try_from(sum / 100).unwrap_or(a)
        };
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// The square of the distance.
    fn far(self, other: Self) -> u32 {
        let d = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        d(self.0, other.0) + d(self.1, other.1) + d(self.2, other.2)
    }
}

struct Palette {
    ground: Rgb,
    bar: Rgb,
    raised: Rgb,
    text: Rgb,
    strong: Rgb,
    dim: Rgb,
    line: Rgb,
    accent: Rgb,
    heart: Rgb,
    steps: Rgb,
    calories: Rgb,
    good: Rgb,
    warn: Rgb,
    bad: Rgb,
    hues: [Rgb; 6],
}

const DARK: Palette = Palette {
    ground: Rgb(16, 18, 24),
    bar: Rgb(26, 30, 40),
    raised: Rgb(38, 46, 64),
    text: Rgb(200, 206, 218),
    strong: Rgb(240, 243, 250),
    dim: Rgb(126, 136, 156),
    line: Rgb(58, 66, 84),
    accent: Rgb(122, 176, 255),
    heart: Rgb(255, 107, 122),
    steps: Rgb(86, 201, 160),
    calories: Rgb(240, 180, 90),
    good: Rgb(98, 208, 140),
    warn: Rgb(245, 196, 82),
    bad: Rgb(255, 92, 92),
    hues: [
        Rgb(255, 107, 122),
        Rgb(122, 176, 255),
        Rgb(240, 180, 90),
        Rgb(86, 201, 160),
        Rgb(196, 148, 255),
        Rgb(120, 214, 226),
    ],
};

const LIGHT: Palette = Palette {
    ground: Rgb(252, 252, 250),
    bar: Rgb(238, 240, 243),
    raised: Rgb(218, 228, 244),
    text: Rgb(48, 54, 66),
    strong: Rgb(12, 16, 24),
    dim: Rgb(104, 112, 128),
    line: Rgb(200, 205, 214),
    accent: Rgb(24, 88, 190),
    heart: Rgb(200, 36, 62),
    steps: Rgb(10, 122, 86),
    calories: Rgb(168, 98, 0),
    good: Rgb(16, 124, 64),
    warn: Rgb(150, 94, 0),
    bad: Rgb(190, 16, 28),
    hues: [
        Rgb(200, 36, 62),
        Rgb(24, 88, 190),
        Rgb(168, 98, 0),
        Rgb(10, 122, 86),
        Rgb(118, 60, 190),
        Rgb(0, 116, 134),
    ],
};

const HIGH_CONTRAST: Palette = Palette {
    ground: Rgb(0, 0, 0),
    bar: Rgb(28, 28, 28),
    raised: Rgb(0, 60, 140),
    text: Rgb(255, 255, 255),
    strong: Rgb(255, 255, 255),
    dim: Rgb(210, 210, 210),
    line: Rgb(150, 150, 150),
    accent: Rgb(0, 255, 255),
    heart: Rgb(255, 120, 140),
    steps: Rgb(0, 255, 130),
    calories: Rgb(255, 220, 0),
    good: Rgb(0, 255, 130),
    warn: Rgb(255, 220, 0),
    bad: Rgb(255, 90, 90),
    hues: [
        Rgb(255, 120, 140),
        Rgb(0, 255, 255),
        Rgb(255, 220, 0),
        Rgb(0, 255, 130),
        Rgb(220, 160, 255),
        Rgb(255, 255, 255),
    ],
};

/// Okabe and Ito's palette: vermillion, bluish green, yellow-orange, sky blue stay apart for every kind of colour vision.
const COLOUR_BLIND: Palette = Palette {
    ground: Rgb(16, 18, 24),
    bar: Rgb(26, 30, 40),
    raised: Rgb(38, 46, 64),
    text: Rgb(206, 210, 220),
    strong: Rgb(245, 246, 250),
    dim: Rgb(134, 142, 160),
    line: Rgb(58, 66, 84),
    accent: Rgb(86, 180, 233),
    heart: Rgb(230, 120, 40),
    steps: Rgb(86, 180, 233),
    calories: Rgb(240, 228, 66),
    good: Rgb(86, 180, 233),
    warn: Rgb(240, 228, 66),
    bad: Rgb(240, 112, 40),
    hues: [
        Rgb(230, 120, 40),
        Rgb(86, 180, 233),
        Rgb(240, 228, 66),
        Rgb(0, 178, 135),
        Rgb(214, 138, 180),
        Rgb(230, 230, 230),
    ],
};

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
    fn colours_fall_back() {
        assert_eq!(Rgb(255, 0, 0).nearest_256(), 196);
        assert_eq!(Rgb(128, 128, 128).nearest_256(), 244);
        assert_eq!(Rgb(255, 107, 122).at(Depth::Ansi16), Color::LightRed);
        assert_eq!(Rgb(122, 176, 255).at(Depth::Ansi16), Color::LightBlue);
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
