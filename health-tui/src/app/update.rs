//! The one way the state changes.

use chrono::{DateTime, Utc};

use crate::app::{
    action::{Answer, Batch, Effect, FeedNews, Input, Net, Query, QueryError, Tone},
    form::Run,
    state::{App, Pane},
};

impl App {
    /// Takes one input at `now` and says what to do outside.
    pub(crate) fn update(&mut self, input: Input, now: DateTime<Utc>) -> Vec<Effect> {
        self.now = now;
        let mut effects = Vec::new();
        match input {
            Input::Key(key) => {
                self.dirty = true;
                self.key(key, &mut effects);
            }
            Input::Paste(text) => {
                self.dirty = true;
                self.paste(&text);
            }
            Input::Mouse(event) => self.mouse(event, &mut effects),
            Input::Resize(width, height) => self.resize(width, height),
            Input::Suspend => effects.push(Effect::Suspend),
            Input::Resumed(width, height) => {
                self.resize(width, height);
                effects.push(Effect::ClearScreen);
            }
            Input::Net(net) => self.net(net, &mut effects),
            Input::Note(tone, text) => {
                self.dirty = true;
                self.say(tone, text);
            }
            Input::Tick => self.dirty = true,
        }
        self.settle(&mut effects);
        effects
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.dirty = true;
        self.size = (width, height);
        let page = self.page();
        self.live.show_cursor(&self.users, page);
        if matches!(self.form.run, Run::Done { .. }) && self.form_areas().answer.is_empty() {
            // Where there is no longer room for both, the answer stays.
            self.form.focus = None;
        }
    }

    /// What follows from the time and from what has changed.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        if self.toast.as_ref().is_some_and(|t| t.until <= self.now) {
            self.toast = None;
            self.dirty = true;
        }
        if self.link.tick(self.now) {
            self.dirty = true;
        }
        if self.live.rebuild_due().is_some_and(|at| at <= self.now) {
            let page = self.page();
            self.live.rebuild(&self.users, &self.settings, self.now, page);
            self.dirty = true;
        }
        if let Some((id, query)) = self.wants_past() {
            effects.push(Effect::Ask { id, query });
        }
        if self.pane == Pane::User
            && let Some(query) = self.user.as_ref().and_then(|u| u.wants(self.now))
        {
            let id = self.new_id();
            if let Some(user) = &mut self.user
                && let Some(old) = user.asking(id, &query)
            {
                effects.push(Effect::Cancel { id: old });
            }
            effects.push(Effect::Ask { id, query });
            self.dirty = true;
        }
    }

    fn net(&mut self, net: Net, effects: &mut Vec<Effect>) {
        match net {
            Net::Feed(news) => self.feed(&news, effects),
            Net::Samples(batch) => self.samples(&batch),
            Net::Answer { id, result } => self.answer(id, result),
        }
    }

    fn feed(&mut self, news: &FeedNews, effects: &mut Vec<Effect>) {
        self.dirty = true;
        let first = !self.link.ever;
        self.link.hear(news, self.now);
        match news {
            FeedNews::Connected { resumed, reason } => {
                if *resumed == Some(false) {
                    let why = reason.as_deref().unwrap_or("the cursor was too old");
                    self.say(Tone::Bad, format!("readings may be missing: {why}"));
                }
                // Who is there, also those who send nothing now. After a gap in the feed it fills in what was missed.
                if first || *resumed == Some(false) {
                    let id = self.new_id();
                    if let Some(old) = self.asked_users.replace(id) {
                        effects.push(Effect::Cancel { id: old });
                    }
                    effects.push(Effect::Ask {
                        id,
                        query: Query::Users,
                    });
                }
                if *resumed == Some(false) {
                    self.users.forget_past();
                }
                if let Some(old) = self.past_again() {
                    effects.push(Effect::Cancel { id: old });
                }
                if let Some(user) = &mut self.user {
                    user.retry();
                }
            }
            FeedNews::Refused { reason } => self.say(Tone::Bad, format!("the feed says: {reason}")),
            FeedNews::Connecting { .. }
            | FeedNews::Waiting { .. }
            | FeedNews::Quiet { .. }
            | FeedNews::Heard
            | FeedNews::Lagged { .. }
            | FeedNews::Replaying { .. } => {}
        }
    }

    fn samples(&mut self, batch: &Batch) {
        self.link.count(batch, self.now);
        let mut new = false;
        for sample in &batch.samples {
            new |= self.users.hear(sample, self.now);
            if let Some(user) = self.user.as_mut().filter(|u| u.id == sample.user_id().get()) {
                user.hear(sample);
            }
        }
        match &mut self.live.frozen {
            Some(frozen) => {
                frozen.waiting += u64::try_from(batch.samples.len()).unwrap_or(u64::MAX) + batch.coalesced;
            }
            None => self.live.outdated = true,
        }
        if new && self.live.frozen.is_none() && self.live.order.len() < self.page() {
            // The first people appear at once; in a full table nobody would see the difference.
            self.live.rebuild_now();
        }
        self.dirty = true;
    }

    fn answer(&mut self, id: u64, result: Result<Answer, QueryError>) {
        if self.asked_users == Some(id) || self.past.is_asked(id) {
            return self.learn(id, result);
        }
        if let Some(user) = self.user.as_mut().filter(|u| u.asked == Some(id)) {
            match result {
                Ok(Answer::Window { points, stats }) => user.answered(points, stats, self.now),
                Ok(_) => {}
                Err(error) => user.failed(error.to_string(), self.now),
            }
            self.dirty = true;
            return;
        }
        if let Run::Running { id: running, asked, .. } = &self.form.run
            && *running == id
        {
            self.form.run = match result {
                Ok(Answer::Range(answer)) => Run::Done {
                    asked: asked.clone(),
                    answer,
                },
                Ok(_) => return,
                Err(error) => Run::Failed { why: error.to_string() },
            };
            self.form.scroll = 0;
            self.dirty = true;
        }
    }

    /// What the server had before the feed began. Where there is no answer, the table fills from the feed all the same.
    fn learn(&mut self, id: u64, result: Result<Answer, QueryError>) {
        let everyone = self.asked_users == Some(id);
        let ended = match result {
            Ok(Answer::Known { samples, last }) => {
                for sample in &samples {
                    self.users.learn(sample);
                }
                if everyone && self.live.frozen.is_none() {
                    self.live.rebuild_now();
                }
                if !everyone && last {
                    self.past.done();
                }
                last
            }
            Ok(_) => true,
            Err(error) => {
                if !everyone {
                    self.past_failed(&error);
                }
                true
            }
        };
        if everyone && ended {
            self.asked_users = None;
        }
        self.dirty = true;
    }
}
