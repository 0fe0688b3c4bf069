//! What the dashboard remembers: a short ring of readings a user, and the order the rows are shown in.

mod filter;
mod order;
mod series;
mod users;

pub(crate) use self::{
    filter::Filter,
    order::{Column, Order, Sorting},
    series::{Entry, RING_SAMPLES_MAX},
    users::{Alert, Limits, User, Users},
};
