//! The dashboard without a terminal and without a network: (state, input) to effects.
//!
//! Invariant: nothing in here does I/O or asks for the time. Whoever calls says what time it is.

mod action;
mod asked;
mod export;
mod form;
mod line;
mod link;
mod live;
mod mouse;
mod panes;
mod past;
mod press;
mod state;
mod text;
mod update;
mod user;
mod when;

pub(crate) use self::{
    action::{Answer, Batch, BucketWidth, Effect, FeedNews, Input, Net, Point, Query, QueryError, Tone, UserRange},
    form::{Asked, Field, PRESETS, Run},
    link::LinkState,
    state::{App, Pane},
    user::UserView,
};
