//! Tables of URLs: what they mean, and what their faults are called.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use test_support::test_directory;

use crate::config::{Config, url::fault::UrlFault};

/// A home directory without certificates.
const NO_HOME: &str = "/nonexistent";

fn config(url: &str) -> Result<Config, UrlFault> {
    Config::with_home(url, Some(Path::new(NO_HOME)))
}

fn fault(url: &str) -> String {
    config(url).map(|config| config.to_string()).unwrap_err().to_string()
}

#[test]
fn a_url_names_database_hosts_and_role_and_the_rest_has_the_defaults_of_libpq() {
    let me = whoami::username().unwrap();
    let mine = |text: &str| text.replace("ME", &me);
    for (url, expected) in [
        (
            "postgres://u:p@db.example/health_db",
            "database health_db on db.example:5432 as role u with sslmode=prefer",
        ),
        (
            " postgresql://u@h:5433/d?sslmode=require\n",
            "database d on h:5433 as role u with sslmode=require",
        ),
        (
            "POSTGRES://u@h/d?ssl=true",
            "database d on h:5432 as role u with sslmode=require",
        ),
        ("postgres://u@h", "database u on h:5432 as role u with sslmode=prefer"),
        ("postgres://h/d", "database d on h:5432 as role ME with sslmode=prefer"),
        ("postgres:///d", "database d on the socket of this machine as role ME"),
        ("postgres://", "database ME on the socket of this machine as role ME"),
        (
            "postgres://u@/d?host=/run/pg&port=5433",
            "database d on the socket /run/pg/.s.PGSQL.5433 as role u",
        ),
        (
            "postgres://%2Frun%2Fpg/d?user=u",
            "database d on the socket /run/pg/.s.PGSQL.5432 as role u",
        ),
        (
            "postgres://u@[::1]:5433/d?sslmode=disable",
            "database d on [::1]:5433 as role u with sslmode=disable",
        ),
        (
            "postgres://u@a:1,b,c:3/d",
            "database d on a:1, b:5432, c:3 as role u with sslmode=prefer",
        ),
        (
            "postgres://u@h/d?hostaddr=10.0.0.1",
            "database d on h:5432 as role u with sslmode=prefer",
        ),
        (
            "hostaddr=10.0.0.1 user=u dbname=d",
            "database d on 10.0.0.1:5432 as role u with sslmode=prefer",
        ),
        (
            "host=h user=u password='a b\\'c' dbname = d",
            "database d on h:5432 as role u with sslmode=prefer",
        ),
        (
            "postgres://u:p?w#d:x@h/d",
            "database d on h:5432 as role u with sslmode=prefer",
        ),
        (
            "postgres://h/d?user=u&application_name=a@b",
            "database d on h:5432 as role u with sslmode=prefer",
        ),
        (
            "postgres://h?user=u&password=a@b",
            "database u on h:5432 as role u with sslmode=prefer",
        ),
    ] {
        assert_eq!(config(url).unwrap().to_string(), mine(expected), "{url}");
    }
}

#[test]
fn the_password_is_decoded_byte_by_byte() {
    for (url, expected) in [
        ("postgres://u:p%40%23%25%3F%2F@h/d", "p@#%?/".as_bytes()),
        ("postgres://u:p?w#d:x@h/d", b"p?w#d:x"),
        ("postgres://u:%FF@h/d", b"\xff"),
        ("postgres://u@h/d?password=a%26b", b"a&b"),
        ("host=h password='a b\\'c\\\\'", b"a b'c\\"),
    ] {
        assert_eq!(config(url).unwrap().postgres.get_password(), Some(expected), "{url}");
    }
}

