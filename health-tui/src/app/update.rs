//! The only entry point that changes the state.

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::{
    effect::Effect,
    event::{ConnectionEvent, Input, NetworkEvent, ReceivedSamples, Tone},
    query::{Query, QueryError, QueryResponse},
    state::{App, Pane},
    stats_form::RangeQuery,
};

/// The pause between skipped samples and the query for all users. A dashboard that is too slow for the feed must not
/// also ask for all users all the time.
const PAUSE_AFTER_LAG: TimeDelta = TimeDelta::seconds(10);

impl App {
    /// Applies one input at the time `now`. Returns what the event loop must do outside.
    pub(crate) fn update(&mut self, input: Input, now: DateTime<Utc>) -> Vec<Effect> {
        self.follow_clock(now);
        self.now = now;
        let mut effects = Vec::new();
        match input {
            Input::Key(key) => {
                self.dirty = true;
                self.handle_key(key, &mut effects);
            }
            Input::Paste(text) => {
                self.dirty = true;
                self.paste(&text);
            }
            Input::Mouse(event) => self.handle_mouse(event, &mut effects),
            Input::Resize(width, height) => self.resize(width, height),
            Input::Suspend => effects.push(Effect::Suspend),
            Input::Resumed(width, height) => {
                self.resize(width, height);
                effects.push(Effect::ClearScreen);
            }
            Input::Network(event) => self.handle_network_event(event, &mut effects),
            Input::Message(tone, text) => {
                self.dirty = true;
                self.show_toast(tone, text);
            }
            Input::Tick => self.dirty = true,
        }
        self.apply_time();
        self.send_due_queries(&mut effects);
        effects
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.dirty = true;
        self.size = (width, height);
        let visible_rows = self.visible_rows();
        self.live.scroll_to_cursor(&self.users, visible_rows);
        if matches!(self.form.query, RangeQuery::Done { .. }) && self.form_areas().answer.is_empty() {
            // If there is no longer room for both, the answer stays and the fields go.
            self.form.focus = None;
        }
    }

    /// Applies the changes that are due at the current time.
    fn apply_time(&mut self) {
        if self.toast.as_ref().is_some_and(|toast| toast.until <= self.now) {
            self.toast = None;
            self.dirty = true;
        }
        if self.connection.end_seconds(self.now) {
            self.dirty = true;
        }
        if self.live.next_rebuild().is_some_and(|at| at <= self.now) {
            let visible_rows = self.visible_rows();
            self.live.rebuild(&self.users, &self.settings, self.now, visible_rows);
            self.dirty = true;
        }
    }

    /// Sends the queries that the visible pane needs.
    fn send_due_queries(&mut self, effects: &mut Vec<Effect>) {
        if self.users_query_at.is_some_and(|at| at <= self.now) {
            self.query_all_users(effects);
        }
        if let Some((id, query)) = self.next_history_query() {
            effects.push(Effect::SendQuery { id, query });
        }
        if self.pane == Pane::User
            && let Some(query) = self.user.as_ref().and_then(|view| view.next_query(self.now))
        {
            let id = self.next_query_id();
            if let Some(view) = &mut self.user
                && let Some(replaced) = view.query_sent(id, &query)
            {
                effects.push(Effect::CancelQuery { id: replaced });
            }
            effects.push(Effect::SendQuery { id, query });
            self.dirty = true;
        }
    }

    fn handle_network_event(&mut self, event: NetworkEvent, effects: &mut Vec<Effect>) {
        match event {
            NetworkEvent::Connection(event) => self.handle_connection_event(&event, effects),
            NetworkEvent::Samples(received) => self.add_samples(&received),
            NetworkEvent::Erased(erasure) => self.forget(&erasure, effects),
            NetworkEvent::Response { id, result } => self.handle_response(id, result),
        }
    }

    fn handle_connection_event(&mut self, event: &ConnectionEvent, effects: &mut Vec<Effect>) {
        self.dirty = true;
        let is_first_connection = !self.connection.was_connected;
        self.connection.apply(event, self.now);
        match event {
            ConnectionEvent::Connected { resumed, reason } => {
                let has_gap = *resumed == Some(false);
                if has_gap {
                    let reason = reason.as_deref().unwrap_or("the cursor was too old");
                    self.show_toast(Tone::Bad, format!("Samples may be missing: {reason}."));
                    self.users.reset_history_requested();
                    if let Some(view) = &mut self.user {
                        view.reload();
                    }
                }
                if is_first_connection || has_gap {
                    self.query_all_users(effects);
                }
                effects.extend(self.restart_history().map(|id| Effect::CancelQuery { id }));
                if let Some(view) = &mut self.user {
                    view.retry();
                }
            }
            // The samples that are not asked for again may be all that a new user has sent.
            ConnectionEvent::Lagged { .. } => {
                self.users_query_at.get_or_insert(self.now + PAUSE_AFTER_LAG);
            }
            ConnectionEvent::Connecting { .. }
            | ConnectionEvent::Disconnected { .. }
            | ConnectionEvent::Silent { .. }
            | ConnectionEvent::Recovered
            | ConnectionEvent::Replaying { .. } => {}
        }
    }

