//! The doors for devices: endpoints that take what phones and other devices send, in their own formats.
//!
//! A reader of `health_core::formats` turns the body into entries while it arrives. The entries take the same way as
//! the records of `/ingest`: [`Upload`](crate::http::upload::Upload), queue, commit, response.

mod entries;
mod json;
mod lines;

pub(crate) use self::{
    json::{health_auto_export, health_connect},
    lines::line_protocol,
};
