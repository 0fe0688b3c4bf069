//! Requests for the older samples of the visible rows, so that their sparklines are full from the start.

use chrono::TimeDelta;

use crate::app::{
    feed_connection::ConnectionState,
    history_request::HistoryRequest,
    query::{Query, QueryError},
    state::{App, Pane},
};

/// Number of users in one request. If the user scrolls quickly, the next request is already for the rows visible
/// then.
const USERS_MAX: usize = 16;

/// The pause after a failed request: as long as the longest backoff of the feed.
const PAUSE_AFTER_FAILURE: TimeDelta = TimeDelta::seconds(10);

impl App {
    /// Returns the next request for visible rows without older samples, if there is one and no request is pending.
    pub(super) fn next_history_query(&mut self) -> Option<(u64, Query)> {
        let is_paused = self.history.paused_until.is_some_and(|until| until > self.now);
        let is_live = self.pane == Pane::Live && self.live.frozen.is_none();
        let is_connected = self.connection.state == ConnectionState::Connected;
        if self.history.pending.is_some() || is_paused || !is_live || !is_connected {
            return None;
        }
        let indices: Vec<u32> = (0..self.visible_rows())
            .map_while(|line| self.live.row_at_line(line))
            .filter_map(|row| self.live.order.get(row))
            .filter(|index| self.users.at(*index).is_some_and(|user| !user.history_requested))
            .take(USERS_MAX)
            .collect();
        let users: Vec<_> = indices
            .into_iter()
            .filter_map(|index| self.users.mark_history_requested(index))
            .collect();
        if users.is_empty() {
            return None;
        }
        let id = self.next_query_id();
        self.history.pending = Some(HistoryRequest {
            id,
            users: users.iter().map(|(user, _)| *user).collect(),
        });
        Some((id, Query::History { users }))
    }

    /// Handles a failed request. A refusal is final. After any other error the same users are requested again later.
    pub(super) fn history_failed(&mut self, error: &QueryError) {
        if matches!(error, QueryError::Refused { .. }) {
            self.history.pending = None;
        } else {
            self.restart_history();
        }
        self.history.paused_until = Some(self.now + PAUSE_AFTER_FAILURE);
    }

    /// Makes the users of the pending request eligible again, at once. Returns the id of the request to cancel.
    pub(super) fn restart_history(&mut self) -> Option<u64> {
        self.history.paused_until = None;
        let request = self.history.pending.take()?;
        for id in request.users {
            if let Some(user) = self.users.get_mut(id) {
                user.history_requested = false;
            }
        }
        Some(request.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{ConnectionEvent, Effect, Input, NetworkEvent, QueryResponse},
        config::Settings,
        fixtures::{noon, sample},
    };

    fn history_query(effects: &[Effect]) -> Option<(u64, Vec<i64>)> {
        effects.iter().find_map(|effect| match effect {
            Effect::SendQuery {
                id,
                query: Query::History { users },
            } => Some((*id, users.iter().map(|user| user.0).collect())),
            _ => None,
        })
    }

    fn respond(app: &mut App, id: u64, samples: Vec<health_core::Sample>, last: bool) -> Vec<Effect> {
        let result = Ok(QueryResponse::Samples { samples, last });
        app.update(Input::Network(NetworkEvent::Response { id, result }), noon())
    }

    fn fail(app: &mut App, id: u64, error: QueryError, after: TimeDelta) -> Vec<Effect> {
        let result = Err(error);
        app.update(Input::Network(NetworkEvent::Response { id, result }), noon() + after)
    }

    /// Forty users whom the server knows, in a window that shows some of them.
    fn app() -> (App, Vec<Effect>) {
        let mut app = App::new(Settings::default(), "feed", (80, 50), noon());
        let connected = ConnectionEvent::Connected {
            resumed: None,
            reason: None,
        };
        let effects = app.update(Input::Network(NetworkEvent::Connection(connected)), noon());
        let Some(Effect::SendQuery {
            id,
            query: Query::Users,
        }) = effects.first()
        else {
            panic!("{effects:?}");
        };
        let samples = (1..=40).map(|user| sample(user, noon(), 70.0)).collect();
        let effects = respond(&mut app, *id, samples, true);
        (app, effects)
    }

    #[test]
    fn only_visible_rows_are_requested_and_each_once() {
        let (mut app, effects) = app();
        let mut requested: Vec<i64> = Vec::new();
        let mut request = history_query(&effects);
        while let Some((id, users)) = request {
            assert!(users.len() <= USERS_MAX);
            requested.extend(&users);
            let samples = users
                .iter()
                .flat_map(|user| (1..=9).map(|i| sample(*user, noon() - TimeDelta::seconds(8 * i), 60.0)))
                .collect();
            assert_eq!(history_query(&respond(&mut app, id, samples, false)), None);
            request = history_query(&respond(&mut app, id, Vec::new(), true));
        }
        let visible = i64::try_from(app.visible_rows()).unwrap();
        assert_eq!(requested, (1..=visible).collect::<Vec<_>>());
        let user = app.users.get(1).unwrap();
        assert_eq!(
            (user.ring.samples().len(), user.heart_rate),
            (10, Some(70.0)),
            "older samples do not replace the newest value"
        );
        assert_eq!(app.users.get(40).unwrap().ring.samples().len(), 1);
        let effects = crate::fixtures::press(&mut app, &["end"]);
        assert_eq!(history_query(&effects).unwrap().1.last(), Some(&40));
    }

    #[test]
    fn a_failed_request_is_repeated_later_and_a_refused_one_never() {
        let (mut app, effects) = app();
        let (id, users) = history_query(&effects).unwrap();
        let error = QueryError::TimedOut { seconds: 60 };
        assert_eq!(history_query(&fail(&mut app, id, error, TimeDelta::zero())), None);
        assert_eq!(
            history_query(&app.update(Input::Tick, noon() + TimeDelta::seconds(9))),
            None
        );
        let (id, repeated) = history_query(&app.update(Input::Tick, noon() + PAUSE_AFTER_FAILURE)).unwrap();
        assert_eq!(repeated, users);
        let error = QueryError::Refused {
            status: 403,
            detail: String::new(),
        };
        fail(&mut app, id, error, PAUSE_AFTER_FAILURE);
        let (_, others) = history_query(&app.update(Input::Tick, noon() + PAUSE_AFTER_FAILURE * 2)).unwrap();
        assert!(others.iter().all(|user| !users.contains(user)), "{others:?}");
    }
}