    /// Asks for the newest sample of every user: users who send nothing at the moment appear too, and a gap is
    /// filled.
    fn query_all_users(&mut self, effects: &mut Vec<Effect>) {
        self.users_query_at = None;
        let id = self.next_query_id();
        if let Some(replaced) = self.users_query.replace(id) {
            effects.push(Effect::CancelQuery { id: replaced });
        }
        effects.push(Effect::SendQuery {
            id,
            query: Query::Users,
        });
    }

    fn add_samples(&mut self, received: &ReceivedSamples) {
        self.connection.count_samples(received, self.now);
        let mut has_new_user = false;
        for sample in &received.samples {
            has_new_user |= self.users.add_from_feed(sample, self.now);
        }
        if let Some(view) = &mut self.user {
            let id = view.id;
            view.add_samples(received.samples.iter().filter(|sample| sample.user_id().get() == id));
        }
        match &mut self.live.frozen {
            Some(frozen) => {
                frozen.new_samples += u64::try_from(received.samples.len()).unwrap_or(u64::MAX) + received.replaced;
            }
            None => self.live.outdated = true,
        }
        if has_new_user && self.live.frozen.is_none() && self.live.order.len() < self.visible_rows() {
            // While the table has empty rows, new users appear at once.
            self.live.rebuild_soon();
        }
        self.dirty = true;
    }

    fn handle_response(&mut self, id: u64, result: Result<QueryResponse, QueryError>) {
        if self.users_query == Some(id) || self.history.is_pending(id) {
            return self.add_stored_samples(id, result);
        }
        if let Some(view) = self.user.as_mut().filter(|view| view.pending_query() == Some(id)) {
            match result {
                Ok(QueryResponse::Window(response)) => {
                    view.response_received(*response, self.settings.heart_rate_max, self.now);
                }
                Ok(_) => {}
                Err(error) => view.query_failed(error.to_string(), self.now),
            }
            self.dirty = true;
            return;
        }
        if let RangeQuery::Running {
            id: running, request, ..
        } = &self.form.query
            && *running == id
        {
            self.form.query = match result {
                Ok(QueryResponse::Range(users)) => RangeQuery::Done {
                    request: request.clone(),
                    users,
                },
                Ok(_) => return,
                Err(error) => RangeQuery::Failed {
                    reason: error.to_string(),
                },
            };
            self.form.scroll = 0;
            self.dirty = true;
        }
    }

    /// Adds samples that were stored before the feed began. If the query fails, the feed fills the table alone.
    fn add_stored_samples(&mut self, id: u64, result: Result<QueryResponse, QueryError>) {
        let is_users_query = self.users_query == Some(id);
        let is_last = match result {
            Ok(QueryResponse::Samples { samples, last }) => {
                for sample in &samples {
                    self.users.add_stored(sample);
                }
                if is_users_query && self.live.frozen.is_none() {
                    self.live.rebuild_soon();
                }
                if !is_users_query && last {
                    self.history.pending = None;
                }
                last
            }
            Ok(_) => true,
            Err(error) => {
                if !is_users_query {
                    self.history_failed(&error);
                }
                true
            }
        };
        if is_users_query && is_last {
            self.users_query = None;
        }
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Settings, fixtures::noon};

    fn asks_for_users(effects: &[Effect]) -> bool {
        effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::SendQuery {
                    query: Query::Users,
                    ..
                }
            )
        })
    }

    fn happens(app: &mut App, event: ConnectionEvent, seconds: i64) -> bool {
        let input = Input::Network(NetworkEvent::Connection(event));
        asks_for_users(&app.update(input, noon() + TimeDelta::seconds(seconds)))
    }

    fn connected(resumed: Option<bool>) -> ConnectionEvent {
        ConnectionEvent::Connected { resumed, reason: None }
    }

    #[test]
    fn all_users_are_asked_for_at_the_start_after_a_gap_and_after_skipped_samples() {
        let mut app = App::new(Settings::default(), "feed", (80, 24), noon());
        assert!(happens(&mut app, connected(None), 0));
        assert!(!happens(&mut app, connected(Some(true)), 1), "nothing is missing");
        assert!(happens(&mut app, connected(Some(false)), 2));
        // A slow dashboard asks at most every ten seconds.
        for second in 3..13 {
            assert!(!happens(&mut app, ConnectionEvent::Lagged { missed: 7 }, second));
        }
        assert_eq!(app.next_change(), Some(noon() + TimeDelta::seconds(13)));
        assert!(asks_for_users(
            &app.update(Input::Tick, noon() + TimeDelta::seconds(13))
        ));
        assert!(!asks_for_users(
            &app.update(Input::Tick, noon() + TimeDelta::seconds(99))
        ));
    }

    #[test]
    fn the_history_of_the_shown_user_is_asked_for_again_after_a_gap() {
        let mut app = crate::fixtures::user(crate::theme::ThemeName::Dark, (120, 36));
        let window_query = |effects: &[Effect]| {
            let is_window = |effect: &Effect| {
                matches!(
                    effect,
                    Effect::SendQuery {
                        query: Query::Window { .. },
                        ..
                    }
                )
            };
            effects.iter().any(is_window)
        };
        let mut happens = |event| {
            let now = app.now;
            window_query(&app.update(Input::Network(NetworkEvent::Connection(event)), now))
        };
        assert!(!happens(connected(Some(true))));
        assert!(happens(connected(Some(false))));
    }
}
