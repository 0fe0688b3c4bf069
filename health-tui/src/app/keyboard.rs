//! Keys: their scope, and the actions that all panes have in common.

use crate::{
    app::{
        effect::Effect,
        event::Tone,
        export::{self, ExportFormat},
        state::{App, Pane},
        text_editing::edit_request,
    },
    keys::{Action, Key, Keymap, Scope},
    layout,
    theme::Theme,
};

/// Lines of the screen around the help text: header, footer and border.
const LINES_AROUND_HELP: u16 = 6;

impl App {
    /// Returns whether keys are text at the moment.
    pub(crate) fn is_typing(&self) -> bool {
        self.help.is_none() && (self.live.editing.is_some() || (self.pane == Pane::Stats && self.form.is_typing()))
    }

    /// Returns the scope whose key bindings are in force.
    pub(crate) fn scope(&self) -> Scope {
        match self.pane {
            Pane::Live if self.live.editing.is_some() => Scope::Filter,
            Pane::Live => Scope::Live,
            Pane::User => Scope::User,
            Pane::Stats => Scope::Form,
        }
    }

    /// Returns how far the help can be scrolled: until its last line is visible.
    pub(super) fn help_scroll_max(&self) -> u16 {
        let lines = Keymap::help_lines();
        u16::try_from(lines)
            .unwrap_or(u16::MAX)
            .saturating_sub(layout::help(self.size).height.saturating_sub(2))
    }

