//! Signed commands in envelopes: DSSE (Dead Simple Signing Envelope, version 1) with Ed25519 (RFC 8032).
//!
//! ```json
//! {"payload": "<base64>", "payloadType": "application/vnd.latrod.command+json",
//!  "signatures": [{"keyid": "<64 hex digits>", "sig": "<base64>"}]}
//! ```
//!
//! Signed are the payload's bytes as they are, together with their type ([`pae`]), so that another
//! program can sign whatever JSON it writes. The payload itself names fleet, device and command
//! ([`crate::contract::wire::Command`]): a signature holds for one command on one device.
//!
//! Of what the specification leaves open, this profile asks for one signature with a `keyid`, the
//! key's fingerprint ([`crate::contract::keys::fingerprint`]). Knows nothing of what a payload says.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature, Signer, SigningKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::contract::keys::{OperatorKeys, fingerprint};
use crate::contract::wire::{MAX_COMMAND_BYTES, VERSION, reason};

/// The type of a payload that is a command. It is signed together with the payload, so that no
/// signature for another purpose passes for a command.
pub const PAYLOAD_TYPE: &str = "application/vnd.latrod.command+json";

/// A signed payload, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Envelope {
    /// The command's bytes in base64.
    pub payload: String,
    /// What the payload is: [`PAYLOAD_TYPE`].
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// One signature; none for devices that allow unsigned commands.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature over the payload and its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EnvelopeSignature {
    /// The key's fingerprint: SHA-256 of the public key in DER (`SubjectPublicKeyInfo`), in hex.
    #[serde(default)]
    pub keyid: String,
    /// The 64 bytes of the signature, in base64.
    pub sig: String,
}

/// The bytes that a signature covers, DSSE's pre-authentication encoding: `DSSEv1`, then type and
/// body, each after its length in bytes as decimal digits, all separated by single spaces.
#[must_use]
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Envelope {
    /// An envelope around `body`, signed with `key`.
    #[must_use]
    pub fn signed(key: &SigningKey, body: &[u8]) -> Self {
        let signature = key.sign(&pae(PAYLOAD_TYPE, body));
        let signature = EnvelopeSignature {
            keyid: fingerprint(&key.verifying_key()),
            sig: STANDARD.encode(signature.to_bytes()),
        };
        Self { signatures: vec![signature], ..Self::unsigned(body) }
    }

    /// An envelope around `body` without a signature.
    #[must_use]
    pub fn unsigned(body: &[u8]) -> Self {
        Self {
            payload: STANDARD.encode(body),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: Vec::new(),
        }
    }

    /// Reads an envelope. Fields that are not known are ignored, as DSSE wants it: they are not
    /// signed, and nothing is done with them.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without repeating the message.
    pub fn parse(message: &[u8]) -> Result<Self, String> {
        if message.len() > MAX_COMMAND_BYTES {
            let bytes = message.len();
            return Err(format!("it has {bytes} bytes, {MAX_COMMAND_BYTES} are allowed"));
        }
        serde_json::from_slice(message).map_err(|error| {
            if is_version_1(message) {
                format!(
                    "it is in the form of version 1 of the contract; this device takes version \
                     {VERSION}, commands in signed envelopes (DSSE)"
                )
            } else {
                format!("it is not a signed envelope (DSSE): {}", reason(&error))
            }
        })
    }

    /// The envelope as it travels.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The payload, if one of `keys` has signed exactly its bytes; with `allow_unsigned` also if
    /// there is no signature at all.
    ///
    /// # Errors
    /// A sentence: another type, no signature or several, an unknown key, a signature that does not
    /// fit.
    pub fn open(&self, keys: &OperatorKeys, allow_unsigned: bool) -> Result<Vec<u8>, &'static str> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err("its payloadType is not that of a command");
        }
        let body = decode(&self.payload).ok_or("its payload is not base64")?;
        let signature = match self.signatures.as_slice() {
            [] if allow_unsigned => return Ok(body),
            _ if keys.is_empty() => return Err("this device knows no operator key"),
            [] => return Err("it is not signed"),
            [signature] => signature,
            _ => return Err("it has several signatures, one is allowed"),
        };
        let key = keys.get(&signature.keyid).ok_or(
            "its signature is not by an operator of this device: the keyid is not among its keys",
        )?;
        let forged = "its signature does not fit its payload and its key";
        let bytes = decode(&signature.sig).ok_or(forged)?;
        let signature = Signature::from_slice(&bytes).map_err(|_| forged)?;
        key.verify_strict(&pae(&self.payload_type, &body), &signature).map_err(|_| forged)?;
        Ok(body)
    }
}

