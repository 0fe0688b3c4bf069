//! The colours of the themes, and the nearest colours that a terminal has.

use ratatui::style::Color;

use crate::caps::ColourDepth;

/// A colour as red, green and blue, each from 0 to 255.
#[derive(Clone, Copy)]
pub(super) struct Rgb(u8, u8, u8);

impl Rgb {
    /// Returns the nearest colour of a terminal with this colour depth.
    pub(super) fn to_colour(self, depth: ColourDepth) -> Color {
        match depth {
            ColourDepth::True => Color::Rgb(self.0, self.1, self.2),
            ColourDepth::Ansi256 => Color::Indexed(self.nearest_256()),
            ColourDepth::Ansi16 => self.nearest_16(),
        }
    }

    /// Returns the nearest index in the 6x6x6 cube (16 to 231) and the grey ramp (232 to 255) of xterm.
    fn nearest_256(self) -> u8 {
        const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];
        let nearest = |v: u8| (0u8..6).min_by_key(|i| CUBE[usize::from(*i)].abs_diff(v)).unwrap_or(0);
        let (r, g, b) = (nearest(self.0), nearest(self.1), nearest(self.2));
        let in_cube = Self(CUBE[usize::from(r)], CUBE[usize::from(g)], CUBE[usize::from(b)]);
        let mean = (u16::from(self.0) + u16::from(self.1) + u16::from(self.2)) / 3;
        let grey = u8::try_from((mean.saturating_sub(3) / 10).min(23)).unwrap_or(23);
        let brightness = 8 + 10 * grey;
        let in_ramp = Self(brightness, brightness, brightness);
        if self.distance_squared(in_ramp) < self.distance_squared(in_cube) {
            232 + grey
        } else {
            16 + 36 * r + 6 * g + b
        }
    }

    /// Returns the nearest of the named colours. Their RGB values are those of common terminals, near enough to
    /// compare.
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
            .min_by_key(|(rgb, _)| self.distance_squared(*rgb))
            .map_or(Color::Reset, |(_, colour)| *colour)
    }

    /// Returns a mixture with `percent` of `other`.
    pub(super) fn blend(self, other: Self, percent: u16) -> Self {
        let mix = |a: u8, b: u8| {
            let sum = u16::from(a) * (100 - percent) + u16::from(b) * percent;
            u8::try_from(sum / 100).unwrap_or(a)
        };
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    fn distance_squared(self, other: Self) -> u32 {
        let squared = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        squared(self.0, other.0) + squared(self.1, other.1) + squared(self.2, other.2)
    }
}

/// The colours of one theme by their role.
pub(super) struct Palette {
    pub(super) background: Rgb,
    /// The background of the header, the footer and of text fields.
    pub(super) bar: Rgb,
    /// The background of the selected row, the active tab and the focused field.
    pub(super) raised: Rgb,
    pub(super) text: Rgb,
    pub(super) strong: Rgb,
    pub(super) dim: Rgb,
    pub(super) border: Rgb,
    pub(super) accent: Rgb,
    pub(super) heart_rate: Rgb,
    pub(super) steps: Rgb,
    pub(super) calories: Rgb,
    pub(super) good: Rgb,
    pub(super) warn: Rgb,
    pub(super) bad: Rgb,
    /// The lines of several users in one chart.
    pub(super) users: [Rgb; 6],
}

impl Palette {
    /// Returns whether the theme has dark text on a light background.
    pub(super) fn is_light(&self) -> bool {
        self.background.0 > 127
    }
}

pub(super) const DARK: Palette = Palette {
    background: Rgb(16, 18, 24),
    bar: Rgb(26, 30, 40),
    raised: Rgb(38, 46, 64),
    text: Rgb(200, 206, 218),
    strong: Rgb(240, 243, 250),
    dim: Rgb(126, 136, 156),
    border: Rgb(58, 66, 84),
    accent: Rgb(122, 176, 255),
    heart_rate: Rgb(255, 107, 122),
    steps: Rgb(86, 201, 160),
    calories: Rgb(240, 180, 90),
    good: Rgb(98, 208, 140),
    warn: Rgb(245, 196, 82),
    bad: Rgb(255, 92, 92),
    users: [
        Rgb(255, 107, 122),
        Rgb(122, 176, 255),
        Rgb(240, 180, 90),
        Rgb(86, 201, 160),
        Rgb(196, 148, 255),
        Rgb(120, 214, 226),
    ],
};

pub(super) const LIGHT: Palette = Palette {
    background: Rgb(252, 252, 250),
    bar: Rgb(238, 240, 243),
    raised: Rgb(218, 228, 244),
    text: Rgb(48, 54, 66),
    strong: Rgb(12, 16, 24),
    dim: Rgb(104, 112, 128),
    border: Rgb(200, 205, 214),
    accent: Rgb(24, 88, 190),
    heart_rate: Rgb(200, 36, 62),
    steps: Rgb(10, 122, 86),
    calories: Rgb(168, 98, 0),
    good: Rgb(16, 124, 64),
    warn: Rgb(150, 94, 0),
    bad: Rgb(190, 16, 28),
    users: [
        Rgb(200, 36, 62),
        Rgb(24, 88, 190),
        Rgb(168, 98, 0),
        Rgb(10, 122, 86),
        Rgb(118, 60, 190),
        Rgb(0, 116, 134),
    ],
};

pub(super) const HIGH_CONTRAST: Palette = Palette {
    background: Rgb(0, 0, 0),
    bar: Rgb(28, 28, 28),
    raised: Rgb(0, 60, 140),
    text: Rgb(255, 255, 255),
    strong: Rgb(255, 255, 255),
    dim: Rgb(210, 210, 210),
    border: Rgb(150, 150, 150),
    accent: Rgb(0, 255, 255),
    heart_rate: Rgb(255, 120, 140),
    steps: Rgb(0, 255, 130),
    calories: Rgb(255, 220, 0),
    good: Rgb(0, 255, 130),
    warn: Rgb(255, 220, 0),
    bad: Rgb(255, 90, 90),
    users: [
        Rgb(255, 120, 140),
        Rgb(0, 255, 255),
        Rgb(255, 220, 0),
        Rgb(0, 255, 130),
        Rgb(220, 160, 255),
        Rgb(255, 255, 255),
    ],
};

/// The palette of Okabe and Ito, "Color Universal Design" (2008): vermilion, bluish green, yellow and sky blue differ
/// for every kind of colour vision.
pub(super) const COLOUR_BLIND: Palette = Palette {
    background: Rgb(16, 18, 24),
    bar: Rgb(26, 30, 40),
    raised: Rgb(38, 46, 64),
    text: Rgb(206, 210, 220),
    strong: Rgb(245, 246, 250),
    dim: Rgb(134, 142, 160),
    border: Rgb(58, 66, 84),
    accent: Rgb(86, 180, 233),
    heart_rate: Rgb(230, 120, 40),
    steps: Rgb(86, 180, 233),
    calories: Rgb(240, 228, 66),
    good: Rgb(86, 180, 233),
    warn: Rgb(240, 228, 66),
    bad: Rgb(240, 112, 40),
    users: [
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
    fn a_colour_becomes_the_nearest_that_the_terminal_has() {
        assert_eq!(Rgb(255, 0, 0).nearest_256(), 196);
        assert_eq!(Rgb(128, 128, 128).nearest_256(), 244);
        assert_eq!(Rgb(255, 107, 122).to_colour(ColourDepth::Ansi16), Color::LightRed);
        assert_eq!(Rgb(122, 176, 255).to_colour(ColourDepth::Ansi16), Color::LightBlue);
    }
}
