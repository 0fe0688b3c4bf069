//! Waking paced members that wait for the first sample of their next turn.

use std::task::Waker;

use crate::live::{chunk::Chunk, ring::state::State};

impl State {
    /// Registers a paced member to be woken at the next sample of one of its users.
    pub(super) fn wait_for_turn(&mut self, id: usize, waker: &Waker) {
        let member = &mut self.members[id];
        member.wait(waker);
        if let Some(pace) = &mut member.pace
            && !std::mem::replace(&mut pace.waits_for_turn, true)
            && member.users.is_none()
        {
            self.waiting_for_turn.push(id);
        }
    }

    /// Wakes the paced members that wait for a sample of the chunk. Those that wait for their timer stay asleep.
    pub(super) fn wake_paced(&mut self, chunk: &Chunk, wakers: &mut Vec<Waker>) {
        let mut woken = std::mem::take(&mut self.waiting_for_turn);
        if !self.paced_by_user.is_empty() {
            let named = chunk.users().filter_map(|(user, _)| self.paced_by_user.get(&user));
            woken.extend(named.flatten());
        }
        for id in woken {
            if let Some(member) = self.members.get_mut(id)
                && let Some(pace) = &mut member.pace
                && std::mem::take(&mut pace.waits_for_turn)
            {
                wakers.extend(member.waker.take());
            }
        }
    }
}
