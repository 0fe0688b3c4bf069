//! What can be wrong with a database URL, in sentences that name the part and the remedy. None shows a password.

use std::path::PathBuf;

use crate::config::url::supported::SUPPORTED;

/// A fault of a database URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlFault {
    /// Quotes of a shell or of a file of variables have become part of the URL.
    #[error("it is in quotes. Remove the {0} at its ends")]
    Quoted(char),
    /// Another program's form of the same URL, such as `jdbc:postgresql://`.
    #[error("it begins with `{0}`. Write `postgres://` in place of that")]
    Scheme(String),
    #[error("it is neither a URL such as postgres://user:password@host/database nor pairs such as host=… dbname=…")]
    Unrecognisable,
    #[error("the {part} contains a raw `{character}`. Percent-encode it: write %{code:02X} in place of it", code = u32::from(*character))]
    RawCharacter { part: &'static str, character: char },
    #[error(
        "the {0} contains a `%` without two hexadecimal digits after it. Percent-encode it: write %25 in place of it"
    )]
    RawPercent(&'static str),
    /// The first `/` ends the hosts, so no user name and no password can be recognised.
    #[error(
        "a raw `/` stands before an `@`. If the `/` is part of the password, write %2F in place of it; if the `@` is part \
         of the database name, write %40 in place of it"
    )]
    SlashBeforeAt,
    #[error("the port is not a number from 1 to 65535. If it is part of a password, `@host` is missing after it")]
    Port,
    #[error("an IPv6 address is in brackets, such as [::1]:5432, and one bracket is missing")]
    Bracket,
    #[error("the {0} is not UTF-8. Percent-encode the bytes of its UTF-8 form")]
    NotUtf8(&'static str),
    #[error("the {0} contains a zero byte, which PostgreSQL does not accept. Remove %00")]
    ZeroByte(&'static str),
    #[error("after `?` stand pairs such as sslmode=require, with `&` between them, and one has no `=`")]
    PairWithoutValue,
    #[error("a word without `=` stands among its pairs. Put a value with spaces in single quotes: password='a b'")]
    WordWithoutValue,
    #[error("the value of `{0}` begins with a single quote and does not end with one. Write \\' for a quote inside it")]
    UnterminatedValue(&'static str),
    #[error("the parameter `{name}` is not supported. Remove it. Supported are {list}", list = SUPPORTED.join(", "))]
    UnknownParameter { name: String },
    #[error("`{name}={value}` is not possible. Write {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("it names {hosts} hosts and {others} values of `{name}`. Write one for each host, in the same order")]
    Count {
        name: &'static str,
        hosts: usize,
        others: usize,
    },
    #[error(
        "it names sockets and network hosts, and sslmode={0} is not possible on a socket. Name hosts of one kind, or write \
         sslmode=prefer"
    )]
    MixedHosts(&'static str),
    #[error("it has no user, and the system does not tell the name of the current one. Write postgres://USER@…")]
    NoUser,
    #[error(
        "sslrootcert=system checks the certificate of any authority, so sslmode={0} is too weak. Write sslmode=verify-full"
    )]
    WeakWithSystemRoots(&'static str),
    #[error("sslnegotiation=direct is not possible with sslmode={0}. Write sslmode=require or a stricter one")]
    WeakWithDirect(&'static str),
    #[error(
        "sslmode={mode} needs the certificate of the authority that has signed the server's, and {path} does not exist. Write \
         sslrootcert=FILE, or sslrootcert=system for the authorities that this machine trusts",
        path = .path.display()
    )]
    NoRootCertificate { mode: &'static str, path: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("`{parameter}`: {fault}")]
    File { parameter: &'static str, fault: FileFault },
}

/// Why a file of certificates or of a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileFault {
    #[error("cannot read {path}: {reason}", path = .path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} contains no certificate in PEM form (-----BEGIN CERTIFICATE-----)", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("{path} contains a certificate that cannot be used: {reason}", path = .path.display())]
    BadCertificate { path: PathBuf, reason: String },
    #[error(
        "{path} contains no private key in PEM form. A key with a passphrase is not supported: decrypt it with \
         `openssl pkey`",
        path = .0.display()
    )]
    NoKey(PathBuf),
    #[error("other users can read the private key {path}. Run: chmod 600 {path}", path = .0.display())]
    KeyIsShared(PathBuf),
    #[error("the private key {path} cannot be used with the certificate: {reason}", path = .path.display())]
    BadKey { path: PathBuf, reason: String },
    #[error("this machine has no list of trusted authorities. Install the package ca-certificates, or name a file")]
    NoSystemRoots,
}
