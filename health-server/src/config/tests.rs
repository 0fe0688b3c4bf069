//! Tests of the configuration as a whole: the order of precedence, the messages, and the printed file.

use std::{fs, path::Path};

use health_core::client::Credentials;
use test_support::{TempDir, test_directory};

use super::*;
use crate::args::Command as Subcommand;

struct ConfigFile {
    directory: TempDir,
}

impl ConfigFile {
    fn new(text: &str) -> Self {
        let directory = test_directory();
        fs::write(directory.path().join("health.toml"), text).unwrap();
        Self { directory }
    }

    fn load(&self, arguments: &[&str]) -> Result<Loaded, ConfigError> {
        let file = self.directory.path().join("health.toml").into_os_string();
        let argv = ["health-server"].iter().chain(arguments).map(OsString::from);
        load(&argv.chain(["--config".into(), file]).collect::<Vec<_>>())
    }

    fn message(&self, arguments: &[&str]) -> String {
        self.load(arguments).unwrap_err().to_string()
    }
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let text = "http = '127.0.0.1:1'\nmax-body = '1MiB'\nwriters = 3\nsettle = 90\nallow-host = ['a', 'b']\n\
                allow-anonymous = true\nlog-format = 'json'\nlog = 'debug'";
    let file = ConfigFile::new(text);
    let args = file.load(&["--writers", "4"]).unwrap().args;
    assert_eq!(args.serve.http, "127.0.0.1:1");
    assert_eq!(args.serve.server_limits.max_body, 1 << 20);
    assert_eq!(args.serve.core_limits.writers, 4);
    assert_eq!(args.serve.core_limits.settle.as_secs(), 90);
    assert_eq!(args.serve.allow_host, ["a", "b"]);
    assert!(args.serve.allow_anonymous);
    assert_eq!(args.log, "debug");
    assert_eq!(args.serve.feed, "127.0.0.1:8001", "the default");
    let args = file.load(&["serve", "--allow-host", "c"]).unwrap().args;
    let Some(Subcommand::Serve(serve)) = args.command else {
        panic!("{args:?}")
    };
    assert_eq!((serve.core_limits.writers, serve.allow_host), (3, vec!["c".to_owned()]));
}

#[test]
fn all_commands_read_the_file_and_ignore_the_settings_of_others() {
    let file = ConfigFile::new("http = '127.0.0.1:1'\ndatabase-url = 'postgres://h/db'");
    for command in [&["migrate"][..], &["token", "list"], &["token", "revoke", "a"]] {
        let values = file.load(command).unwrap().values;
        assert_eq!(values["database-url"], ["postgres://h/db"], "{command:?}");
        assert!(!values.contains_key("http"));
    }
}

