//! `sluice plugin keygen`: a key pair, the private half for this user's eyes only.

use std::path::PathBuf;

use clap::Args;

use crate::cli::outcome::{Failure, Outcome, print, write_new};
use crate::signature::PrivateKey;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Where the pair goes: the private key to NAME.key, the public one to NAME.pub.
    #[arg(default_value = "sluice", value_name = "NAME")]
    name: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let (key, pem) = PrivateKey::generate().map_err(|error| Failure::refused(error.to_string()))?;
    let file = |extension: &str| {
        let mut name = arguments.name.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (private, public) = (file(".key"), file(".pub"));
    write_new(&private, pem.as_bytes(), 0o600)?;
    write_new(&public, key.public().to_pem().as_bytes(), 0o644)?;
    print(&format!(
        "private key  {}  (keep it secret; sign with `sluice plugin sign --key`)\n\
         public key   {}\n\n\
         For the gateway's configuration:\n\n\
         [keys.NAME]\nowner = \"OWNER\"\npublic_key = \"{}\"\n",
        private.display(),
        public.display(),
        key.public().to_base64()
    ))
}
