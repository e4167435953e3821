//! Files that a snapshot is built from: read whole, within a limit, with a digest.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Reads a file that has at most `bytes_max` bytes.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(fault)?;
    if content.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(content)
}

/// The SHA-256 of some bytes, in hex.
pub(super) fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The SHA-256 of a file of any size, in hex.
pub(super) fn digest_file(path: &Path) -> Result<String, String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(fault)?;
    Ok(hex(&hasher.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
