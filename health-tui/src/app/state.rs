//! The state of the dashboard: everything that is drawn.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{
        event::Tone,
        feed_connection::{ConnectionState, FeedConnection},
        history_request::HistoryRequests,
        live_table::LiveTable,
        stats_form::{RangeQuery, StatsForm},
        user_view::UserView,
    },
    config::Settings,
    fmt,
    layout::{FormAreas, LiveAreas, ScreenAreas, SizeClass, UserAreas},
    store::Users,
    theme::Theme,
};

/// How long a toast stays: long enough to read one sentence.
const TOAST_SECONDS: i64 = 4;

/// How long a toast at the start stays: the user looks at the table first.
const START_TOAST_SECONDS: i64 = 15;

/// The pane that is visible.
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
    /// The address of the feed, or the name of the recording.
    pub(crate) server: String,
    /// Columns and rows of the terminal.
    pub(crate) size: (u16, u16),
    pub(crate) now: DateTime<Utc>,
    pub(crate) pane: Pane,
    /// Set while the help is open: the number of lines that are scrolled out above it.
    pub(crate) help: Option<u16>,
    /// Whether names and ids of users are hidden.
    pub(crate) masked: bool,
    pub(crate) mouse: bool,
    pub(crate) users: Users,
    pub(crate) live: LiveTable,
    pub(crate) user: Option<UserView>,
    pub(crate) form: StatsForm,
    pub(crate) connection: FeedConnection,
    pub(crate) toast: Option<Toast>,
    last_query_id: u64,
    /// The id of the pending query for the newest sample of every user.
    pub(super) users_query: Option<u64>,
    /// When to ask for the newest sample of every user again, because the feed has left samples out.
    pub(super) users_query_at: Option<DateTime<Utc>>,
    pub(super) history: HistoryRequests,
    /// Whether something that is drawn has changed.
    pub(crate) dirty: bool,
}

impl App {
    pub(crate) fn new(settings: Settings, server: impl Into<String>, size: (u16, u16), now: DateTime<Utc>) -> Self {
        let toast = settings.tz_note.clone().map(|text| Toast {
            text,
            tone: Tone::Bad,
            until: now + TimeDelta::seconds(START_TOAST_SECONDS),
        });
        Self {
            theme: settings.theme(),
            form: StatsForm::new(settings.tz),
            mouse: settings.mouse,
            settings,
            server: server.into(),
            size,
            now,
            pane: Pane::Live,
            help: None,
            masked: false,
            users: Users::default(),
            live: LiveTable::default(),
            user: None,
            connection: FeedConnection::default(),
            toast,
            last_query_id: 0,
            users_query: None,
            users_query_at: None,
            history: HistoryRequests::default(),
            dirty: true,
        }
    }

    /// Returns the users that the live table shows, and their time: now, or the time of the freeze.
    pub(crate) fn shown(&self) -> (&Users, DateTime<Utc>) {
        match &self.live.frozen {
            Some(frozen) => (&frozen.users, frozen.at),
            None => (&self.users, self.now),
        }
    }

    /// Returns a user's name or id. On a masked screen, returns a number in the order of arrival.
    pub(crate) fn label(&self, id: i64) -> Cow<'_, str> {
        if self.masked {
            let number = self.users.index_of(id).map_or(0, |index| index + 1);
            return Cow::Owned(format!("person {number}"));
        }
        match self.settings.names.get(&id) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(id.to_string()),
        }
    }

    /// Returns a user's name and id, for titles.
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

    /// Returns how many rows of the live table fit on the screen.
    pub(crate) fn visible_rows(&self) -> usize {
        usize::from(self.live_areas().rows.height)
    }

    /// Returns the number of columns of the user's chart.
    pub(crate) fn chart_width(&self) -> u16 {
        UserAreas::new(&ScreenAreas::new(self.size)).plot().width
    }

    /// Returns the areas of the form and of its answer.
    ///
    /// If there is only room for one of them, the answer is visible while no field has the focus.
    pub(crate) fn form_areas(&self) -> FormAreas {
        let answer_first = self.form.focus.is_none() && !matches!(self.form.query, RangeQuery::NotAsked);
        FormAreas::new(&ScreenAreas::new(self.size), answer_first)
    }

    pub(crate) fn show_toast(&mut self, tone: Tone, text: impl Into<String>) {
        self.toast = Some(Toast {
            text: text.into(),
            tone,
            until: self.now + TimeDelta::seconds(TOAST_SECONDS),
        });
    }

    /// Returns an unused id for a query. Its response carries the same id.
    pub(super) fn next_query_id(&mut self) -> u64 {
        self.last_query_id += 1;
        self.last_query_id
    }

    /// Returns when something that is drawn changes by time alone. `None` means never.
    pub(crate) fn next_change(&self) -> Option<DateTime<Utc>> {
        let now = self.now;
        let toast = self.toast.as_ref().map(|toast| toast.until);
        let retry = match &self.connection.state {
            // The countdown shows whole seconds, rounded up.
            ConnectionState::WaitingToRetry { retry_at, .. } if *retry_at > now => {
                let left_ms = (*retry_at - now).num_milliseconds();
                Some(now + TimeDelta::milliseconds((left_ms - 1) % 1_000 + 1))
            }
            _ => None,
        };
        let running = match &self.form.query {
            RangeQuery::Running { since, .. } if self.pane == Pane::Stats => {
                let elapsed_ms = (now - *since).num_milliseconds().max(0);
                Some(now + TimeDelta::milliseconds(1_000 - elapsed_ms % 1_000))
            }
            _ => None,
        };
        let pane = match self.pane {
            Pane::Live => self.next_age_change(),
            Pane::User => self.user.as_ref().and_then(|view| {
                let age = self.next_age_change_of_user(view.id);
                let chart = view.next_change(self.chart_width(), now);
                age.into_iter().chain(chart).min()
            }),
            Pane::Stats => None,
        };
        let order = if self.live.frozen.is_none() {
            self.live.next_rebuild()
        } else {
            None
        };
        let history = self.history.paused_until.filter(|until| *until > now);
        let silence = self.connection.next_silence_change(now);
        let rate = self.connection.second_ends_at;
        [
            toast,
            retry,
            running,
            pane,
            order,
            history,
            silence,
            rate,
            self.users_query_at,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(now))
    }

    /// Returns when the first visible age changes its text, or a visible row becomes stale.
    fn next_age_change(&self) -> Option<DateTime<Utc>> {
        if self.live.frozen.is_some() || SizeClass::of(self.size) == SizeClass::TooSmall {
            return None;
        }
        let now = self.now;
        (0..self.visible_rows())
            .map_while(|line| self.live.row_at_line(line))
            .filter_map(|row| self.live.order.get(row).and_then(|index| self.users.at(index)))
            .map(|user| fmt::age_changes_in(user.age(now)))
            .min()
            .map(|left| next_whole_second(now + left.max(TimeDelta::milliseconds(1))))
    }

    /// Returns when the age of the newest sample in the view of a user changes its text.
    fn next_age_change_of_user(&self, id: i64) -> Option<DateTime<Utc>> {
        let left = fmt::age_changes_in(self.users.get(id)?.age(self.now));
        Some(next_whole_second(self.now + left.max(TimeDelta::milliseconds(1))))
    }
}

/// Returns a time, or the whole second after it. Ages that change within the same second are drawn together: a table in
/// which nothing else happens has one frame a second, not one for each row.
fn next_whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    let milliseconds = i64::from(at.timestamp_subsec_millis() % 1_000);
    at + TimeDelta::milliseconds((1_000 - milliseconds) % 1_000)
}
