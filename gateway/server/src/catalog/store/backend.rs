//! The file under redb. It is redb's own file backend without locks (the state
//! directory has one) and with fault points, so that tests can kill the process or
//! fail the disk between any two writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use redb::StorageBackend;

use super::faults;

#[derive(Debug)]
pub(super) struct Backend {
    file: File,
}

impl Backend {
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        faults::pass("redb.set_len")?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        faults::pass("redb.sync")?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        faults::pass("redb.write")?;
        self.file.write_all_at(data, offset)
    }
}
