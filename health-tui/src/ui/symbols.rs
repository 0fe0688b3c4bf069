//! The symbols of the dashboard in Unicode and in ASCII. Each is one column wide.

use health_core::Alert;
use ratatui::symbols::border;

/// One set of symbols.
pub(crate) struct Symbols {
    /// The bars of charts and sparklines, in eighths of a cell.
    pub(crate) bars: [&'static str; 8],
    pub(crate) heart: &'static str,
    pub(crate) connected: &'static str,
    pub(crate) disconnected: &'static str,
    /// At the left of the row under the cursor.
    pub(crate) cursor: &'static str,
    pub(crate) pin: &'static str,
    pub(crate) stale: &'static str,
    /// A heart rate above or below the alert thresholds.
    pub(crate) high: &'static str,
    pub(crate) low: &'static str,
    pub(crate) ascending: &'static str,
    pub(crate) descending: &'static str,
    /// At the end of a text that was cut.
    pub(crate) ellipsis: &'static str,
    pub(crate) horizontal_line: &'static str,
    pub(crate) vertical_line: &'static str,
    pub(crate) gridline: &'static str,
    pub(crate) scrollbar_thumb: &'static str,
    pub(crate) border: border::Set<'static>,
    /// Around a value that the arrow keys change.
    pub(crate) previous: &'static str,
    pub(crate) next: &'static str,
    /// Between the two ends of a range.
    pub(crate) range_dash: &'static str,
    /// Between the parts of a line.
    pub(crate) separator: &'static str,
    pub(crate) no_value: &'static str,
}

impl Symbols {
    pub(crate) fn alert(&self, alert: Alert) -> &'static str {
        match alert {
            Alert::High => self.high,
            Alert::Low => self.low,
        }
    }
}

pub(crate) const UNICODE: Symbols = Symbols {
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    heart: "♥",
    connected: "●",
    disconnected: "○",
    cursor: "▌",
    pin: "•",
    stale: "○",
    high: "▲",
    low: "▼",
    ascending: "↑",
    descending: "↓",
    ellipsis: "…",
    horizontal_line: "─",
    vertical_line: "│",
    gridline: "┈",
    scrollbar_thumb: "┃",
    border: border::ROUNDED,
    previous: "‹",
    next: "›",
    range_dash: "–",
    separator: "·",
    no_value: "–",
};

pub(crate) const ASCII: Symbols = Symbols {
    bars: ["_", ".", ":", "-", "=", "+", "*", "#"],
    heart: "*",
    connected: "*",
    disconnected: "o",
    cursor: ">",
    pin: "+",
    stale: "o",
    high: "^",
    low: "v",
    ascending: "^",
    descending: "v",
    ellipsis: "~",
    horizontal_line: "-",
    vertical_line: "|",
    gridline: ".",
    scrollbar_thumb: "#",
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
    previous: "<",
    next: ">",
    range_dash: "-",
    separator: "|",
    no_value: "-",
};
