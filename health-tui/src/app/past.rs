//! The past of the rows that are seen: a sparkline is full from the start, not after minutes of waiting.

use chrono::TimeDelta;

use crate::app::{
    action::{Query, QueryError},
    asked::Question,
    link::LinkState,
    state::{App, Pane},
};

/// Users in one question at most: whoever scrolls quickly is answered about what is seen then, not about all that was
/// passed.
const USERS_MAX: usize = 16;

/// How long nothing is asked after a question has failed.
const PAUSE: TimeDelta = TimeDelta::seconds(10);

impl App {
    /// The next question about rows that are seen and whose past is not known, if there is one and none is under way.
    pub(super) fn wants_past(&mut self) -> Option<(u64, Query)> {
        let idle = self.past.asked.is_none() && self.past.not_before.is_none_or(|at| at <= self.now);
        let may = self.pane == Pane::Live && self.live.frozen.is_none() && self.link.state == LinkState::Connected;
        if !idle || !may {
            return None;
        }
        let seen: Vec<u32> = (0..self.page())
            .map_while(|line| self.live.row_at_line(line))
            .filter_map(|row| self.live.order.get(row))
            .filter(|i| self.users.at(*i).is_some_and(|u| !u.past))
            .take(USERS_MAX)
            .collect();
        let users: Vec<_> = seen.into_iter().filter_map(|i| self.users.ask_past(i)).collect();
        if users.is_empty() {
            return None;
        }
        let id = self.new_id();
        self.past.asked = Some(Question {
            id,
            users: users.iter().map(|(user, _)| *user).collect(),
        });
        Some((id, Query::Past { users }))
    }

    /// There is no answer. A refusal is one for good; otherwise the same is asked again after a while.
    pub(super) fn past_failed(&mut self, error: &QueryError) {
        if matches!(error, QueryError::Refused { .. }) {
            self.past.asked = None;
        } else {
            self.past_again();
        }
        self.past.not_before = Some(self.now + PAUSE);
    }

    /// The server is there again: what was under way is asked anew, at once. Gives the question that became obsolete.
    pub(super) fn past_again(&mut self) -> Option<u64> {
        self.past.not_before = None;
        let question = self.past.asked.take()?;
        for id in question.users {
            if let Some(user) = self.users.get_mut(id) {
                user.past = false;
            }
        }
        Some(question.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{Answer, Effect, FeedNews, Input, Net},
        config::Settings,
        fixtures::{noon, sample},
    };

    fn asked(effects: &[Effect]) -> Option<(u64, Vec<i64>)> {
        effects.iter().find_map(|e| match e {
            Effect::Ask {
                id,
                query: Query::Past { users },
            } => Some((*id, users.iter().map(|u| u.0).collect())),
            _ => None,
        })
    }

    /// Twenty users whom the server knew, in a window that shows some of them.
    fn app() -> (App, Vec<Effect>) {
        let mut app = App::new(Settings::default(), "feed", (80, 50), noon());
        let connected = FeedNews::Connected {
            resumed: None,
            reason: None,
        };
        let effects = app.update(Input::Net(Net::Feed(connected)), noon());
        let Some(Effect::Ask {
            id,
            query: Query::Users,
        }) = effects.first()
        else {
            panic!("{effects:?}");
        };
        let samples = (1..=40).map(|user| sample(user, noon(), 70.0)).collect();
        let answer = Ok(Answer::Known { samples, last: true });
        let effects = app.update(
            Input::Net(Net::Answer {
                id: *id,
                result: answer,
            }),
            noon(),
        );
        (app, effects)
    }

    #[test]
    fn only_rows_that_are_seen_are_asked_about_and_each_once() {
        let (mut app, effects) = app();
        let mut seen: Vec<i64> = Vec::new();
        let mut question = asked(&effects);
        while let Some((id, users)) = question {
            assert!(users.len() <= USERS_MAX);
            seen.extend(&users);
            let samples = users
                .iter()
                .flat_map(|u| (1..=9).map(|i| sample(*u, noon() - TimeDelta::seconds(8 * i), 60.0)))
                .collect();
            let part = Ok(Answer::Known { samples, last: false });
            assert_eq!(
                asked(&app.update(Input::Net(Net::Answer { id, result: part }), noon())),
                None
            );
            let samples = Vec::new();
            let end = Ok(Answer::Known { samples, last: true });
            question = asked(&app.update(Input::Net(Net::Answer { id, result: end }), noon()));
        }
        let page = i64::try_from(app.page()).unwrap();
        assert_eq!(seen, (1..=page).collect::<Vec<_>>());
        let user = app.users.get(1).unwrap();
        assert_eq!(
            (user.ring.len(), user.heart_rate),
            (10, Some(70.0)),
            "the past is not the newest"
        );
        assert_eq!(app.users.get(40).unwrap().ring.len(), 1);
        let effects = crate::fixtures::press(&mut app, &["end"]);
        assert_eq!(asked(&effects).unwrap().1.last(), Some(&40));
    }

    #[test]
    fn what_cannot_be_answered_is_asked_again_later_and_what_is_refused_never() {
        let (mut app, effects) = app();
        let (id, users) = asked(&effects).unwrap();
        let result = Err(QueryError::TooSlow { seconds: 60 });
        assert_eq!(asked(&app.update(Input::Net(Net::Answer { id, result }), noon())), None);
        assert_eq!(asked(&app.update(Input::Tick, noon() + TimeDelta::seconds(9))), None);
        let (id, again) = asked(&app.update(Input::Tick, noon() + PAUSE)).unwrap();
        assert_eq!(again, users);
        let detail = String::new();
        let result = Err(QueryError::Refused { status: 403, detail });
        app.update(Input::Net(Net::Answer { id, result }), noon() + PAUSE);
        let (_, others) = asked(&app.update(Input::Tick, noon() + PAUSE * 2)).unwrap();
        assert!(others.iter().all(|u| !users.contains(u)), "{others:?}");
    }
}
