//! Intervals, and the doors for devices: each format over HTTP, stored and read back.

mod all_doors;
mod apps;
mod intervals;
mod line_protocol;
mod support;
