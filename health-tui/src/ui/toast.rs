//! A short message above the footer.

use ratatui::layout::Rect;

use crate::{
    app::Tone,
    layout::Frame,
    ui::paint::{Paint, columns},
};

pub(crate) fn draw(p: &mut Paint<'_>, frame: &Frame) {
    let Some(toast) = &p.app.toast else { return };
    let width = (columns(&toast.text) + 4).min(frame.body.width.saturating_sub(2));
    if frame.body.height < 2 || width < 6 {
        return;
    }
    let area = Rect::new(frame.body.right() - width - 1, frame.body.bottom() - 1, width, 1);
    let style = match toast.tone {
        Tone::Good => p.theme.good,
        Tone::Bad => p.theme.bad,
    };
    p.ground(area);
    p.buf.set_style(area, p.theme.selected);
    p.text(area.x + 2, area.y, width - 4, &toast.text, style);
}
