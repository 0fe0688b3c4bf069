//! What the dashboard remembers: the newest samples of each user, and the order of the rows.

mod filter;
mod order;
mod ring;
mod users;

pub(crate) use self::{
    filter::RowFilter,
    order::{Column, RowOrder, Sorting},
    ring::{PackedSample, RING_SAMPLES_MAX},
    users::{User, Users},
};
