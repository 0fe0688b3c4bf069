//! A sparkline: one value a column, the newest at the right, gaps left blank.

use crate::{theme::Ink, ui::paint::Paint};

/// The lowest and the highest value the column's full height stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Scale {
    /// Spans `values`, widened to multiples of `step` so that it does not move with every reading.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, step: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            (low, high) = (0.0, step);
        }
        let low = (low / step).floor() * step;
        let high = ((high / step).ceil() * step).max(low + step);
        Self { low, high }
    }

    /// From zero to the next round number above `values`: 1, 2, 3 or 5 and its tenfolds.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        Self::up_to(values, -1, &[1.0, 2.0, 3.0, 5.0])
    }

    /// The same in smaller steps, for a chart that has the height to show the difference.
    pub(crate) fn from_zero_closely(values: impl IntoIterator<Item = f64>) -> Self {
        Self::up_to(values, 0, &[1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    }

    fn up_to(values: impl IntoIterator<Item = f64>, least: i32, steps: &[f64]) -> Self {
        let most = values.into_iter().fold(0.0, f64::max);
        let tenfolds = (least..=7).map(|n| 10f64.powi(n));
        let high = tenfolds
            .flat_map(|ten| steps.iter().map(move |s| s * ten))
            .find(|high| *high >= most)
            .unwrap_or(most);
        Self { low: 0.0, high }
    }

    /// 0 at the bottom, 1 at the top.
    pub(crate) fn share(self, v: f64) -> f64 {
        ((v - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// Draws `values` right-aligned into `width` columns, the newest in full ink. Zero on a scale from zero is a thin line:
/// nothing was counted.
pub(crate) fn draw(p: &mut Paint<'_>, at: (u16, u16), width: u16, values: &[Option<f64>], scale: Scale, ink: Ink) {
    let (x, y) = at;
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX).min(width);
    let tail = &values[values.len() - usize::from(count)..];
    for (column, value) in (x + width - count..).zip(tail) {
        let Some(v) = value else { continue };
        let Some(cell) = p.buf.cell_mut((column, y)) else {
            continue;
        };
        if *v <= 0.0 {
            cell.set_symbol(p.glyphs.levels[0]).set_style(p.theme.line);
        } else {
            let newest = column + 1 == x + width;
            cell.set_symbol(p.glyphs.levels[level(scale.share(*v))])
                .set_style(if newest { ink.full } else { ink.soft });
        }
    }
}

/// Seven of the eight levels: a full cell would touch the row above.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 0 to 1 is a level of 0 to 6"
)]
fn level(share: f64) -> usize {
    ((share * 7.0) as usize).min(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_stand_still() {
        assert_eq!(Scale::around([63.0, 118.0], 10.0), Scale { low: 60.0, high: 120.0 });
        assert_eq!(Scale::around([], 10.0), Scale { low: 0.0, high: 10.0 });
        assert_eq!(Scale::around([70.0], 10.0), Scale { low: 70.0, high: 80.0 });
        for (most, high) in [
            (0.0, 0.1),
            (0.13, 0.2),
            (0.4, 0.5),
            (7.0, 10.0),
            (23.0, 30.0),
            (110.0, 200.0),
        ] {
            assert!((Scale::from_zero([most]).high - high).abs() < 1e-9, "{most}");
        }
        assert_eq!((level(0.0), level(0.5), level(1.0)), (0, 3, 6));
    }
}
