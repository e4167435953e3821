//! Keys and signatures against fixed vectors, so that other tools' are read as well.

use std::sync::Arc;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// RFC 8032, 7.1, test 3.
const RFC_SEED: &str = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";
const RFC_PUBLIC: &str = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
const RFC_SIGNATURE: &str = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";

/// The same seed as PKCS#8, as `openssl pkey -inform DER` writes it.
fn rfc_key() -> PrivateKey {
    let der = [bytes("302e020100300506032b657004220420"), bytes(RFC_SEED)].concat();
    let text = STANDARD.encode(der);
    PrivateKey::parse(&format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
        .expect("a key")
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    let key = rfc_key();
    assert_eq!(key.public().as_bytes()[..], bytes(RFC_PUBLIC)[..]);
    let signature = key.sign(&[0xaf, 0x82]);
    assert_eq!(signature.bytes[..], bytes(RFC_SIGNATURE)[..]);
    assert!(key.public().has_signed(&[0xaf, 0x82], &signature.bytes));
    assert!(!key.public().has_signed(&[0xaf, 0x83], &signature.bytes));
}

#[test]
fn keys_round_trip_through_their_files() {
    let (key, pem) = PrivateKey::generate().expect("random numbers");
    let again = PrivateKey::parse(&pem).expect("our own file");
    assert_eq!(again.public(), key.public());
    assert_eq!(PublicKey::parse(&key.public().to_pem()), Ok(key.public()));
    assert_eq!(PublicKey::parse(&key.public().to_base64()), Ok(key.public()));
    let (other, _) = PrivateKey::generate().expect("random numbers");
    assert_ne!(other.public(), key.public());
}

/// Made by `openssl genpkey -algorithm ed25519` (OpenSSL 3.0) and `openssl pkey -pubout`.
const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIF4frmUmdfq7PMTt/Ec93jgoTbU1ID4deu0zF9jQk/lZ\n\
    -----END PRIVATE KEY-----\n";
const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAtnttMyAswvGsF/Zmqz7CQbnItx9wlEu4+HptePa6l10=\n\
    -----END PUBLIC KEY-----\n";

/// `openssl pkeyutl -sign -rawin` over the text `component`: what `cosign sign-blob`
/// makes of this key as well.
const OPENSSL_SIGNATURE: &str =
    "ayhbshzgOBoqDBS09R8WgHJ3VoaQVC7iuIdIytGQ9+CwqccvP+bel1x4DaxMQiYjC2StPhuyktTID4hPYe1cDw==";

#[test]
fn keys_and_signatures_of_openssl_are_read() {
    let key = PrivateKey::parse(OPENSSL_PRIVATE).expect("a key");
    assert_eq!(PublicKey::parse(OPENSSL_PUBLIC), Ok(key.public()));
    assert_eq!(key.public().to_pem(), OPENSSL_PUBLIC);
    assert_eq!(key.sign(b"component").to_base64(), OPENSSL_SIGNATURE);
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let ec = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEXc+DQU8Pb7Xo2RWCjFG/f6qbdABN\n\
              jnVtSyKZxNzBfNMLLtVxdu8q+AigrGCS2KPmejda9bICTcHQCRUrD5OLGQ==\n-----END PUBLIC KEY-----\n";
    for (text, word) in [
        ("", "32 bytes"),
        ("!", "base64"),
        ("AAAA", "32 bytes"),
        (ec, "algorithm"),
        (OPENSSL_PRIVATE, "private"),
    ] {
        let error = PublicKey::parse(text).expect_err(text).to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let encrypted = OPENSSL_PRIVATE.replace("PRIVATE", "ENCRYPTED SIGSTORE PRIVATE");
    for (text, word) in [("", "PEM"), (OPENSSL_PUBLIC, "PEM"), (encrypted.as_str(), "encrypted")] {
        let error = PrivateKey::parse(text).expect_err(text).to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

fn owner(name: &str) -> Option<Arc<str>> {
    Some(Arc::from(name))
}

#[test]
fn a_key_vouches_for_its_owners_plugins_only() {
    let (ours, theirs) = (rfc_key(), PrivateKey::parse(OPENSSL_PRIVATE).expect("a key"));
    let keys = TrustedKeys::new([
        ("ours".into(), owner("us"), ours.public()),
        ("theirs".into(), owner("them"), theirs.public()),
    ]);
    let component = b"the bytes";
    let named =
        |key: &PrivateKey, name: &str| Signature { key: Some(name.to_owned()), ..key.sign(component) };
    let check = |signature: &Signature, owner| {
        keys.verify(component, Some(signature), Some(owner)).map(|vouched| vouched.key.to_string())
    };
    assert_eq!(check(&ours.sign(component), "us"), Ok("ours".to_owned()));
    assert_eq!(check(&named(&ours, "ours"), "us"), Ok("ours".to_owned()));
    assert_eq!(check(&ours.sign(component), "them"), Err(SignatureError::Invalid));
    let unknown = Err(SignatureError::NoSuchKey("ours".to_owned()));
    assert_eq!(check(&named(&ours, "ours"), "them"), unknown, "as if there were no such key");
    assert_eq!(check(&named(&theirs, "ours"), "us"), Err(SignatureError::Invalid));
    assert_eq!(keys.verify(component, Some(&ours.sign(component)), None), Err(SignatureError::Invalid));
    let everybody = TrustedKeys::new([("operator".into(), None, ours.public())]);
    for owner in [None, Some("us"), Some("them")] {
        assert!(everybody.verify(component, Some(&ours.sign(component)), owner).is_ok());
    }
}

#[test]
fn an_altered_byte_is_noticed_and_the_digest_may_be_signed_instead() {
    use sha2::{Digest, Sha256};
    let key = rfc_key();
    let keys = TrustedKeys::new([("k".into(), None, key.public())]);
    let component = b"component".to_vec();
    let over_bytes = key.sign(&component);
    let over_digest = key.sign(&Sha256::digest(&component));
    for signature in [&over_bytes, &over_digest] {
        assert!(keys.verify(&component, Some(signature), None).is_ok());
        for at in 0..component.len() {
            let mut altered = component.clone();
            altered[at] ^= 1;
            assert_eq!(keys.verify(&altered, Some(signature), None), Err(SignatureError::Invalid));
        }
        let mut altered = signature.clone();
        altered.bytes[40] ^= 1;
        assert_eq!(keys.verify(&component, Some(&altered), None), Err(SignatureError::Invalid));
    }
    assert_eq!(keys.verify(&component, None, None), Err(SignatureError::Missing));
}

#[test]
fn signature_texts_are_bounded_and_named() {
    let base64 = OPENSSL_SIGNATURE;
    let named = Signature::from_header(&format!("team-a:{base64}")).expect("valid");
    assert_eq!(named.key.as_deref(), Some("team-a"));
    assert_eq!(Signature::from_header(base64).expect("valid").key, None);
    assert_eq!(Signature::from_base64(&format!("{base64}\n")).expect("valid").to_base64(), base64);
    let long = "A".repeat(1 << 20);
    for bad in ["", ":", "a/b:AAAA", "k:", "k:AAAA", "k:!", long.as_str()] {
        assert!(Signature::from_header(bad).is_err(), "{}", &bad[..bad.len().min(20)]);
    }
}

/// A component of one custom section, signed by wasmsign2 0.2.8 without and with a key id.
const WASMSIGN_PUBLIC: &str = "c5ab0b5ca71a514ca059fe6c39c90fd6b0ca473440f1e72246565c6d029e103f";
const WASMSIGN_PLAIN: &str = "0061736d0d0001000075097369676e61747572650101010166011c199a599d8d6541206fe56bf3ddbf74\
    e9aa4cf390826c1fe48424b44088df08014300014022885ed918bdec28c6f12834c400b2e3ae47f9a0bf823d777b2dee218a3650a3b8\
    9914c2f47321d3d66794ebf363816f01b3f949f4b750941c66ebfecc900c0b0006047465737407";
const WASMSIGN_KEY_ID: &str = "0061736d0d000100008101097369676e61747572650101010172011c199a599d8d6541206fe56bf3dd\
    bf74e9aa4cf390826c1fe48424b44088df08014f0c90ee9245ea307701d37c0b05014022885ed918bdec28c6f12834c400b2e3ae47f9\
    a0bf823d777b2dee218a3650a3b89914c2f47321d3d66794ebf363816f01b3f949f4b750941c66ebfecc900c0b0006047465737407";

#[test]
fn embedded_signatures_of_wasmsign2_are_read_and_every_altered_byte_is_noticed() {
    let key: [u8; 32] = bytes(WASMSIGN_PUBLIC).try_into().expect("32 bytes");
    let keys = TrustedKeys::new([
        ("other".into(), None, rfc_key().public()),
        ("embedded".into(), None, PublicKey::from(key)),
    ]);
    for hex in [WASMSIGN_PLAIN, WASMSIGN_KEY_ID] {
        let component = bytes(hex);
        let vouched = keys.verify(&component, None, None).expect("signed");
        assert_eq!(&*vouched.key, "embedded");
        let key_id = 62..(if hex == WASMSIGN_KEY_ID { 74 } else { 62 });
        // The WebAssembly header is not signed (it says what the file is, and is checked
        // where components are loaded), nor is the key id.
        for at in (8..component.len()).filter(|at| !key_id.contains(at)) {
            let mut altered = component.clone();
            altered[at] ^= 1;
            assert!(keys.verify(&altered, None, None).is_err(), "byte {at}");
        }
        for end in 0..component.len() {
            assert!(keys.verify(&component[..end], None, None).is_err(), "cut at {end}");
        }
        let others = TrustedKeys::new([("other".into(), None, rfc_key().public())]);
        assert_eq!(others.verify(&component, None, None), Err(SignatureError::Invalid));
    }
}

#[test]
fn a_signature_over_a_part_is_not_one_over_the_whole() {
    use sha2::{Digest, Sha256};
    let key = rfc_key();
    let section = [&[0, 6, 4][..], b"test", &[7]].concat();
    let (part, whole) = (Sha256::digest(&section), Sha256::digest([&section[..], &section].concat()));
    let hashes = [part.as_slice(), whole.as_slice()].concat();
    let signature = key.sign(&[b"wasmsig\x01\x01\x01", &hashes[..]].concat()).bytes;
    let of = |bytes: &[u8]| [&[u8::try_from(bytes.len()).expect("short")], bytes].concat();
    let one = of(&[&[0, 1][..], &of(&signature)].concat());
    // Its length takes two bytes of LEB128.
    let set = [&[2][..], &hashes, &[1], &one].concat();
    let set = [&[u8::try_from(set.len() & 0x7f).expect("7 bits") | 0x80, 1][..], &set].concat();
    let content = [&of(b"signature")[..], &[1, 1, 1, 1], &set].concat();
    let head = [0, u8::try_from(content.len() & 0x7f).expect("7 bits") | 0x80, 1];
    let component = |rest: &[u8]| [b"\0asm\x0d\0\x01\0", &head[..], &content, rest].concat();
    let keys = TrustedKeys::new([("k".into(), None, key.public())]);
    assert!(keys.verify(&component(&[&section[..], &section].concat()), None, None).is_ok());
    assert_eq!(keys.verify(&component(&section), None, None), Err(SignatureError::Invalid));
}
