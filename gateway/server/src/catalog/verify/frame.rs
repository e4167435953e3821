//! The answer of a verification, as bytes on a pipe: a length, what was found as JSON, a
//! length, the code.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sluice_sandbox::{ComponentFacts, LoadError, Verified};

/// Most bytes of the JSON: the facts are bounded, and a tenth of this.
const JSON_BYTES_MAX: usize = 1 << 20;

/// Bytes of each length.
const LENGTH_BYTES: usize = 8;

/// What was found. The code follows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    Verified(Box<ComponentFacts>),
    Refused(LoadError),
}

/// Most bytes of an answer with that much code.
pub(super) fn bytes_max(code_bytes_max: usize) -> usize {
    code_bytes_max.saturating_add(JSON_BYTES_MAX).saturating_add(2 * LENGTH_BYTES)
}

/// Writes an answer.
pub(super) fn write(answer: Result<Verified, LoadError>, out: &mut impl Write) -> io::Result<()> {
    let (finding, code) = match answer {
        Ok(Verified { facts, code }) => (Finding::Verified(Box::new(facts)), code),
        Err(refusal) => (Finding::Refused(refusal), Vec::new()),
    };
    let json = serde_json::to_vec(&finding)?;
    for part in [json, code] {
        let length = u64::try_from(part.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&part)?;
    }
    out.flush()
}

/// Reads an answer; `None` if it is none, or not a whole one.
pub(super) fn read(mut bytes: Vec<u8>) -> Option<Result<Verified, LoadError>> {
    let (json, rest) = part(&bytes)?;
    if json.len() > JSON_BYTES_MAX {
        return None;
    }
    let (code, []) = part(rest)? else { return None };
    match serde_json::from_slice(json).ok()? {
        Finding::Refused(refusal) => code.is_empty().then_some(Err(refusal)),
        Finding::Verified(facts) => {
            let start = bytes.len() - code.len();
            bytes.drain(..start);
            Some(Ok(Verified { facts: *facts, code: bytes }))
        }
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Vec<u8> {
        let mut bytes = Vec::new();
        let refusal = LoadError::ForbiddenImport { name: "a:b/c".to_owned(), why: "no".to_owned() };
        write(Err(refusal), &mut bytes).expect("written");
        bytes
    }

    #[test]
    fn a_refusal_arrives_as_it_was_sent() {
        let answer = read(refused());
        let Some(Err(LoadError::ForbiddenImport { name, why })) = answer else { panic!("{answer:?}") };
        assert_eq!((name.as_str(), why.as_str()), ("a:b/c", "no"));
    }

    #[test]
    fn an_answer_that_is_cut_or_too_long_or_nonsense_is_none() {
        let whole = refused();
        for end in 0..whole.len() {
            assert!(read(whole[..end].to_vec()).is_none(), "{end}");
        }
        assert!(read([&whole[..], b"x"].concat()).is_none());
        assert!(read([&u64::MAX.to_le_bytes()[..], b"{}"].concat()).is_none());
        assert!(read(b"\x02\0\0\0\0\0\0\0{}\0\0\0\0\0\0\0\0".to_vec()).is_none());
    }
}
