//! Reading certificates and keys.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{config::url::fault::FileFault, tls_reason::why_no_pem};

/// The permissions of a key that only its owner can read, and those of a key that root shares with a group.
const OTHERS: u32 = 0o077;
const OTHERS_IF_ROOT_OWNS_IT: u32 = 0o037;

/// Reads the certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| FileFault::BadCertificate {
            path: path.to_owned(),
            reason: why_no_pem(&error),
        })?;
    if certificates.is_empty() {
        return Err(FileFault::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// Reads a private key. As libpq does, refuses a key that other users can read.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    let metadata = File::open(path)
        .and_then(|file| file.metadata())
        .map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(unreadable(path, &ErrorKind::IsADirectory.into()));
    }
    let forbidden = if metadata.uid() == 0 {
        OTHERS_IF_ROOT_OWNS_IT
    } else {
        OTHERS
    };
    if metadata.mode() & forbidden != 0 {
        return Err(FileFault::KeyIsShared(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| FileFault::NoKey(path.to_owned()))
}

/// Returns the authorities that this machine trusts.
pub(crate) fn system_roots() -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(FileFault::NoSystemRoots);
    }
    Ok(found.certs)
}

fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> FileFault {
    FileFault::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
