//! Everything there is to draw.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{
        action::Tone,
        asked::Past,
        form::{Form, Run},
        link::{Link, LinkState},
        live::Live,
        user::UserView,
    },
    config::Settings,
    fmt,
    layout::{FormAreas, LiveAreas, ScreenAreas, SizeClass, UserAreas},
    store::Users,
    theme::Theme,
};

/// How long a message stays.
const TOAST_SECONDS: i64 = 4;

/// What is in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pane {
    Live,
    User,
    Stats,
}

/// A short message over the pane.
#[derive(Clone, Debug)]
pub(crate) struct Toast {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    pub(crate) until: DateTime<Utc>,
}

/// The dashboard.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) theme: Theme,
    pub(crate) server: String,
    pub(crate) size: (u16, u16),
    pub(crate) now: DateTime<Utc>,
    pub(crate) pane: Pane,
    /// Help is open, scrolled by this many lines.
    pub(crate) help: Option<u16>,
    pub(crate) masked: bool,
    pub(crate) mouse: bool,
    pub(crate) users: Users,
    pub(crate) live: Live,
    pub(crate) user: Option<UserView>,
    pub(crate) form: Form,
    pub(crate) link: Link,
    pub(crate) toast: Option<Toast>,
    pub(super) next_id: u64,
    /// The question for everyone's latest sample.
    pub(super) asked_users: Option<u64>,
    pub(super) past: Past,
    /// Something that is shown has changed.
    pub(crate) dirty: bool,
}

impl App {
    pub(crate) fn new(settings: Settings, server: impl Into<String>, size: (u16, u16), now: DateTime<Utc>) -> Self {
        Self {
            theme: settings.theme(),
            form: Form::new(settings.tz),
            mouse: settings.mouse,
            settings,
            server: server.into(),
            size,
            now,
            pane: Pane::Live,
            help: None,
            masked: false,
            users: Users::default(),
            live: Live::default(),
            user: None,
            link: Link::default(),
            toast: None,
            next_id: 0,
            asked_users: None,
            past: Past::default(),
            dirty: true,
        }
    }

    /// Everyone as the live table shows them: as they are, or as they were when the picture was frozen.
    pub(crate) fn shown(&self) -> (&Users, DateTime<Utc>) {
        match &self.live.frozen {
            Some(frozen) => (&frozen.users, frozen.at),
            None => (&self.users, self.now),
        }
    }

    /// How a user is called: by name, by id, or masked by the order of arrival.
    pub(crate) fn label(&self, id: i64) -> Cow<'_, str> {
        if self.masked {
            let place = self.users.place_of(id).map_or(0, |p| p + 1);
            return Cow::Owned(format!("person {place}"));
        }
        match self.settings.names.get(&id) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(id.to_string()),
        }
    }

    /// The user's name and id, for titles.
    pub(crate) fn title(&self, id: i64) -> String {
        match self.settings.names.get(&id) {
            Some(name) if !self.masked => format!("{name} ({id})"),
            _ if self.masked => self.label(id).into_owned(),
            _ => format!("user {id}"),
        }
    }

    pub(crate) fn live_areas(&self) -> LiveAreas {
        LiveAreas::new(&ScreenAreas::new(self.size), self.live.preview, self.live.order.len())
    }

    /// Rows of the table that are seen at once.
    pub(crate) fn page(&self) -> usize {
        usize::from(self.live_areas().rows.height)
    }

    /// The user's chart: columns of its plot.
    pub(crate) fn chart_width(&self) -> u16 {
        UserAreas::new(&ScreenAreas::new(self.size)).plot().width
    }

    /// The form and its answer; where there is no room for both, whoever has left the fields sees the answer.
    pub(crate) fn form_areas(&self) -> FormAreas {
        let answer_first = self.form.focus.is_none() && !matches!(self.form.run, Run::Nothing);
        FormAreas::new(&ScreenAreas::new(self.size), answer_first)
    }

    pub(crate) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.toast = Some(Toast {
            text: text.into(),
            tone,
            until: self.now + TimeDelta::seconds(TOAST_SECONDS),
        });
    }

    /// A number for a question, which its answer carries.
    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// When something that is shown will change although nothing happens; none while nothing is pending.
    pub(crate) fn next_change(&self) -> Option<DateTime<Utc>> {
        let now = self.now;
        let toast = self.toast.as_ref().map(|t| t.until);
        let retry = match &self.link.state {
            // The countdown shows whole seconds, rounded up.
            LinkState::Waiting { retry_at, .. } if *retry_at > now => {
                let left = (*retry_at - now).num_milliseconds();
                Some(now + TimeDelta::milliseconds((left - 1) % 1_000 + 1))
            }
            _ => None,
        };
        let running = match &self.form.run {
            Run::Running { since, .. } if self.pane == Pane::Stats => {
                let passed = (now - *since).num_milliseconds().max(0);
                Some(now + TimeDelta::milliseconds(1_000 - passed % 1_000))
            }
            _ => None,
        };
        let pane = match self.pane {
            Pane::Live => self.next_age_change(),
            Pane::User => self.user.as_ref().and_then(|u| u.next_change(self.chart_width(), now)),
            Pane::Stats => None,
        };
        let order = if self.live.frozen.is_none() {
            self.live.rebuild_due()
        } else {
            None
        };
        let past = self.past.resumes().filter(|at| *at > now);
        let silence = self.link.silence_changes(now);
        [toast, retry, running, pane, order, past, silence, self.link.second_ends]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now))
    }

    /// When the first of the ages on the screen reads differently, or a row becomes stale.
    fn next_age_change(&self) -> Option<DateTime<Utc>> {
        if self.live.frozen.is_some() || SizeClass::of(self.size) == SizeClass::TooSmall {
            return None;
        }
        let now = self.now;
        (0..self.page())
            .map_while(|line| self.live.row_at_line(line))
            .filter_map(|row| self.live.order.get(row).and_then(|i| self.users.at(i)))
            .map(|user| fmt::age_changes_in(user.age(now)))
            .min()
            .map(|left| now + left.max(TimeDelta::milliseconds(1)))
    }
}