#[test]
fn relative_paths_start_at_the_directory_of_the_file() {
    let file = ConfigFile::new("data-dir = 'data'\ntls-cert = '/etc/cert.pem'");
    let serve = file.load(&[]).unwrap().args.serve;
    assert_eq!(serve.database.data_dir, Some(file.directory.path().join("data")));
    assert_eq!(serve.tls_cert.as_deref(), Some(Path::new("/etc/cert.pem")));
    let serve = file.load(&["--data-dir", "here"]).unwrap().args.serve;
    assert_eq!(
        serve.database.data_dir.as_deref(),
        Some(Path::new("here")),
        "a flag starts at the working directory"
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (key, nearest) in [
        ("max_body", "max-body"),
        ("max-boddy", "max-body"),
        ("httpp", "http"),
        ("databaseurl", "database-url"),
        ("HEALTH_HTTP", "http"),
        ("Readers", "readers"),
        ("replay-windows", "replay-window"),
        ("tls-certificate", "tls-cert"),
    ] {
        let message = ConfigFile::new(&format!("# a comment\n\n{key} = 1")).message(&["migrate"]);
        for part in ["health.toml, line 3", &format!("`{key}`"), &format!("`{nearest}`")] {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
    }
    let message = ConfigFile::new("http = ':1'\n[limits]\nmax-body = 1").message(&[]);
    assert!(message.contains("line 2") && message.contains("[limits]"), "{message}");
}

#[test]
fn a_wrong_type_or_value_is_refused_with_file_line_and_key() {
    for (line, parts) in [
        ("http = 8000", &["http", "a whole number", "quotation marks"][..]),
        ("writers = '2'", &["writers", "without quotation marks"]),
        ("writers = 1.5", &["writers", "a whole number"]),
        ("writers = 0", &["writers", "\"0\"", "from 1 to"]),
        ("writers = -1", &["writers", "\"-1\""]),
        ("readers = 99999999999999", &["readers", "from 1 to"]),
        ("max-body = 'much'", &["max-body", "\"much\"", "64KiB"]),
        ("max-body = true", &["max-body", "true or false", "16MiB"]),
        ("settle = '1 week'", &["settle", "\"1 week\"", "5m"]),
        ("allow-anonymous = 'yes'", &["allow-anonymous", "Write true or false"]),
        ("allow-host = [1]", &["allow-host", "[\"a\", \"b\"]"]),
        ("http = ['a']", &["http", "a list"]),
        ("log-format = 'xml'", &["log-format", "text or json"]),
        ("log = 'health_core=loud'", &["log", "health_core=debug"]),
        ("data-dir = ''", &["data-dir", "empty"]),
        ("database-url = ''", &["database-url", "not empty", "postgres://"]),
        ("settle = 2025-01-01", &["settle", "a date"]),
        ("http = ", &["line 2"]),
        ("feed = 'a'\nfeed = 'b'", &["line 3"]),
    ] {
        // Also if the command does not use the setting, or a flag wins.
        for arguments in [&["migrate"][..], &["--writers", "2"]] {
            let message = ConfigFile::new(&format!("# first line\n{line}")).message(arguments);
            for part in ["health.toml, line ", *parts.first().unwrap()].iter().chain(parts) {
                assert!(message.contains(part), "{part} is missing for {line}: {message}");
            }
        }
    }
}

#[test]
fn a_wrong_url_of_the_database_is_not_shown() {
    let message = ConfigFile::new("database-url = ['postgres://me:hunter2@host']").message(&[]);
    assert!(
        message.contains("database-url") && !message.contains("hunter2"),
        "{message}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let argv = ["health-server", "--config", "/no/such/file.toml"].map(OsString::from);
    let message = load(&argv).unwrap_err().to_string();
    assert!(
        message.contains("/no/such/file.toml") && message.contains("--config"),
        "{message}"
    );
}

#[test]
fn a_flag_for_the_token_wins_over_the_other_setting_of_the_token_in_the_file() {
    let credentials = |text: &str, flag: [&str; 2]| {
        let loaded = ConfigFile::new(text).load(&["import", flag[0], flag[1], "samples.ndjson"]);
        let Some(Subcommand::Import(args)) = loaded.unwrap().args.command else {
            panic!("the command is import");
        };
        let Credentials { token, token_file, .. } = args.credentials();
        let secret = token.and_then(|token| token.secret().ok().map(str::to_owned));
        (secret, token_file)
    };
    assert_eq!(
        credentials("token = 'of-the-file'", ["--token-file", "path"]),
        (None, Some("path".into()))
    );
    assert_eq!(
        credentials("token-file = '/path'", ["--token", "of-the-flag"]),
        (Some("of-the-flag".to_owned()), None)
    );
    // Nothing wins over the file, which has both.
    assert_eq!(
        credentials("token = 'of-the-file'\ntoken-file = '/path'", ["--source", "watch"]),
        (Some("of-the-file".to_owned()), Some("/path".into()))
    );
    // An empty token is none.
    assert_eq!(
        credentials("token-file = '/path'", ["--token", ""]).1,
        Some("/path".into())
    );
}

#[test]
fn the_url_and_the_file_with_the_url_exclude_each_other_unless_one_wins() {
    let file = ConfigFile::new("database-url = 'postgres://file/db'\ndatabase-url-file = 'url'");
    let message = file.message(&[]);
    assert!(
        message.contains("`database-url`") && message.contains("`database-url-file`"),
        "{message}"
    );
    let both = ["--database-url", "postgres://flag/db", "--database-url-file", "url"];
    let message = file.message(&both);
    assert!(message.contains("--database-url and --database-url-file"), "{message}");

    let file = ConfigFile::new("database-url = 'postgres://file/db'");
    let database = file.load(&["--database-url-file", "url"]).unwrap().args.serve.database;
    assert_eq!(
        (database.database_url, database.database_url_file),
        (None, Some("url".into()))
    );
    let file = ConfigFile::new("database-url-file = '/url'");
    let database = file
        .load(&["--database-url", "postgres://flag/db"])
        .unwrap()
        .args
        .serve
        .database;
    assert_eq!(database.database_url_file, None);
}

#[test]
fn flags_before_another_command_are_refused_unless_all_commands_have_them() {
    let load = |arguments: &[&str]| {
        let argv: Vec<_> = ["health-server"].iter().chain(arguments).map(OsString::from).collect();
        load(&argv)
    };
    let message = load(&["--http", "127.0.0.1:0", "migrate"]).unwrap_err().to_string();
    assert!(message.contains("--http") && message.contains("`migrate`"), "{message}");
    let loaded = load(&["--log", "debug", "migrate"]).unwrap();
    assert_eq!(loaded.args.log, "debug");
    assert!(load(&["token", "list", "--log", "debug"]).is_ok_and(|loaded| loaded.args.log == "debug"));
}

#[test]
fn the_printed_file_changes_nothing_and_has_every_setting() {
    let text = print();
    let defaults = load(&["health-server".into()]).unwrap();
    let with_file = ConfigFile::new(&text).load(&[]).unwrap();
    assert_eq!(with_file.values, defaults.values);
    assert_eq!(
        format!("{:?}", with_file.args.serve),
        format!("{:?}", defaults.args.serve)
    );
    let settings = settings(&Args::command());
    assert!(settings.len() > 30, "{settings:?}");
    for setting in &settings {
        let lines = text.lines().filter(|line| {
            let key = line.trim_start_matches("# ").split(" = ").next();
            line.contains(" = ") && key == Some(setting.key.as_str())
        });
        assert_eq!(lines.count(), 1, "{}", setting.key);
    }
    // The lines that are comments are of the right type, too.
    let examples = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| {
        settings
            .iter()
            .any(|setting| line.starts_with(&format!("{} = ", setting.key)))
    });
    for example in examples {
        // Both are alternatives.
        ConfigFile::new(example)
            .load(&[])
            .unwrap_or_else(|error| panic!("{example}: {error}"));
    }
    assert!(text.lines().all(|line| line.len() <= 130), "{text}");
}

#[test]
fn help_shows_the_defaults_whatever_the_file_says() {
    let file = ConfigFile::new("http = '127.0.0.1:1'\ndatabase-url = 'postgres://me:hunter2@h/db'");
    let help = file.message(&["--help"]);
    assert!(
        help.contains("127.0.0.1:8000") && !help.contains("127.0.0.1:1]"),
        "{help}"
    );
    assert!(!help.contains("hunter2"), "{help}");
}

#[test]
fn a_readable_file_with_a_password_is_noticed() {
    use std::os::unix::fs::PermissionsExt;

    for (text, mode, is_noticed) in [
        ("database-url = 'postgres://me:pw@h/db'", 0o644, true),
        ("database-url = 'postgres://me:pw@h/db'", 0o600, false),
        ("database-url = 'postgres:///db'", 0o644, false),
    ] {
        let file = ConfigFile::new(text);
        let path = file.directory.path().join("health.toml");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            file.load(&[]).unwrap().shows_password.is_some(),
            is_noticed,
            "{text} {mode:o}"
        );
    }
}

#[test]
fn the_remedy_for_a_file_that_cannot_be_read_fits_the_reason() {
    let file = ConfigFile::new("");
    fs::write(file.directory.path().join("health.toml"), [0xff]).unwrap();
    let message = file.message(&[]);
    assert!(
        message.contains("It must be a text in UTF-8.") && !message.contains("--config"),
        "{message}"
    );
}
