//! The samples of a test, and the cursors between them.

use std::ops::RangeInclusive;

use crate::{
    client::{Feed, Subscribed, post},
    server::Server,
};

/// Samples that are stored before the database is copied.
const EARLY: RangeInclusive<u32> = 1..=20;

/// The last sample before the cursor that every history knows.
const BEFORE_CURSOR: u32 = 10;

/// Samples that are stored after the copy. If it is put back, they are lost.
const LATE: RangeInclusive<u32> = 101..=140;

/// Samples of the history that follows. First there are fewer commits than in the lost history, then as many, then
/// more.
const NEW: [RangeInclusive<u32>; 3] = [201..=210, 211..=240, 241..=300];

/// How the cursors are checked after a restart that lost nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    /// PostgreSQL was restarted; the live subscriber has noticed nothing.
    ServerRan,
    /// The server was restarted.
    ServerIsNew,
}

/// Cursors, and a live subscriber that has read everything so far.
pub(crate) struct History {
    live: Feed,
    /// A cursor before the copy.
    early: String,
    /// Cursors after the copy: of the first, a middle and the last commit.
    late: Vec<String>,
}

impl History {
    /// Writes the samples before the copy.
    pub(crate) async fn begin(server: &Server) -> Self {
        let mut live = Feed::from_now(server.feed()).await;
        post(server.http(), EARLY).await;
        let samples = live.samples_until(*EARLY.end()).await;
        let (number, cursor) = &samples[BEFORE_CURSOR as usize - 1];
        assert_eq!(*number, BEFORE_CURSOR);
        let early = cursor.to_string();
        Self {
            live,
            early,
            late: Vec::new(),
        }
    }

    /// Writes the samples after the copy.
    pub(crate) async fn write_lost(mut self, server: &Server) -> Self {
        post(server.http(), LATE).await;
        let samples = self.live.samples_until(*LATE.end()).await;
        assert!(samples.iter().map(|(number, _)| *number).eq(LATE));
        let cursors = [0, samples.len() / 2, samples.len() - 1];
        self.late = cursors.map(|index| samples[index].1.to_string()).into();
        self
    }

    /// Checks what clients hear after the copy was put back. `server_ran` while that happened.
    pub(crate) async fn check_lost(mut self, server: &Server, server_ran: bool) {
        self.check_late_cursors_are_refused(server).await;
        if server_ran {
            expect_refusal(&self.live.subscribed().await);
        }
        let (mut refused, subscribed) = Feed::after(server.feed(), &self.late[0]).await;
        expect_refusal(&subscribed);
        let early: Vec<u32> = EARLY.filter(|number| *number > BEFORE_CURSOR).collect();
        self.check_early_cursor_resumes(server, &early).await;

        let mut all_new = Vec::new();
        for numbers in NEW {
            post(server.http(), numbers.clone()).await;
            all_new.extend(numbers);
            self.check_late_cursors_are_refused(server).await;
            self.check_early_cursor_resumes(server, &[early.as_slice(), &all_new].concat())
                .await;
        }
        // A refused subscription continues from now, and so does the one that ran.
        refused.expect(&all_new).await;
        if server_ran {
            self.live.expect(&all_new).await;
        }
        let (number, fingerprint) = newest_cursor(server).await;
        for forged in forged_cursors(number, &fingerprint) {
            let (_, subscribed) = Feed::after(server.feed(), &forged).await;
            assert!(
                matches!(subscribed, Subscribed::NotResumed { .. }),
                "{forged}: {subscribed:?}"
            );
        }
    }

    /// Checks that nothing was lost.
    pub(crate) async fn check_kept(mut self, server: &Server, kept: Kept) {
        let numbers = NEW[0].clone();
        let early: Vec<u32> = EARLY.filter(|number| *number > BEFORE_CURSOR).chain(LATE).collect();
        self.check_early_cursor_resumes(server, &early).await;
        post(server.http(), numbers.clone()).await;
        let new: Vec<u32> = numbers.collect();
        self.check_early_cursor_resumes(server, &[early.as_slice(), &new].concat())
            .await;
        let after_first: Vec<u32> = LATE.skip(1).chain(new.iter().copied()).collect();
        let (mut first, subscribed) = Feed::after(server.feed(), &self.late[0]).await;
        assert_eq!(subscribed, Subscribed::Resumed);
        first.expect(&after_first).await;
        let (mut last, subscribed) = Feed::after(server.feed(), &self.late[2]).await;
        assert_eq!(subscribed, Subscribed::Resumed);
        last.expect(&new).await;
        if kept == Kept::ServerRan {
            // Without another `subscribed`.
            self.live.expect(&new).await;
        }
    }

    async fn check_late_cursors_are_refused(&self, server: &Server) {
        for cursor in &self.late {
            let (_, subscribed) = Feed::after(server.feed(), cursor).await;
            expect_refusal(&subscribed);
        }
    }

    async fn check_early_cursor_resumes(&self, server: &Server, expected: &[u32]) {
        let (mut feed, subscribed) = Feed::after(server.feed(), &self.early).await;
        assert_eq!(subscribed, Subscribed::Resumed);
        feed.expect(expected).await;
    }
}

/// Checks that the reason speaks of another history of the database.
fn expect_refusal(subscribed: &Subscribed) {
    let Subscribed::NotResumed { reason } = subscribed else {
        panic!("resumed from a cursor of the lost history");
    };
    assert!(
        reason.contains("restored") || reason.contains("earlier state"),
        "{reason}"
    );
}

/// Returns number and fingerprint of a commit that a subscriber has just received.
async fn newest_cursor(server: &Server) -> (u64, String) {
    let mut feed = Feed::from_now(server.feed()).await;
    post(server.http(), [999]).await;
    let (_, cursor) = feed.samples_until(999).await.pop().unwrap();
    let (number, fingerprint) = cursor.as_str().split_once('.').unwrap();
    (number.parse().unwrap(), fingerprint.to_owned())
}

/// Returns cursors that no server has given.
fn forged_cursors(number: u64, fingerprint: &str) -> Vec<String> {
    let other = u32::from_str_radix(fingerprint, 16).unwrap() ^ 1;
    vec![
        format!("{}.{fingerprint}", number + 1),
        format!("{}.{fingerprint}", number + 1_000_000),
        format!("{}.{fingerprint}", i64::MAX),
        format!("{number}.{other:08x}"),
        format!("1.{fingerprint}"),
        format!("0.{fingerprint}"),
        format!("-1.{fingerprint}"),
        format!("0{number}.{fingerprint}"),
        number.to_string(),
        format!("1f00ba-{number}:{}:{number}", number - 1),
    ]
}
