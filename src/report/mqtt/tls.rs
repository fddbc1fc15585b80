//! TLS for the connection to the broker: rustls with ring, so that the system's OpenSSL is not needed.
//! Certificates are PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::MqttSettings;
use crate::report::ReportError;

/// Largest certificate file that is read, in bytes: a system's whole collection has some 200 KiB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// The TLS configuration that the settings ask for: whom to trust, and our own certificate.
///
/// # Errors
/// [`ReportError::File`] for a file that cannot be read or has nothing usable in it, and if the
/// system has no certificates to trust.
pub fn client_config(settings: &MqttSettings) -> Result<Arc<ClientConfig>, ReportError> {
    let roots = match &settings.ca_file {
        Some(path) => roots_of_file(path)?,
        None => roots_of_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ReportError::Setting { key: "broker", why: e.to_string() })?
        .with_root_certificates(roots);
    let config = match (&settings.cert_file, &settings.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file)?;
            let key = private_key(key_file)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| ReportError::File {
                what: "the device's certificate",
                path: cert_file.clone(),
                why: format!("{e}; certificate and key must belong together"),
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, ReportError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| unusable("the broker's authority", path, e))?;
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, ReportError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = "this system has no certificates to trust; install ca-certificates, or name a \
                   file"
            .to_owned();
        return Err(ReportError::Setting { key: "ca_file", why });
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ReportError> {
    const WHAT: &str = "certificate";
    let pem = read(WHAT, path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => {
            Err(unusable(WHAT, path, "it holds no certificate in PEM"))
        }
        Ok(found) => Ok(found),
        Err(e) => Err(unusable(WHAT, path, e)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ReportError> {
    let pem = read("private key", path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unusable("private key", path, e))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ReportError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| unusable(what, path, e))?;
    file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(|e| unusable(what, path, e))?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(unusable(what, path, format!("it has more than {MAX_PEM_BYTES} bytes")));
    }
    Ok(bytes)
}

fn unusable(what: &'static str, path: &Path, why: impl std::fmt::Display) -> ReportError {
    ReportError::File { what, path: path.to_owned(), why: why.to_string() }
}
