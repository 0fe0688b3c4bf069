//! Which writers have a connection, and why the others have none.

use parking_lot::Mutex;

use crate::error::Error;

/// The state of each writer, for the readiness check and for requests whose deadline has passed.
#[derive(Debug)]
pub(crate) struct WriterStates {
    states: Mutex<Vec<WriterState>>,
}

#[derive(Debug, Clone)]
enum WriterState {
    /// It has not tried to connect yet.
    New,
    Connected,
    Refused(Error),
}

impl WriterStates {
    pub(crate) fn new(writers: usize) -> Self {
        Self {
            states: Mutex::new(vec![WriterState::New; writers]),
        }
    }

    /// Notes that a writer has a connection.
    pub(crate) fn connected(&self, writer: usize) {
        self.states.lock()[writer] = WriterState::Connected;
    }

    /// Notes why a writer has no connection.
    pub(crate) fn refused(&self, writer: usize, error: &Error) {
        self.states.lock()[writer] = WriterState::Refused(error.clone());
    }

    /// Notes that a writer closes its connection because others need one. Returns false if no other writer is
    /// connected.
    pub(crate) fn leave_to_others(&self, writer: usize) -> bool {
        let states = &mut *self.states.lock();
        let connected = states.iter().filter(|state| matches!(state, WriterState::Connected));
        if connected.count() < 2 {
            return false;
        }
        states[writer] = WriterState::New;
        true
    }

    /// Returns how many writers have a connection.
    pub(crate) fn count_connected(&self) -> usize {
        let states = self.states.lock();
        let connected = states.iter().filter(|state| matches!(state, WriterState::Connected));
        connected.count()
    }

    /// Returns why no sample can be written, if no writer has a connection. One of them is enough for all users.
    pub(crate) fn why_none_is_connected(&self) -> Option<Error> {
        let mut refusal = None;
        for state in &*self.states.lock() {
            match state {
                WriterState::Connected => return None,
                WriterState::Refused(error) => refusal = Some(error.clone()),
                WriterState::New => {}
            }
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_connected_writer_is_enough_and_without_one_the_reason_is_known() {
        let states = WriterStates::new(2);
        assert!(states.why_none_is_connected().is_none());
        states.refused(0, &Error::TimedOut(Duration::ZERO));
        assert!(matches!(states.why_none_is_connected(), Some(Error::TimedOut(_))));
        states.connected(1);
        assert!(states.why_none_is_connected().is_none());
        assert_eq!(states.count_connected(), 1);
        states.refused(1, &Error::Closed);
        assert!(states.why_none_is_connected().is_some());
    }
}
