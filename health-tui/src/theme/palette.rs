//! The colours of the themes, and the nearest to them that a terminal has.

use ratatui::style::Color;

use crate::caps::Depth;

/// Red, green and blue.
#[derive(Clone, Copy)]
pub(super) struct Rgb(u8, u8, u8);

impl Rgb {
    pub(super) fn at(self, depth: Depth) -> Color {
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
    pub(super) fn towards(self, other: Self, hundredths: u16) -> Self {
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

/// The colours of one theme, by what they are for.
pub(super) struct Palette {
    pub(super) ground: Rgb,
    pub(super) bar: Rgb,
    pub(super) raised: Rgb,
    pub(super) text: Rgb,
    pub(super) strong: Rgb,
    pub(super) dim: Rgb,
    pub(super) line: Rgb,
    pub(super) accent: Rgb,
    pub(super) heart: Rgb,
    pub(super) steps: Rgb,
    pub(super) calories: Rgb,
    pub(super) good: Rgb,
    pub(super) warn: Rgb,
    pub(super) bad: Rgb,
    pub(super) hues: [Rgb; 6],
}

pub(super) const DARK: Palette = Palette {
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

pub(super) const LIGHT: Palette = Palette {
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

pub(super) const HIGH_CONTRAST: Palette = Palette {
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
pub(super) const COLOUR_BLIND: Palette = Palette {
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
    fn colours_fall_back() {
        assert_eq!(Rgb(255, 0, 0).nearest_256(), 196);
        assert_eq!(Rgb(128, 128, 128).nearest_256(), 244);
        assert_eq!(Rgb(255, 107, 122).at(Depth::Ansi16), Color::LightRed);
        assert_eq!(Rgb(122, 176, 255).at(Depth::Ansi16), Color::LightBlue);
    }
}
