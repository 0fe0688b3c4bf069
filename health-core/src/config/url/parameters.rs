//! The parameters of a database URL by their names in libpq.

use std::collections::BTreeMap;

use crate::config::url::{fault::UrlFault, supported::SUPPORTED};

/// The values of a URL's parameters. As in libpq, the last value of a name counts, and an empty one counts as none.
#[derive(Default, Clone)]
pub(crate) struct Parameters {
    values: BTreeMap<&'static str, Vec<u8>>,
}

impl Parameters {
    /// Sets a parameter by its name in the text.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) -> Result<(), UrlFault> {
        let Some(name) = supported(name) else {
            return Err(UrlFault::UnknownParameter { name: name.to_owned() });
        };
        let value = value.into();
        if value.contains(&0) {
            return Err(UrlFault::ZeroByte(name));
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Returns a value as bytes. Passwords and paths may be any.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.values
            .get(name)
            .map(Vec::as_slice)
            .filter(|value| !value.is_empty())
    }

    /// Returns a value as text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, UrlFault> {
        self.bytes(name)
            .map(|value| std::str::from_utf8(value).map_err(|_| UrlFault::NotUtf8(name)))
            .transpose()
    }
}

/// Returns the name as a constant if the parameter is supported.
pub(crate) fn supported(name: &str) -> Option<&'static str> {
    SUPPORTED.into_iter().find(|supported| *supported == name)
}
