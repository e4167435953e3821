//! Progress of long steps: one line on stderr that is written over, if a person looks.

use std::io::{IsTerminal as _, Write as _};

/// One line that changes. Silent where stderr is no terminal.
pub(in crate::cli) struct Progress {
    is_shown: bool,
    /// Characters of the line that stands there.
    width: usize,
}

impl Progress {
    pub(in crate::cli) fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), width: 0 }
    }

    /// Whether anybody sees it.
    pub(in crate::cli) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Replaces the line.
    pub(in crate::cli) fn say(&mut self, line: &str) {
        if !self.is_shown {
            return;
        }
        let width = self.width;
        self.width = line.chars().count();
        // A terminal that is gone is nobody's loss.
        let _ = write!(std::io::stderr(), "\r{line:width$}");
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    /// Leaves an empty line behind.
    fn drop(&mut self) {
        if self.width > 0 {
            let _ = write!(std::io::stderr(), "\r{:width$}\r", "", width = self.width);
        }
    }
}
