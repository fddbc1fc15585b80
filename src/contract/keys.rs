//! Keys of operators: Ed25519 key pairs, their files and their fingerprints.
//!
//! Keys are PEM files as OpenSSL writes them (`openssl genpkey -algorithm ed25519`), or a public
//! key's 32 bytes in base64. A key is named by its [`fingerprint`], which needs no more than OpenSSL:
//! `openssl pkey -pubin -in operator.pem.pub -outform DER | sha256sum`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::contract::ContractError;

/// Largest key file that is read, in bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// What a key is called: SHA-256 of the public key in DER (`SubjectPublicKeyInfo`, RFC 8410), as 64
/// lower-case hex digits.
#[must_use]
pub fn fingerprint(key: &VerifyingKey) -> String {
    // The algorithm's name in DER, then the key's 32 bytes: RFC 8410, section 10.1.
    const PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let digest = Sha256::new().chain_update(PREFIX).chain_update(key.to_bytes()).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The public keys of those who may give commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorKeys(Vec<VerifyingKey>);

impl OperatorKeys {
    /// Reads keys: each entry is a public key's 32 bytes in base64, or the path of a PEM file
    /// (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// [`ContractError::File`] for an entry that is neither, or a weak key.
    pub fn load(entries: &[String]) -> Result<Self, ContractError> {
        entries.iter().map(|entry| load_key(entry)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with this fingerprint.
    #[must_use]
    pub fn get(&self, keyid: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| fingerprint(key) == keyid)
    }
}

impl From<Vec<VerifyingKey>> for OperatorKeys {
    fn from(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }
}

fn load_key(entry: &str) -> Result<VerifyingKey, ContractError> {
    let unusable =
        |why: String| ContractError::File { what: "operator key", path: entry.into(), why };
    let key = match STANDARD.decode(entry).ok().and_then(|b| <[u8; 32]>::try_from(b).ok()) {
        Some(bytes) => VerifyingKey::from_bytes(&bytes).map_err(|e| unusable(e.to_string()))?,
        None => {
            let text = read_small("operator key", Path::new(entry))?;
            VerifyingKey::from_public_key_pem(&text).map_err(|e| {
                unusable(format!("{e}; it should hold an Ed25519 public key in PEM"))
            })?
        }
    };
    if key.is_weak() {
        return Err(unusable(
            "it is a weak key that anybody can sign for; make another".to_owned(),
        ));
    }
    Ok(key)
}

/// Reads an operator's private key from a PKCS #8 PEM file.
///
/// # Errors
/// [`ContractError::File`].
pub fn load_signing_key(path: &Path) -> Result<SigningKey, ContractError> {
    let text = read_small("private key", path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|e| ContractError::File {
        what: "private key",
        path: path.to_owned(),
        why: format!("{e}; it should hold an Ed25519 private key in PKCS #8 PEM"),
    })
}

/// A word of `BYTES` random bytes in hex, which nobody guesses if they are many.
///
/// # Errors
/// A sentence if the system gives no random numbers.
pub fn random_hex<const BYTES: usize>() -> Result<String, String> {
    let mut random = [0u8; BYTES];
    getrandom::fill(&mut random).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A new key pair from the system's random numbers, as PEM texts: private key, public key.
///
/// # Errors
/// A sentence if the system gives no random numbers.
pub fn new_key_pair() -> Result<(String, String), String> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    let public = SigningKey::from_bytes(&secret).verifying_key();
    // Without the public key beside it: OpenSSL before 3.5 reads no other form (RFC 5958 version 1).
    let private = KeypairBytes { secret_key: secret, public_key: None }
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|e| e.to_string())?;
    let public = public.to_public_key_pem(LineEnding::LF).map_err(|e| e.to_string())?;
    Ok((private.to_string(), public))
}

/// Reads a small text file, such as a key or a password.
///
/// # Errors
/// [`ContractError::File`]: not readable, not text, larger than any key.
pub fn read_small(what: &'static str, path: &Path) -> Result<String, ContractError> {
    let failed = |why: String| ContractError::File { what, path: path.to_owned(), why };
    let read = || -> std::io::Result<String> {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_KEY_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|e| failed(e.to_string()))?;
    if text.len() as u64 > MAX_KEY_BYTES {
        return Err(failed(format!("it has more than {MAX_KEY_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::envelope::{Envelope, PAYLOAD_TYPE, pae};

    #[test]
    fn keys_are_read_from_files_and_base64() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("private.pem"), dir.path().join("public.pem"));
        let (private_pem, public_pem) = new_key_pair().unwrap();
        std::fs::write(&private, private_pem).unwrap();
        std::fs::write(&public, public_pem).unwrap();

        let key = load_signing_key(&private).unwrap();
        let base64 = STANDARD.encode(key.verifying_key().to_bytes());
        let keys = OperatorKeys::load(&[public.to_string_lossy().into_owned(), base64]).unwrap();

        assert_eq!(keys, OperatorKeys::from(vec![key.verifying_key(); 2]));
    }

    #[test]
    fn unusable_keys_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let huge = dir.path().join("huge.pem");
        std::fs::write(&huge, vec![b'x'; 20 << 10]).unwrap();
        let weak = STANDARD.encode([0u8; 32]);
        for entry in ["", "no/such/file", huge.to_str().unwrap(), &weak] {
            let error = OperatorKeys::load(&[entry.to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use operator key {entry}")), "{error}");
        }
    }

    /// OpenSSL as the independent judge: of our signature, of its keys, and of fingerprints.
    #[test]
    fn openssl_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let openssl = |arguments: &[&str]| {
            let output = std::process::Command::new("openssl").args(arguments).output();
            output.expect("openssl is missing: sudo apt-get install openssl, or scripts/setup.sh")
        };
        let (private_pem, _) = new_key_pair().unwrap();
        std::fs::write(at("ours.pem"), private_pem).unwrap();
        let ours = load_signing_key(at("ours.pem").as_ref()).unwrap();
        let envelope = Envelope::signed(&ours, b"{}");
        let signature = STANDARD.decode(&envelope.signatures[0].sig).unwrap();
        std::fs::write(at("bytes"), pae(PAYLOAD_TYPE, b"{}")).unwrap();
        std::fs::write(at("signature"), signature).unwrap();

        let (key, bytes, signature) = (at("ours.pem"), at("bytes"), at("signature"));
        let verify = ["pkeyutl", "-verify", "-inkey", &key, "-rawin", "-in", &bytes];
        let verified = openssl(&[&verify[..], &["-sigfile", &signature]].concat());
        assert!(verified.status.success(), "{verified:?}");

        let (theirs, public, der) = (at("theirs.pem"), at("p.pem"), at("p.der"));
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &theirs]);
        openssl(&["pkey", "-in", &theirs, "-pubout", "-out", &public]);
        openssl(&["pkey", "-in", &theirs, "-pubout", "-outform", "DER", "-out", &der]);
        let key = load_signing_key(theirs.as_ref()).unwrap().verifying_key();
        assert_eq!(OperatorKeys::load(&[public]).unwrap(), OperatorKeys::from(vec![key]));
        let digest = openssl(&["dgst", "-sha256", "-r", &der]);
        let digest = String::from_utf8(digest.stdout).unwrap();
        assert_eq!(digest.split(' ').next(), Some(fingerprint(&key).as_str()));
    }
}
