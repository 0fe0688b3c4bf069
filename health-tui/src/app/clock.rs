//! A clock that is set back, by hand or over the network.

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::{feed_connection::ConnectionState, state::App, stats_form::RangeQuery};

/// A clock that goes back by less than this is only corrected: everything happens a moment later.
const CORRECTION_MAX: TimeDelta = TimeDelta::seconds(1);

impl App {
    /// Moves the times that the dashboard waits for, if the clock was set back since the last input. Otherwise the
    /// table would not be sorted, and no message would disappear, until the clock is where it was.
    ///
    /// A clock that is set forward needs nothing: what waits is due at once.
    pub(super) fn follow_clock(&mut self, now: DateTime<Utc>) {
        let back = self.now - now;
        if back < CORRECTION_MAX {
            return;
        }
        let waiting = [
            &mut self.users_query_at,
            &mut self.history.paused_until,
            &mut self.connection.second_ends_at,
            &mut self.connection.silent_since,
        ];
        for at in waiting.into_iter().flatten() {
            *at -= back;
        }
        if let Some(toast) = &mut self.toast {
            toast.until -= back;
        }
        if let ConnectionState::WaitingToRetry { retry_at, .. } = &mut self.connection.state {
            *retry_at -= back;
        }
        if let RangeQuery::Running { since, .. } = &mut self.form.query {
            *since -= back;
        }
        if let Some(view) = &mut self.user {
            view.clock_set_back(back);
        }
        self.users.clock_set_back(now);
        self.live.rebuild_soon();
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{Effect, Input, NetworkEvent, Pane, ReceivedSamples, event::Tone},
        fixtures::{self, noon, press, sample},
        theme::ThemeName,
    };

    const BACK: TimeDelta = TimeDelta::hours(3);

    fn receive(app: &mut App, user: i64, at: DateTime<Utc>) {
        let received = ReceivedSamples {
            samples: vec![sample(user, at, 70.0)],
            replaced: 0,
        };
        app.update(Input::Network(NetworkEvent::Samples(received)), at);
    }

    #[test]
    fn the_table_goes_on_after_the_clock_was_set_back() {
        let mut app = fixtures::live(ThemeName::Dark, (80, 24));
        let rows = app.live.order.len();
        let earlier = noon() - BACK;
        for second in 0..3 {
            receive(&mut app, 7, earlier + TimeDelta::seconds(second));
        }
        assert_eq!(app.live.order.len(), rows + 1, "a new user has a row");
        let user = app.users.get(104).unwrap();
        assert!(user.last_received.is_some_and(|at| at <= earlier), "{user:?}");
        let second = earlier + TimeDelta::seconds(30);
        app.update(Input::Tick, second);
        assert_eq!(app.connection.rate(), None, "the rate of three hours ago is gone");
    }

    #[test]
    fn a_message_and_a_countdown_end_after_the_clock_was_set_back() {
        let mut app = fixtures::live(ThemeName::Dark, (80, 24));
        app.update(Input::Message(Tone::Good, "Saved.".to_owned()), noon());
        app.connection.state = ConnectionState::WaitingToRetry {
            attempt: 1,
            reason: "connection refused".to_owned(),
            retry_at: noon() + TimeDelta::seconds(3),
        };
        let earlier = noon() - BACK;
        app.update(Input::Tick, earlier);
        assert!(
            app.next_change()
                .is_some_and(|at| at <= earlier + TimeDelta::seconds(1))
        );
        app.update(Input::Tick, earlier + TimeDelta::seconds(20));
        assert!(app.toast.is_none());
    }

    #[test]
    fn the_view_of_a_user_asks_again_after_the_clock_was_set_back() {
        let mut app = fixtures::user(ThemeName::Dark, (120, 36));
        press(&mut app, &["end"]);
        assert_eq!(app.pane, Pane::User);
        let earlier = app.now - BACK;
        let effects = app.update(Input::Tick, earlier);
        assert!(
            effects.iter().any(|effect| matches!(effect, Effect::SendQuery { .. })),
            "{effects:?}"
        );
    }
}
