//! Forgetting what the server has erased.

use chrono::TimeDelta;
use health_core::Erasure;

use crate::app::{effect::Effect, event::Tone, state::App, stats_form::RangeQuery};

/// The pause between an erasure and the query for the newest sample of every user. An erasure of millions of samples
/// comes as hundreds of events.
const PAUSE_AFTER_ERASURE: TimeDelta = TimeDelta::seconds(1);

impl App {
    /// Drops what was erased from the table, also from a frozen one, from the view of the user and from the answer of
    /// the form. Asks again for what may still be stored. Responses under way may contain erased samples, so they are
    /// not awaited.
    pub(super) fn forget(&mut self, erasure: &Erasure, effects: &mut Vec<Effect>) {
        let id = erasure.user_id().get();
        // Without a message, a row or a chart would vanish for no visible reason.
        if self.users.get(id).is_some_and(|user| !user.is_empty()) {
            self.show_toast(
                Tone::Good,
                format!("Erased on the server: samples of {}.", self.title(id)),
            );
        }
        self.users.forget(erasure);
        if let Some(frozen) = &mut self.live.frozen {
            frozen.users.forget(erasure);
        }
        self.live.rebuild_soon();
        if self.history.pending.is_some() {
            effects.extend(self.restart_history().map(|id| Effect::CancelQuery { id }));
        }
        self.history.paused_until = Some(self.now + PAUSE_AFTER_ERASURE);
        effects.extend(self.users_query.take().map(|id| Effect::CancelQuery { id }));
        self.users_query_at.get_or_insert(self.now + PAUSE_AFTER_ERASURE);
        if let Some(view) = self.user.as_mut().filter(|view| view.id == id) {
            view.forget(erasure);
        }
        self.forget_answer(id, effects);
        self.dirty = true;
    }

    /// Drops the answer of the form if it is about a user. What a running query is about is known by the server only.
    fn forget_answer(&mut self, id: i64, effects: &mut Vec<Effect>) {
        match &self.form.query {
            RangeQuery::Running { id, .. } => effects.push(Effect::CancelQuery { id: *id }),
            RangeQuery::Done { users, .. } if users.iter().any(|user| user.stats.user_id.get() == id) => {}
            _ => return,
        }
        self.form.query = RangeQuery::Failed {
            reason: "Samples were erased meanwhile. Ask again.".to_owned(),
        };
    }
}

#[cfg(test)]
mod tests {
    use health_core::{Source, TimeRange, UserId};

    use crate::{
        app::{App, ConnectionEvent, Effect, Input, NetworkEvent, Query, QueryResponse, ReceivedSamples},
        config::Settings,
        fixtures::{noon, press, sample},
    };

    use super::*;

    fn send(app: &mut App, event: NetworkEvent, seconds: i64) -> Vec<Effect> {
        app.update(Input::Network(event), noon() + TimeDelta::seconds(seconds))
    }

    fn shown(app: &App) -> Vec<i64> {
        let (users, _) = app.shown();
        app.live
            .order
            .iter()
            .filter_map(|index| users.at(index))
            .map(|user| user.id)
            .collect()
    }

    fn users_query(effects: &[Effect]) -> Option<u64> {
        effects.iter().find_map(|effect| match effect {
            Effect::SendQuery {
                id,
                query: Query::Users,
            } => Some(*id),
            _ => None,
        })
    }

    /// Three users on the screen, with samples of a minute.
    fn app() -> App {
        let mut app = App::new(Settings::default(), "feed", (80, 24), noon());
        let connected = ConnectionEvent::Connected {
            resumed: None,
            reason: None,
        };
        send(&mut app, NetworkEvent::Connection(connected), 0);
        let of_user = |user| (0..6).map(move |ten| sample(user, noon() + TimeDelta::seconds(ten * 10 - 60), 70.0));
        let samples = (1..=3).flat_map(of_user).collect();
        let received = ReceivedSamples { samples, replaced: 0 };
        send(&mut app, NetworkEvent::Samples(received), 1);
        assert_eq!(shown(&app), [1, 2, 3]);
        app
    }