/// URLs with a fault, and a part of its message.
const FAULTS: &[(&str, &str)] = &[
    (
        "postgres://u:se@cret@h/d",
        "Percent-encode it: write %40 in place of it",
    ),
    ("postgres://u:se@cr#et@h/d", "write %40"),
    ("postgres://u:@#%?x@h/d", "write %40"),
    ("postgres://u:se@cret?x@h/d", "write %40"),
    ("postgres://u:se@cret/x@h/d", "write %40"),
    ("postgres://u:secret/x@h/d", "write %2F in place of it"),
    ("postgres://u:12/secret@h/d", "write %2F in place of it"),
    ("postgres://u:secret%@h/d", "the password contains a `%`"),
    ("postgres://u:secret%zz@h/d", "write %25 in place of it"),
    ("postgres://u@h#x/d", "the host contains a raw `#`"),
    ("postgres://u@h/d?sslmode=%", "the sslmode contains a `%`"),
    ("postgres://u:secret", "the port is not a number from 1 to 65535"),
    ("postgres://u@h:0/d", "the port is not"),
    ("postgres://u@h:65536/d", "the port is not"),
    ("postgres://u@h/d?port=x", "the port is not"),
    ("postgres://u@[::1/d", "one bracket is missing"),
    ("'postgres://u:secret@h/d'", "Remove the ' at its ends"),
    ("\"postgres://u:secret@h/d\"", "Remove the \" at its ends"),
    (
        "jdbc:postgresql://h/d?user=u&password=secret",
        "begins with `jdbc:postgresql://`. Write `postgres://`",
    ),
    (
        "postgresql+asyncpg://u:secret@h/d",
        "begins with `postgresql+asyncpg://`. Write `postgres://`",
    ),
    ("postgres:u:secret@h/d", "begins with `postgres:`. Write `postgres://`"),
    ("mysql://u:secret@h/d", "begins with `mysql://`"),
    ("u:secret://x@h/d", "it is neither a URL"),
    ("u:secret@h/d", "it is neither a URL"),
    ("", "it is neither a URL"),
    ("postgres://u@h/d?sslmode", "one has no `=`"),
    (
        "postgres://u@h/d?schema=public",
        "the parameter `schema` is not supported. Remove it",
    ),
    ("postgres://u@h/d?sslcrl=x", "the parameter `sslcrl` is not supported"),
    (
        "postgres://u@h/d?sslmode=allow",
        "`sslmode=allow` is not possible. Write disable, prefer, require, verify-ca",
    ),
    (
        "postgres://u@h/d?ssl=require",
        "`ssl=require` is not possible. Write sslmode=",
    ),
    (
        "postgres://u@h/d?connect_timeout=soon",
        "`connect_timeout=soon` is not possible. Write a whole number",
    ),
    (
        "postgres://u@h/d?gssencmode=require",
        "`gssencmode=require` is not possible",
    ),
    (
        "postgres://u@h/d?client_encoding=latin1",
        "`client_encoding=latin1` is not possible. Write UTF8",
    ),
    (
        "postgres://u@h/d?hostaddr=here",
        "`hostaddr=here` is not possible. Write an IP address",
    ),
    (
        "postgres://u@a,b,c/d?port=1,2",
        "it names 3 hosts and 2 values of `port`",
    ),
    (
        "postgres://u@a,b/d?hostaddr=10.0.0.1",
        "it names 2 hosts and 1 values of `hostaddr`",
    ),
    (
        "postgres://u@a,%2Frun/d?sslmode=require",
        "sslmode=require is not possible on a socket",
    ),
    ("postgres://%FF@h/d", "the user is not UTF-8"),
    ("postgres://u@h/d%00", "the dbname contains a zero byte"),
    ("host=h password=my secret", "Put a value with spaces in single quotes"),
    (
        "host=h password='my secret",
        "the value of `password` begins with a single quote",
    ),
    (
        "postgres://u@h/d?sslmode=verify-full",
        "/nonexistent/.postgresql/root.crt does not exist. Write sslrootcert=FILE",
    ),
    (
        "postgres://u@h/d?sslmode=verify-ca",
        "sslmode=verify-ca needs the certificate of the authority",
    ),
    (
        "postgres://u@h/d?sslrootcert=system&sslmode=require",
        "Write sslmode=verify-full",
    ),
    (
        "postgres://u@h/d?sslnegotiation=direct",
        "Write sslmode=require or a stricter one",
    ),
    (
        "postgres://u@h/d?sslrootcert=/nonexistent/ca.pem",
        "`sslrootcert`: cannot read /nonexistent/ca.pem",
    ),
    (
        "postgres://u@h/d?sslcert=/nonexistent/c.pem",
        "`sslcert`: cannot read /nonexistent/c.pem",
    ),
    (
        "postgres://u@h/d?sslkey=/nonexistent/k.pem",
        "sslkey needs a certificate",
    ),
];

