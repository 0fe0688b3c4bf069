//! The command `import`.

mod formats;
mod options;
mod servers;
mod support;
mod unreadable;
