//! HTTP ingest and query, and a live TCP line feed, around `health-core`.