    fn range(from: i64, to: i64) -> TimeRange {
        let time = |second| noon() + TimeDelta::seconds(second);
        TimeRange::new(time(from), time(to)).unwrap()
    }

    #[test]
    fn an_erased_user_leaves_the_table_at_once_also_a_frozen_one_and_comes_back_with_the_next_sample() {
        for is_frozen in [false, true] {
            let mut app = app();
            if is_frozen {
                press(&mut app, &["space"]);
                assert!(app.live.frozen.is_some());
            }
            let user = UserId::new(2).unwrap();
            send(&mut app, NetworkEvent::Erased(Erasure::of_user(user)), 2);
            assert_eq!(shown(&app), [1, 3]);
            let known = app.users.get(2).unwrap();
            assert!(known.heart_rate.is_none() && known.ring.samples().len() == 0);
            let samples = vec![sample(2, noon(), 80.0)];
            let received = ReceivedSamples { samples, replaced: 0 };
            send(&mut app, NetworkEvent::Samples(received), 4);
            app.update(Input::Tick, noon() + TimeDelta::seconds(6));
            assert_eq!(shown(&app).len(), if is_frozen { 2 } else { 3 });
        }
    }

    #[test]
    fn a_message_names_the_user_whose_samples_were_erased_and_a_masked_screen_the_number() {
        let toast = |app: &App| app.toast.as_ref().map(|toast| toast.text.clone());
        let erase = |app: &mut App, user| {
            let user = UserId::new(user).unwrap();
            send(app, NetworkEvent::Erased(Erasure::of_user(user)), 2);
        };
        let mut app = app();
        erase(&mut app, 99);
        assert_eq!(toast(&app), None, "nobody has seen this user");
        erase(&mut app, 2);
        assert_eq!(toast(&app).as_deref(), Some("Erased on the server: samples of user 2."));
        app.masked = true;
        erase(&mut app, 3);
        assert_eq!(
            toast(&app).as_deref(),
            Some("Erased on the server: samples of person 3.")
        );
    }

    #[test]
    fn a_range_leaves_the_rest_of_the_row_and_the_newest_value_is_one_that_is_stored() {
        let mut app = app();
        let user = UserId::new(1).unwrap();
        send(
            &mut app,
            NetworkEvent::Erased(Erasure::of_range(user, range(-30, 0), None)),
            2,
        );
        let known = app.users.get(1).unwrap();
        assert_eq!(known.ring.samples().len(), 3);
        assert_eq!(known.newest, noon() + TimeDelta::seconds(-40));
        assert_eq!(known.heart_rate, Some(70.0));
        assert!(!known.history_requested);
        // Of another source, nothing is forgotten.
        let other = Some(Source::new("another").unwrap());
        let erasure = Erasure::of_range(user, range(-100, 0), other);
        send(&mut app, NetworkEvent::Erased(erasure), 2);
        assert_eq!(app.users.get(1).unwrap().ring.samples().len(), 3);
    }

    #[test]
    fn a_response_that_may_contain_erased_samples_is_cancelled_and_asked_for_again() {
        let mut app = App::new(Settings::default(), "feed", (80, 24), noon());
        let connected = ConnectionEvent::Connected {
            resumed: None,
            reason: None,
        };
        let effects = send(&mut app, NetworkEvent::Connection(connected), 0);
        let id = users_query(&effects).unwrap();
        let user = UserId::new(1).unwrap();
        let effects = send(&mut app, NetworkEvent::Erased(Erasure::of_user(user)), 1);
        assert!(
            effects
                .iter()
                .any(|effect| matches!(effect, Effect::CancelQuery { id: cancelled } if *cancelled == id))
        );
        let stale = Ok(QueryResponse::Samples {
            samples: vec![sample(1, noon(), 70.0)],
            last: true,
        });
        send(&mut app, NetworkEvent::Response { id, result: stale }, 1);
        assert!(app.users.get(1).is_none());
        let effects = app.update(Input::Tick, noon() + TimeDelta::seconds(3));
        assert!(users_query(&effects).is_some_and(|again| again != id));
    }
}
