//! Evicting chunks, and counting what members miss by that.

use crate::{
    live::{
        chunk::Chunk,
        ring::{
            audience::UserAudience,
            member::Fall,
            state::{State, audiences},
        },
    },
    sample::UserId,
    wire::Cursor,
};

impl State {
    /// Counts the samples that paced members that had named users have missed.
    pub(super) fn evicted_from_newest(&mut self, evicted: &[(UserId, u64)]) {
        for (user, index) in evicted {
            for id in self.paced_by_user.get(user).into_iter().flatten() {
                let member = &mut self.members[*id];
                if let Some(pace) = member.pace.as_mut().filter(|_| member.next <= *index) {
                    pace.miss(1);
                    self.missed += 1;
                }
            }
        }
    }

    /// Evicts chunks until the ring is within its bounds.
    pub(super) fn evict(&mut self, samples_max: usize, bytes_max: usize) {
        let samples_max = samples_max as u64;
        while self.delivered - self.first_index() > samples_max || self.bytes + self.newest.bytes() > bytes_max {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.bytes -= chunk.bytes();
            self.evicted_from_everyone(&chunk);
            self.evicted_from_users(&chunk);
        }
    }

    pub(super) fn evicted_from_everyone(&mut self, chunk: &Chunk) {
        self.missed += self.everyone.fallen as u64 * chunk.len() as u64;
        for id in self.everyone.newly_fallen(&self.members, chunk.end_index()) {
            let member = &mut self.members[id];
            let base = member.next.max(chunk.first_index);
            self.missed += chunk.end_index() - base;
            self.everyone.fallen += 1;
            member.fall = Some(Fall {
                cursor: chunk.before.clone(),
                base,
            });
        }
    }

    pub(super) fn evicted_from_users(&mut self, chunk: &Chunk) {
        let users = audiences(&self.by_user, chunk);
        let mut fallen = Vec::new();
        for (user, range) in &users {
            let Some(UserAudience { audience, .. }) = self.by_user.get_mut(user) else {
                continue;
            };
            self.missed += audience.fallen as u64 * range.len() as u64;
            fallen.extend(audience.newly_fallen(&self.members, chunk.first_index + range.end as u64));
        }
        for id in fallen {
            self.fall_from_users(id, chunk);
        }
        for (user, range) in users {
            let Some(audience) = self.by_user.get_mut(&user) else {
                continue;
            };
            audience.evicted += range.len() as u64;
            audience.chunk_ends.pop_front();
        }
    }

    /// A member has not read a sample of one of its users that is being evicted.
    pub(super) fn fall_from_users(&mut self, id: usize, chunk: &Chunk) {
        let member = &mut self.members[id];
        if member.fall.is_some() {
            return; // It has already fallen off because of another user.
        }
        let users = member.users.clone().unwrap_or_default();
        let read = usize::try_from(member.next.saturating_sub(chunk.first_index)).unwrap_or(usize::MAX);
        let mut base = 0;
        for user in users.iter() {
            let Some(audience) = self.by_user.get_mut(user) else {
                continue;
            };
            let range = chunk.of_user(*user);
            let read_of_user = read.clamp(range.start, range.end) - range.start;
            base += audience.evicted + read_of_user as u64;
            audience.audience.fallen += 1;
            self.missed += (range.len() - read_of_user) as u64;
        }
        member.fall = Some(Fall {
            cursor: chunk.before.clone(),
            base,
        });
    }

    /// Puts a member that had fallen off back at the start of the ring, and returns how many samples it has missed.
    pub(super) fn recover(&mut self, id: usize) -> Option<(u64, Cursor)> {
        let first_index = self.first_index();
        let member = &mut self.members[id];
        let Fall { cursor, base } = member.fall.take()?;
        member.next = member.next.max(first_index);
        let next = member.next;
        let missed = match member.users.clone() {
            None => {
                self.everyone.recovered(next);
                first_index - base
            }
            Some(users) => {
                let mut evicted = 0;
                for user in users.iter() {
                    let Some(audience) = self.by_user.get_mut(user) else {
                        continue;
                    };
                    audience.audience.recovered(next);
                    evicted += audience.evicted;
                }
                evicted - base
            }
        };
        Some((missed, cursor))
    }
}