    /// Handles a key. A key with Alt that has no meaning is Escape and the key, as the terminal sends it: a user who
    /// presses both quickly, or over a slow connection, means two keys.
    pub(super) fn handle_key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        match key.after_escape().filter(|_| !self.has_meaning(key)) {
            Some(second) => {
                self.handle_single_key(Key::ESCAPE, effects);
                self.handle_single_key(second, effects);
            }
            None => self.handle_single_key(key, effects),
        }
    }

    /// Returns whether a key does something at the moment.
    fn has_meaning(&self, key: Key) -> bool {
        let scope = if self.help.is_some() { Scope::Live } else { self.scope() };
        let typing = self.is_typing();
        self.settings.keymap.action(scope, typing, key).is_some() || (typing && edit_request(key).is_some())
    }

    fn handle_single_key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if self.help.is_some() {
            return self.handle_key_in_help(key, effects);
        }
        let typing = self.is_typing();
        match self.settings.keymap.action(self.scope(), typing, key) {
            Some(action) => self.act(action, effects),
            None if typing => self.edit(key),
            None => {}
        }
    }

    fn handle_key_in_help(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let scroll = self.help.unwrap_or(0);
        let action = self.settings.keymap.action(Scope::Live, false, key);
        let lines = self.size.1.saturating_sub(LINES_AROUND_HELP);
        match action {
            Some(Action::Help | Action::Back | Action::Open) => self.help = None,
            // `q` closes the help. Ctrl-C always ends the program.
            Some(Action::Quit) if key.typed_char().is_some() => self.help = None,
            Some(Action::Quit) => effects.push(Effect::Quit { keep_frame: false }),
            Some(Action::Up) => self.help = Some(scroll.saturating_sub(1)),
            Some(Action::Down) => self.help = Some(scroll.saturating_add(1)),
            Some(Action::PageUp) => self.help = Some(scroll.saturating_sub(lines)),
            Some(Action::PageDown | Action::Freeze) => self.help = Some(scroll.saturating_add(lines)),
            Some(Action::First) => self.help = Some(0),
            Some(Action::Suspend) => effects.push(Effect::Suspend),
            _ => {}
        }
        if let Some(scroll) = self.help {
            self.help = Some(scroll.min(self.help_scroll_max()));
        }
    }

    fn act(&mut self, action: Action, effects: &mut Vec<Effect>) {
        match action {
            Action::Help => self.help = Some(0),
            Action::Quit => effects.push(Effect::Quit { keep_frame: false }),
            Action::QuitKeeping => effects.push(Effect::Quit { keep_frame: true }),
            Action::TabStats | Action::NextTab if self.pane != Pane::Stats => self.open_stats(),
            Action::TabStats => {}
            Action::TabLive | Action::NextTab => self.pane = Pane::Live,
            Action::RetryNow => {
                if !self.connection.is_connected() {
                    effects.push(Effect::RetryNow);
                }
                if let Some(view) = &mut self.user {
                    view.retry();
                }
            }
            Action::Mask => self.masked = !self.masked,
            Action::NextTheme => self.next_theme(),
            Action::ToggleMouse => self.toggle_mouse(effects),
            Action::ExportCsv => self.export(ExportFormat::Csv, effects),
            Action::ExportJson => self.export(ExportFormat::Json, effects),
            Action::Copy => self.copy(effects),
            Action::Suspend => effects.push(Effect::Suspend),
            Action::Redraw => effects.push(Effect::ClearScreen),
            other => match self.pane {
                Pane::Live => self.act_in_live_table(other),
                Pane::User => self.act_in_user_view(other, effects),
                Pane::Stats => self.act_in_form(other, effects),
            },
        }
    }

    fn next_theme(&mut self) {
        self.settings.theme = self.settings.theme.next();
        self.theme = Theme::new(self.settings.theme, self.settings.depth);
        self.show_toast(Tone::Good, format!("Theme: {}.", self.settings.theme.name()));
    }

    fn toggle_mouse(&mut self, effects: &mut Vec<Effect>) {
        self.mouse = !self.mouse;
        effects.push(Effect::SetMouse(self.mouse));
        let text = if self.mouse {
            "The mouse is on."
        } else {
            "The mouse is off: select text as usual."
        };
        self.show_toast(Tone::Good, text);
    }

    fn copy(&mut self, effects: &mut Vec<Effect>) {
        match export::clipboard(self) {
            Some(text) => {
                effects.push(Effect::Copy(text));
                self.show_toast(Tone::Good, "Copied to the clipboard.");
            }
            None => self.show_toast(Tone::Bad, "There is nothing to copy yet."),
        }
    }

    fn export(&mut self, format: ExportFormat, effects: &mut Vec<Effect>) {
        match export::file(self, format) {
            Some((name, content)) => effects.push(Effect::SaveFile { name, content }),
            None => self.show_toast(Tone::Bad, "There is nothing to save yet."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Settings,
        fixtures::{noon, press},
    };

    fn app(overrides: &[(&str, &str)]) -> App {
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(name, key)| (*name, vec![(*key).to_owned()]))
            .collect();
        let keymap = Keymap::with_overrides(overrides.iter().map(|(name, keys)| (*name, keys.as_slice()))).unwrap();
        let settings = Settings {
            keymap,
            ..Settings::default()
        };
        App::new(settings, "feed", (80, 24), noon())
    }

    #[test]
    fn escape_and_a_key_in_one_read_are_two_keys() {
        let mut app = app(&[]);
        press(&mut app, &["/", "a", "d", "a"]);
        let effects = press(&mut app, &["alt-q"]);
        assert!(effects.contains(&Effect::Quit { keep_frame: false }), "{effects:?}");
        assert_eq!(app.live.filter_text, "", "Escape discards the filter");
        press(&mut app, &["2", "alt-1"]);
        assert!(
            app.pane == Pane::Live,
            "Escape leaves the fields, and 1 is the key of the tab"
        );
        press(&mut app, &["1", "?"]);
        press(&mut app, &["alt-s"]);
        assert!(app.help.is_none() && app.live.sorting.column == crate::store::Column::HeartRate);
    }

    #[test]
    fn a_key_with_alt_that_has_a_meaning_is_one_key() {
        let mut app = app(&[("freeze", "alt-f")]);
        press(&mut app, &["alt-f"]);
        assert!(app.live.frozen.is_some());
        press(&mut app, &["alt-f", "/", "o", "n", "e", "space", "t", "w", "o"]);
        press(&mut app, &["alt-backspace"]);
        assert_eq!(app.live.filter_text, "one ");
        press(&mut app, &["alt-b", "x"]);
        assert_eq!(app.live.filter_text, "xone ");
        // This one is a sequence of its own, and no Escape.
        press(&mut app, &["alt-up"]);
        assert!(app.is_typing());
    }
}
