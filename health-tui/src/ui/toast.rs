//! A short message above the footer.

use ratatui::layout::Rect;

use crate::{
    app::Tone,
    layout::ScreenAreas,
    ui::canvas::{Canvas, columns},
};

pub(crate) fn draw(canvas: &mut Canvas<'_>, screen: &ScreenAreas) {
    let Some(toast) = &canvas.app.toast else { return };
    let body = screen.body;
    let width = (columns(&toast.text) + 4).min(body.width.saturating_sub(2));
    if body.height < 2 || width < 6 {
        return;
    }
    let area = Rect::new(body.right() - width - 1, body.bottom() - 1, width, 1);
    let style = match toast.tone {
        Tone::Good => canvas.theme.good,
        Tone::Bad => canvas.theme.bad,
    };
    canvas.clear(area);
    canvas.buf.set_style(area, canvas.theme.selected);
    canvas.text(area.x + 2, area.y, width - 4, &toast.text, style);
}
