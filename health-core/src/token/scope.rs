//! What a token permits: reading, writing or erasing.

use std::{fmt, str::FromStr};

/// One kind of permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// To store samples.
    Ingest,
    /// To ask for statistics, samples and users, and to subscribe to the feed.
    Read,
    /// To erase samples and users.
    Erase,
}

/// A set of [`Scope`]s. The text of a set has at least one.
///
/// ```
/// use health_core::token::{Scope, Scopes};
///
/// let scopes: Scopes = "ingest,read".parse()?;
/// assert!(scopes.contains(Scope::Read) && !scopes.contains(Scope::Erase));
/// assert_eq!(scopes.to_string(), "ingest,read");
/// # Ok::<(), health_core::token::ParseScopesError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    ingest: bool,
    read: bool,
    erase: bool,
}

/// The text is not a list of scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope: write ingest, read or erase, or several with commas between them")]
pub struct ParseScopesError(String);

impl Scope {
    /// Every scope, in the order in which lists show them.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Erase];

    /// Returns the name of the scope in commands and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Erase => "erase",
        }
    }

    /// Returns the scope with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self {
        ingest: false,
        read: false,
        erase: false,
    };

    /// Every scope.
    pub const ALL: Self = Self {
        ingest: true,
        read: true,
        erase: true,
    };

    /// Returns whether the set has the scope.
    pub fn contains(self, scope: Scope) -> bool {
        match scope {
            Scope::Ingest => self.ingest,
            Scope::Read => self.read,
            Scope::Erase => self.erase,
        }
    }

    /// Returns the scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Adds a scope.
    #[must_use]
    pub fn with(mut self, scope: Scope) -> Self {
        match scope {
            Scope::Ingest => self.ingest = true,
            Scope::Read => self.read = true,
            Scope::Erase => self.erase = true,
        }
        self
    }
}

impl FromStr for Scopes {
    type Err = ParseScopesError;

    fn from_str(text: &str) -> Result<Self, ParseScopesError> {
        let mut scopes = Self::NONE;
        for name in text.split(',').map(str::trim) {
            let scope = Scope::from_name(name).ok_or_else(|| ParseScopesError(name.to_owned()))?;
            scopes = scopes.with(scope);
        }
        Ok(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_shown_as_a_list() {
        for (text, shown) in [
            ("ingest", "ingest"),
            ("read,ingest", "ingest,read"),
            ("erase, read ,ingest,read", "ingest,read,erase"),
        ] {
            assert_eq!(text.parse::<Scopes>().unwrap().to_string(), shown);
        }
        assert_eq!("ingest,read,erase".parse(), Ok(Scopes::ALL));
    }

    #[test]
    fn the_error_names_what_is_not_a_scope() {
        for (text, wrong) in [
            ("", "\"\""),
            ("write", "\"write\""),
            ("read,,erase", "\"\""),
            ("READ", "\"READ\""),
        ] {
            let message = text.parse::<Scopes>().unwrap_err().to_string();
            assert!(message.starts_with(wrong), "{message}");
        }
    }
}