#[test]
fn a_fault_names_the_part_and_the_remedy() {
    for (url, expected) in FAULTS {
        let message = fault(url);
        assert!(message.contains(*expected), "{url}: {message}");
        assert!(!message.contains("secret"), "{url}: {message}");
    }
}

#[test]
fn a_password_is_in_no_form_of_a_configuration() {
    let config = config("postgres://u:secret@h/d").unwrap();
    for text in [format!("{config}"), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn every_supported_parameter_is_accepted() {
    for name in super::supported::SUPPORTED {
        let outcome = config(&format!("postgres://u@h/d?{name}="));
        assert!(outcome.is_ok(), "{name}: {:?}", outcome.err());
    }
}

#[test]
fn files_without_certificate_or_key_and_keys_that_others_can_read_are_refused() {
    let directory = test_directory();
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let certificate = write("right.crt", &made.cert.pem(), 0o644);
    let key = write("right.key", &made.signing_key.serialize_pem(), 0o600);
    let shared = write("shared.key", &made.signing_key.serialize_pem(), 0o644);
    let foreign = write("foreign.key", &other.serialize_pem(), 0o600);
    let text = write("text", "no certificate", 0o600);
    for (query, expected) in [
        (format!("sslcert={certificate}&sslkey={key}"), None),
        (format!("sslrootcert={certificate}&sslmode=verify-full"), None),
        (
            format!("sslrootcert={text}"),
            Some("contains no certificate in PEM form"),
        ),
        (format!("sslcert={text}&sslkey={key}"), Some("`sslcert`")),
        (
            format!("sslcert={certificate}&sslkey={text}"),
            Some("contains no private key in PEM form"),
        ),
        (format!("sslcert={certificate}&sslkey={shared}"), Some("Run: chmod 600")),
        (format!("sslcert={certificate}&sslkey=/tmp"), Some("is a directory")),
        (
            format!("sslcert={certificate}&sslkey={foreign}"),
            Some("cannot be used with the certificate"),
        ),
        (
            format!("sslcert={certificate}"),
            Some("/nonexistent/.postgresql/postgresql.key"),
        ),
        // A connection without TLS reads no files.
        (format!("sslmode=disable&sslcert={certificate}&sslkey={shared}"), None),
    ] {
        let outcome = config(&format!("postgres://u@h/d?{query}")).map_err(|fault| fault.to_string());
        match expected {
            None => assert!(outcome.is_ok(), "{query}: {outcome:?}"),
            Some(expected) => assert!(outcome.as_ref().unwrap_err().contains(expected), "{query}: {outcome:?}"),
        }
    }
}

#[test]
fn the_default_files_are_those_of_libpq() {
    let home = test_directory();
    let made = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    let folder = home.path().join(".postgresql");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("root.crt"), made.cert.pem()).unwrap();
    fs::write(folder.join("postgresql.crt"), made.cert.pem()).unwrap();
    let url = "postgres://u@h/d?sslmode=verify-full";
    let missing = Config::with_home(url, Some(home.path())).unwrap_err().to_string();
    assert!(missing.contains("postgresql.key"), "{missing}");
    let key = folder.join("postgresql.key");
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    Config::with_home(url, Some(home.path())).unwrap();
}
