//! What the operating system says about the process, read at each scrape. Only Linux
//! tells it through files; elsewhere these metrics are absent.

/// Memory, descriptors, threads and time, as far as the system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self {
            resident_bytes: number("VmRSS:").map(|kib| kib.saturating_mul(1024)),
            // One of them is the folder that is being read.
            open_descriptors: descriptors.and_then(|count| u64::try_from(count.saturating_sub(1)).ok()),
            threads: number("Threads:"),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_memory_descriptors_and_threads() {
        let before = Usage::now();
        assert!(before.resident_bytes.is_some_and(|bytes| bytes > 100 << 10));
        assert!(before.threads.is_some_and(|threads| threads >= 1));
        let files: Vec<_> =
            (0..50).map(|_| std::fs::File::open("/proc/self/status").expect("a file")).collect();
        let after = Usage::now();
        let opened = after.open_descriptors.zip(before.open_descriptors);
        // Other tests open and close files meanwhile.
        assert!(opened.is_some_and(|(after, before)| after >= before + 25), "{before:?} {after:?}");
        drop(files);
    }
}