/// Base64 in either alphabet, with or without padding: DSSE lets signers choose.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    GeneralPurpose::new(&alphabet, ANY_PADDING).decode(text).ok()
}

/// Whether a message is a command as version 1 of the contract had it: one object, signature inside.
fn is_version_1(message: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Old {
        v: u32,
        #[serde(rename = "command")]
        _command: IgnoredAny,
    }
    serde_json::from_slice::<Old>(message).is_ok_and(|old| old.v == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Envelope);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn keys() -> OperatorKeys {
        OperatorKeys::from(vec![key(1).verifying_key(), key(2).verifying_key()])
    }

    /// The example of DSSE's protocol.md.
    #[test]
    fn the_signed_bytes_are_those_of_the_specification() {
        let bytes = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("", "ä".as_bytes()), "DSSEv1 0  2 ä".as_bytes());
    }

    #[test]
    fn a_payload_comes_out_as_it_went_in() {
        let body = b"{ \"any\" :\xff bytes }";
        let envelope = Envelope::signed(&key(2), body);
        let read = Envelope::parse(&envelope.to_json()).unwrap();
        assert_eq!(read, envelope);
        assert_eq!(read.open(&keys(), false).unwrap(), body);
    }

    #[test]
    fn both_alphabets_and_either_padding_are_read() {
        for text in ["+/8=", "-_8=", "+/8", "-_8"] {
            assert_eq!(decode(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text}");
        }
        for text in ["+_8=", "-/8", "+/9", "+/8==", " +/8", "A"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn every_change_is_noticed() {
        let good = Envelope::signed(&key(1), b"{\"id\":\"c1\"}");
        let changes: [(Change, &str); 9] = [
            (|e| e.payload = STANDARD.encode(b"{\"id\": \"c1\"}"), "does not fit"),
            (|e| e.payload.push('!'), "not base64"),
            (|e| e.payload_type = "application/json".to_owned(), "payloadType"),
            (|e| e.signatures.clear(), "not signed"),
            (|e| e.signatures.push(e.signatures[0].clone()), "several signatures"),
            (|e| e.signatures[0].keyid = fingerprint(&key(2).verifying_key()), "does not fit"),
            (|e| e.signatures[0].keyid = fingerprint(&key(3).verifying_key()), "keyid"),
            (|e| e.signatures[0].keyid.clear(), "keyid"),
            (|e| e.signatures[0].sig = STANDARD.encode([255u8; 64]), "does not fit"),
        ];
        for (change, expected) in changes {
            let mut changed = good.clone();
            change(&mut changed);
            let why = changed.open(&keys(), false).unwrap_err();
            assert!(why.contains(expected), "{why}");
            let unsigned = changed.signatures.is_empty();
            assert_eq!(changed.open(&keys(), true).is_ok(), unsigned, "{changed:?}");
        }
        let why = good.open(&OperatorKeys::default(), true).unwrap_err();
        assert_eq!(why, "this device knows no operator key");
    }

    #[test]
    fn signatures_that_are_none_are_refused() {
        let good = Envelope::signed(&key(1), b"{}");
        for sig in ["", "!", "c2ln", &STANDARD.encode([0u8; 64]), &STANDARD.encode([0u8; 65])] {
            let mut changed = good.clone();
            changed.signatures[0].sig = sig.to_owned();
            assert!(changed.open(&keys(), false).is_err(), "{sig}");
        }
    }

    #[test]
    fn other_messages_are_refused_without_repeating_them() {
        let old = br#"{"v":1,"id":"SECRET","command":"pause","issued":1,"expires":2}"#;
        let why = Envelope::parse(old).unwrap_err();
        assert!(why.starts_with("it is in the form of version 1"), "{why}");
        let long = vec![b' '; MAX_COMMAND_BYTES + 1];
        let twice = br#"{"payload":"","payload":"SECRET","payloadType":"","signatures":[]}"#;
        let no_sig = br#"{"payload":"SECRET","payloadType":"","signatures":[{"keyid":""}]}"#;
        for message in [&b"SECRET"[..], b"{}", b"[\"SECRET\"]", &long, twice, no_sig] {
            let why = Envelope::parse(message).unwrap_err();
            assert!(!why.contains("SECRET") && why.len() < 200, "{why}");
        }
        let more = br#"{"payload":"","payloadType":"","signatures":[],"later":[1]}"#;
        assert_eq!(Envelope::parse(more).unwrap().signatures, []);
    }
}
