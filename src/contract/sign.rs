//! Signatures of commands: Ed25519 (RFC 8032) over bytes that name fleet, device and command.
//!
//! Signed is not the JSON but its meaning: the text `latrod command 1`, then fleet, device, id,
//! issue and expiry time in decimal, the action's name and its arguments, each preceded by its
//! length as four bytes, most significant first. So no two commands, and no command for two
//! devices, are the same bytes, however their JSON is written. Keys are PEM files as OpenSSL
//! writes them (`openssl genpkey -algorithm ed25519`), or a public key's 32 bytes in base64.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::contract::wire::Command;
use crate::report::ReportError;

/// Largest key file that is read, in bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;

/// The bytes that a command's signature covers.
#[must_use]
pub fn signed_bytes(fleet: &str, device: &str, command: &Command) -> Vec<u8> {
    let (issued, expires) = (command.issued.to_string(), command.expires.to_string());
    let head = ["latrod command 1", fleet, device, &command.id, &issued, &expires];
    let mut bytes = Vec::new();
    for part in head.into_iter().chain([command.action.name()]).chain(command.action.arguments()) {
        // Parts are bounded by the parser of commands and the check of names, far below 2³².
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Signs a command for a device; replaces a signature that it had.
pub fn sign(key: &SigningKey, fleet: &str, device: &str, command: &mut Command) {
    let signature = key.sign(&signed_bytes(fleet, device, command));
    command.signature = Some(STANDARD.encode(signature.to_bytes()));
}

/// The public keys of those who may give commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorKeys(Vec<VerifyingKey>);

impl OperatorKeys {
    /// Reads keys: each entry is a public key's 32 bytes in base64, or the path of a PEM file
    /// (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// [`ReportError::File`] for an entry that is neither, or a weak key.
    pub fn load(entries: &[String]) -> Result<Self, ReportError> {
        entries.iter().map(|entry| load_key(entry)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys has signed this command for this device.
    #[must_use]
    pub fn have_signed(&self, fleet: &str, device: &str, command: &Command) -> bool {
        let Some(signature) = command.signature.as_ref().and_then(|s| STANDARD.decode(s).ok())
        else {
            return false;
        };
        let Ok(signature) = Signature::from_slice(&signature) else { return false };
        let bytes = signed_bytes(fleet, device, command);
        self.0.iter().any(|key| key.verify_strict(&bytes, &signature).is_ok())
    }
}

impl From<Vec<VerifyingKey>> for OperatorKeys {
    fn from(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }
}

fn load_key(entry: &str) -> Result<VerifyingKey, ReportError> {
    let unusable =
        |why: String| ReportError::File { what: "operator key", path: entry.into(), why };
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
/// [`ReportError::File`].
pub fn load_signing_key(path: &Path) -> Result<SigningKey, ReportError> {
    let text = read_small("private key", path)?;
    SigningKey::from_pkcs8_pem(&text).map_err(|e| ReportError::File {
        what: "private key",
        path: path.to_owned(),
        why: format!("{e}; it should hold an Ed25519 private key in PKCS #8 PEM"),
    })
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
/// [`ReportError::File`]: not readable, not text, larger than any key.
pub fn read_small(what: &'static str, path: &Path) -> Result<String, ReportError> {
    let failed = |why: String| ReportError::File { what, path: path.to_owned(), why };
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
    use crate::contract::wire::Action;

    fn command(action: Action) -> Command {
        Command { id: "c1".to_owned(), action, issued: 10, expires: 20, signature: None }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn the_signed_bytes_are_as_documented() {
        let action = Action::Promote { version: "7".to_owned() };
        let expected = b"\0\0\0\x10latrod command 1\0\0\0\x01f\0\0\0\x02d1\0\0\0\x02c1\
            \0\0\0\x0210\0\0\0\x0220\0\0\0\x07promote\0\0\0\x017";
        assert_eq!(signed_bytes("f", "d1", &command(action)), expected);
    }

    #[test]
    fn a_signature_holds_for_one_command_on_one_device() {
        let keys = OperatorKeys::from(vec![key(1).verifying_key(), key(2).verifying_key()]);
        let mut signed = command(Action::Set { key: "ab".to_owned(), value: "c".to_owned() });
        sign(&key(2), "f", "d", &mut signed);
        assert!(keys.have_signed("f", "d", &signed));

        assert!(!keys.have_signed("f", "e", &signed));
        assert!(!keys.have_signed("g", "d", &signed));
        let changes: [fn(&mut Command); 6] = [
            |c| c.id = "c2".to_owned(),
            |c| c.issued = 11,
            |c| c.expires = 21,
            |c| c.action = Action::Rollback,
            |c| c.action = Action::Set { key: "a".to_owned(), value: "bc".to_owned() },
            |c| c.signature = None,
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed);
            assert!(!keys.have_signed("f", "d", &changed), "{changed:?}");
        }
    }

    #[test]
    fn strangers_and_garbage_have_not_signed() {
        let keys = OperatorKeys::from(vec![key(1).verifying_key()]);
        let mut by_a_stranger = command(Action::Pause);
        sign(&key(3), "f", "d", &mut by_a_stranger);
        assert!(!keys.have_signed("f", "d", &by_a_stranger));
        for garbage in ["", "!", "c2ln", &STANDARD.encode([0u8; 64]), &STANDARD.encode([255u8; 64])]
        {
            let command = Command { signature: Some(garbage.to_owned()), ..command(Action::Pause) };
            assert!(!keys.have_signed("f", "d", &command));
        }
    }

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

    /// OpenSSL as the independent judge, both ways.
    #[test]
    fn openssl_agrees() {
        use std::process::Command as Program;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let openssl = |arguments: &[&str]| Program::new("openssl").args(arguments).output();
        if openssl(&["version"]).is_err() {
            eprintln!("openssl is not installed; nothing to compare with");
            return;
        }
        let (private_pem, _) = new_key_pair().unwrap();
        std::fs::write(at("ours.pem"), private_pem).unwrap();
        let mut command = command(Action::TrainNow);
        sign(&load_signing_key(at("ours.pem").as_ref()).unwrap(), "f", "d", &mut command);
        let signature = STANDARD.decode(command.signature.unwrap()).unwrap();
        command.signature = None;
        std::fs::write(at("bytes"), signed_bytes("f", "d", &command)).unwrap();
        std::fs::write(at("signature"), signature).unwrap();

        let verified = openssl(&[
            "pkeyutl",
            "-verify",
            "-inkey",
            &at("ours.pem"),
            "-rawin",
            "-in",
            &at("bytes"),
            "-sigfile",
            &at("signature"),
        ]);
        assert!(verified.unwrap().status.success());

        let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", &at("theirs.pem")]);
        assert!(made.unwrap().status.success());
        let public = openssl(&["pkey", "-in", &at("theirs.pem"), "-pubout", "-out", &at("p.pem")]);
        assert!(public.unwrap().status.success());
        let key = load_signing_key(at("theirs.pem").as_ref()).unwrap();
        assert_eq!(
            OperatorKeys::load(&[at("p.pem")]).unwrap(),
            OperatorKeys::from(vec![key.verifying_key()])
        );
    }
}
