//! Makes what is needed of the .proto files: `descriptors.bin`, by which the gateway reads
//! and writes messages and which server reflection gives out; and Rust types of all
//! messages, for the suite's client.
//!
//! `generate OUT` writes to that folder.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

/// Every file, those that others import first.
const FILES: [&str; 5] = [
    "model_config.proto",
    "grpc_service.proto",
    "health.proto",
    "reflection_v1.proto",
    "reflection_v1alpha.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("usage: generate OUT")?);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut descriptors = protox::compile(FILES, [&source])?;
    // Comments and positions are for readers of the text.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let folder = out.join("types");
    std::fs::create_dir_all(&folder)?;
    let mut config = prost_build::Config::new();
    config.out_dir(&folder).bytes(["."]).btree_map(["."]);
    config.compile_fds(descriptors)?;
    // Not `.rs`: the rules for what people write are not for what is made.
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        std::fs::rename(&path, path.with_extension("rs.in"))?;
    }
    Ok(())
}
