//! A sparkline: one column for each value, the newest at the right, a blank column for a gap.
//!
//! Ratatui's `Sparkline` is not used. Its baseline is always 0, which hides the changes of a heart rate, and it has one
//! style for all columns.

use crate::{
    theme::MetricStyle,
    ui::{canvas::Canvas, scale::Scale},
};

/// Draws the last `width` of `values`, right-aligned, the newest in the full colour. A value of 0 is a thin line, which
/// differs from a gap.
pub(crate) fn draw(
    canvas: &mut Canvas<'_>,
    (x, y): (u16, u16),
    width: u16,
    values: &[Option<f64>],
    scale: Scale,
    style: MetricStyle,
) {
    let right = x + width;
    for (column, value) in (x..right).rev().zip(values.iter().rev()) {
        let (Some(value), Some(cell)) = (value, canvas.buf.cell_mut((column, y))) else {
            continue;
        };
        if *value <= 0.0 {
            cell.set_symbol(canvas.symbols.bars[0]).set_style(canvas.theme.border);
        } else {
            let is_newest = column + 1 == right;
            cell.set_symbol(canvas.symbols.bars[bar(scale.position(*value))])
                .set_style(if is_newest { style.full } else { style.soft });
        }
    }
}

/// Returns the index of the bar for a position. Only seven of the eight are used: a full cell would touch the row
/// above.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position from 0 to 1 becomes an index from 0 to 6"
)]
fn bar(position: f64) -> usize {
    ((position * 7.0) as usize).min(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_leaves_a_gap_to_the_row_above() {
        assert_eq!((bar(0.0), bar(0.5), bar(1.0)), (0, 3, 6));
    }
}
