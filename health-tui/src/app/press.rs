//! Keys: what each does where, and what all panes have in common.

use crate::{
    app::{
        action::{Effect, Tone},
        export,
        state::{App, Pane},
    },
    keys::{Action, Key, Keymap, Scope},
    layout,
    theme::Theme,
};

impl App {
    /// Whether keys are text at the moment.
    pub(crate) fn is_typing(&self) -> bool {
        self.help.is_none() && (self.live.editing.is_some() || (self.pane == Pane::Stats && self.form.is_typing()))
    }

    /// Whose keys hold.
    pub(crate) fn scope(&self) -> Scope {
        match self.pane {
            Pane::Live if self.live.editing.is_some() => Scope::Filter,
            Pane::Live => Scope::Live,
            Pane::User => Scope::User,
            Pane::Stats => Scope::Form,
        }
    }

    /// How far help can be scrolled: until its last line is seen.
    pub(super) fn help_scroll_max(&self) -> u16 {
        let lines = Keymap::help_lines();
        u16::try_from(lines)
            .unwrap_or(u16::MAX)
            .saturating_sub(layout::help(self.size).height.saturating_sub(2))
    }

    pub(super) fn key(&mut self, key: Key, effects: &mut Vec<Effect>) {
        if self.help.is_some() {
            return self.key_in_help(key, effects);
        }
        let typing = self.is_typing();
        match self.settings.keymap.action(self.scope(), typing, key) {
            Some(action) => self.act(action, effects),
            None if typing => self.edit(key),
            None => {}
        }
    }

    fn key_in_help(&mut self, key: Key, effects: &mut Vec<Effect>) {
        let scroll = self.help.unwrap_or(0);
        let action = self.settings.keymap.action(Scope::Live, false, key);
        let page = self.size.1.saturating_sub(6);
        match action {
            Some(Action::Help | Action::Back | Action::Open) => self.help = None,
            // `q` closes what is in front; ctrl-c always ends the program.
            Some(Action::Quit) if key.typed_char().is_some() => self.help = None,
            Some(Action::Quit) => effects.push(Effect::Quit { keep_frame: false }),
            Some(Action::Up) => self.help = Some(scroll.saturating_sub(1)),
            Some(Action::Down) => self.help = Some(scroll.saturating_add(1)),
            Some(Action::PageUp) => self.help = Some(scroll.saturating_sub(page)),
            Some(Action::PageDown | Action::Freeze) => self.help = Some(scroll.saturating_add(page)),
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
                if !self.link.is_connected() {
                    effects.push(Effect::RetryNow);
                }
                if let Some(user) = &mut self.user {
                    user.retry();
                }
            }
            Action::Mask => self.masked = !self.masked,
            Action::NextTheme => {
                self.settings.theme = self.settings.theme.next();
                self.theme = Theme::new(self.settings.theme, self.settings.depth);
                self.say(Tone::Good, format!("theme: {}", self.settings.theme.name()));
            }
            Action::ToggleMouse => {
                self.mouse = !self.mouse;
                effects.push(Effect::Mouse(self.mouse));
                let text = if self.mouse {
                    "the mouse is on"
                } else {
                    "the mouse is off: select text as usual"
                };
                self.say(Tone::Good, text);
            }
            Action::ExportCsv => self.save(export::Form::Csv, effects),
            Action::ExportJson => self.save(export::Form::Json, effects),
            Action::Copy => match export::clipboard(self) {
                Some(text) => {
                    effects.push(Effect::Copy(text));
                    self.say(Tone::Good, "copied");
                }
                None => self.say(Tone::Bad, "there is nothing to copy yet"),
            },
            Action::Suspend => effects.push(Effect::Suspend),
            Action::Redraw => effects.push(Effect::ClearScreen),
            other => match self.pane {
                Pane::Live => self.act_live(other),
                Pane::User => self.act_user(other, effects),
                Pane::Stats => self.act_form(other, effects),
            },
        }
    }

    fn save(&mut self, form: export::Form, effects: &mut Vec<Effect>) {
        match export::file(self, form) {
            Some((name, content)) => effects.push(Effect::Save { name, content }),
            None => self.say(Tone::Bad, "there is nothing to save yet"),
        }
    }
}
