//! The Health dashboard.
