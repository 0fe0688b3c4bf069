//! Where the settings come from. The check says so, because the service may run with others.

use std::path::Path;

use super::finding::Finding;
use crate::config::Sources;

/// The settings of the service that the package installs. The unit names them with `--config`.
pub(super) const PACKAGE_SETTINGS: &str = "/etc/health/server.toml";

const SUBJECT: &str = "settings";

/// Names the file and the variables that were read. `service` is the file of the installed service, which may be
/// missing.
pub(super) fn origin(sources: &Sources, service: &Path) -> Finding {
    let variables = match sources.variables.as_slice() {
        [] => String::new(),
        [name] => format!("; the variable {name} is set, too"),
        names => format!("; the variables {} are set, too", names.join(", ")),
    };
    match &sources.file {
        Some(file) => Finding::ok(SUBJECT, format!("from {}{variables}", file.display())),
        None if service.exists() => Finding::risk(
            SUBJECT,
            format!(
                "no file was named, so {} was not read, which has the settings of the installed service{variables}",
                service.display()
            ),
            format!(
                "To check what the service uses: `health-server check --config {}`",
                service.display()
            ),
        ),
        None => Finding::ok(SUBJECT, format!("no file was named{variables}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use test_support::test_directory;

    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn the_settings_of_the_installed_service_are_not_left_out_in_silence() {
        let directory = test_directory();
        let service = directory.path().join("server.toml");
        let none = Sources::default();
        assert_eq!(origin(&none, &service).level, Level::Ok, "no package is installed");

        fs::write(&service, "").unwrap();
        let finding = origin(&none, &service);
        assert_eq!(finding.level, Level::Risk);
        let command = format!("`health-server check --config {}`", service.display());
        assert!(finding.to_string().contains(&command), "{finding}");

        let named = Sources {
            file: Some(service.clone()),
            variables: vec!["DATABASE_URL".to_owned(), "HEALTH_HTTP".to_owned()],
        };
        let finding = origin(&named, &service);
        assert_eq!(finding.level, Level::Ok);
        let parts = [
            &*service.display().to_string(),
            "the variables DATABASE_URL, HEALTH_HTTP",
        ];
        for part in parts {
            assert!(finding.fact.contains(part), "{part} is missing: {finding}");
        }
    }
}
