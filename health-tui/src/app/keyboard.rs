//! Keys: their scope, and the actions that all panes have in common.

use crate::{
    app::{
        effect::Effect,
        event::Tone,
        export::{self, ExportFormat},
        state::{App, Pane},
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

    pub(super) fn handle_key(&mut self, key: Key, effects: &mut Vec<Effect>) {
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
