//! The state of the dashboard, without a terminal and without a network: an input changes the state and returns
//! effects.
//!
//! Invariant: nothing in this module does I/O or reads a clock. The caller passes the time.

mod chart_point;
mod clock;
mod effect;
mod erased;
mod event;
mod export;
mod feed_connection;
mod form_actions;
mod heart_rate_zones;
mod history;
mod history_request;
mod keyboard;
mod live_actions;
mod live_table;
mod mouse;
mod query;
mod recent_figures;
mod state;
mod stats_form;
mod text_editing;
mod text_input;
mod time_input;
mod update;
mod user_actions;
mod user_view;

pub(crate) use self::{
    chart_point::ChartPoint,
    effect::Effect,
    event::{ConnectionEvent, Input, NetworkEvent, ReceivedSamples, Tone},
    feed_connection::ConnectionState,
    heart_rate_zones::HeartRateZones,
    query::{ChartData, Query, QueryError, QueryResponse, UserRangeStats, WindowResponse},
    recent_figures::RecentFigures,
    state::{App, Pane},
    stats_form::{FormField, PRESETS, RangeQuery, RangeRequest},
    text_input::TextInput,
    user_view::UserView,
};
