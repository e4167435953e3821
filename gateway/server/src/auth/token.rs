//! Tokens: 256 random bits that a caller shows. The configuration knows only their
//! hash, so whoever reads it cannot use them; and nobody can guess one.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::config;

/// What every token starts with, so that scanners for leaked secrets know it.
pub const PREFIX: &str = "sluice_";

/// Random bytes of a token: 256 bits, which nobody guesses however fast they try.
const SECRET_BYTES: usize = 32;

/// Characters of a whole token: the prefix, and its bytes in base64url without padding.
const TOKEN_CHARS: usize = PREFIX.len() + (SECRET_BYTES * 8).div_ceil(6);

/// How long after its expiry a token is still taken. Clocks of two machines differ by
/// seconds, and a clock that is set back and forth should not lock anybody out.
pub const EXPIRY_TOLERANCE: Duration = Duration::from_secs(60);

/// A token as its bearer has it. It exists only while it is made.
pub struct NewToken(String);

impl NewToken {
    /// A token that was never there before.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, ring::error::Unspecified> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the configuration keeps: `sha256:` and the hash in hexadecimal.
    pub fn hash(&self) -> String {
        let hash = digest(&self.0);
        hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken")
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether text has the form of a token. What has not is not looked up, but costs the
/// same time.
fn is_token(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == TOKEN_CHARS && text.starts_with(PREFIX) && text.bytes().all(is_base64url)
}

/// Hashed in place of what has not the form of a token. Its last character is in no token.
const NO_TOKEN: &str = "sluice_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A look-up's result, and what it cost.
pub(super) struct Found<T> {
    pub(super) token: Option<T>,
    /// Hashes that were compared: always as many as there are.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests prove that it never differs"))]
    pub(super) compared: usize,
}

/// Finds the token that was shown among those that are known.
///
/// It takes the same time whatever was shown: text of one length is hashed, and its hash
/// is compared with every known one, each in constant time.
pub(super) fn find<'a, T>(
    known: impl Iterator<Item = (T, &'a config::Token)>,
    shown: Option<&str>,
    now: Duration,
) -> Found<T> {
    let shown = shown.filter(|text| is_token(text));
    let hash = digest(shown.unwrap_or(NO_TOKEN));
    let (mut place, mut compared) = (u64::MAX, 0usize);
    let mut entries = Vec::new();
    for (value, token) in known {
        let same: Choice = token.hash.ct_eq(&hash);
        place = u64::conditional_select(&place, &(compared as u64), same);
        compared += 1;
        entries.push((value, token.expires));
    }
    let found = usize::try_from(place).ok().filter(|place| *place < entries.len());
    let found = found.map(|place| entries.swap_remove(place));
    let token =
        found.filter(|(_, expires)| expires.is_none_or(|at| now < expiry(at))).map(|(value, _)| value);
    Found { token: token.filter(|_| shown.is_some()), compared }
}

/// Seconds since 1970 at which a token is no longer taken.
fn expiry(at: u64) -> Duration {
    Duration::from_secs(at).saturating_add(EXPIRY_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn entry(token: &NewToken, expires: Option<u64>) -> config::Token {
        config::Token { hash: digest(&token.0), scopes: vec![], owner: None, expires }
    }

    fn look_up(known: &[config::Token], shown: Option<&str>) -> (Option<usize>, usize) {
        let found = find(known.iter().enumerate(), shown, NOW);
        (found.token, found.compared)
    }

    #[test]
    fn a_token_has_256_random_bits_and_shows_itself_to_nobody() {
        let (one, two) = (NewToken::generate().expect("random"), NewToken::generate().expect("random"));
        assert!(is_token(one.reveal()) && is_token(two.reveal()));
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.reveal().len(), 7 + 43);
        assert!(!format!("{one:?}").contains(&one.reveal()[7..]));
        assert!(one.hash().starts_with("sha256:") && one.hash().len() == 7 + 64);
    }

    #[test]
    fn a1_every_look_up_compares_every_hash() {
        let tokens: Vec<NewToken> = (0..5).map(|_| NewToken::generate().expect("random")).collect();
        let known: Vec<config::Token> = tokens.iter().map(|token| entry(token, None)).collect();
        for (place, token) in tokens.iter().enumerate() {
            assert_eq!(look_up(&known, Some(token.reveal())), (Some(place), 5));
        }
        let stranger = NewToken::generate().expect("random");
        let long = format!("{}x", tokens[0].reveal());
        for shown in [None, Some(""), Some("sluice_"), Some(stranger.reveal()), Some(NO_TOKEN), Some(&*long)]
        {
            assert_eq!(look_up(&known, shown), (None, 5), "{shown:?}");
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none_even_with_the_right_hash() {
        let known = [config::Token { hash: digest(NO_TOKEN), scopes: vec![], owner: None, expires: None }];
        assert_eq!(look_up(&known, None), (None, 1));
        assert_eq!(look_up(&known, Some("anything")), (None, 1));
    }

    #[test]
    fn l7_a_token_expires_at_its_time_and_a_tolerance() {
        let token = NewToken::generate().expect("random");
        let now = NOW.as_secs();
        for (expires, is_taken) in
            [(now + 1, true), (now, true), (now - 59, true), (now - 60, false), (0, false)]
        {
            let known = [entry(&token, Some(expires))];
            assert_eq!(look_up(&known, Some(token.reveal())), (is_taken.then_some(0), 1), "{expires}");
        }
    }
}
