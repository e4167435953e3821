//! The gateway's side: start a child, feed it, wait for its answer, and judge its end.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_sandbox::{LoadError, Verified, VerifyLimits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::queue::{Queue, Whose};
use super::refused::RefusedBefore;
use super::{child, frame};

/// Most bytes of the child's complaints that reach the log.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;

/// How a Rust program ends that panicked.
const EXIT_PANIC: i32 = 101;

/// How children are run.
#[derive(Debug, Clone)]
pub struct VerifierOptions {
    /// The program: this one, unless it is a test that is running.
    pub program: PathBuf,
    /// What each child may use.
    pub limits: VerifyLimits,
    /// Children at once. One keeps compiling from taking more than one processor from
    /// predictions, however many uploads come.
    pub children_max: usize,
    /// Components that wait for a child. More answer 429.
    pub waiting_max: usize,
}

impl Default for VerifierOptions {
    fn default() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            limits: VerifyLimits::default(),
            children_max: 1,
            waiting_max: 16,
        }
    }
}

/// Why a component was not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It was refused.
    #[error("{0}")]
    Refused(LoadError),
    /// The child died of it.
    #[error("{message}")]
    Limit {
        /// For the author.
        message: &'static str,
        /// How it died, and what it said.
        detail: String,
    },
    /// As many wait as may wait.
    #[error("too many components wait to be verified")]
    Busy,
    /// No answer came in time, although the child had processor time left.
    #[error("the verification took too long")]
    Slow,
    /// The child could not be run, or broke its word.
    #[error("verification failed: {0}")]
    Failed(String),
}

/// Verifies components, a few at once, each in a process of its own.
pub struct Verifier {
    program: PathBuf,
    limits: VerifyLimits,
    queue: Arc<Queue>,
    refused: Arc<RefusedBefore>,
}

impl Verifier {
    /// A verifier that starts its first child when it is needed.
    pub fn new(options: VerifierOptions) -> Self {
        let children_max = options.children_max.max(1);
        Self {
            program: options.program,
            limits: options.limits,
            queue: Queue::new(children_max, options.waiting_max),
            refused: Arc::default(),
        }
    }

    /// What each child may use.
    pub fn limits(&self) -> &VerifyLimits {
        &self.limits
    }

    /// Verifies a component of the gateway's own. Cancel-safe: dropping the future kills the
    /// child.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn verify(&self, component: Bytes) -> Result<Verified, VerifyError> {
        self.verify_for(Whose::Gateway, component).await
    }

    /// Verifies a component that an owner brings: they wait in turn with other owners.
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn verify_for(&self, whose: Whose<'_>, component: Bytes) -> Result<Verified, VerifyError> {
        // What is too large needs no child to be refused, and what was too much neither.
        if component.len() > self.limits.component_bytes {
            return Err(VerifyError::Refused(LoadError::Limits(format!(
                "it is {} bytes, at most {}",
                component.len(),
                self.limits.component_bytes
            ))));
        }
        if !self.refused.is_empty() {
            let (refused, component) = (Arc::clone(&self.refused), component.clone());
            // Its digest takes a while, on a thread that serves others.
            let found = tokio::task::spawn_blocking(move || refused.find(&component)).await;
            if let Ok(Some(error)) = found {
                return Err(error);
            }
        }
        let _place = self.queue.place(whose).await.ok_or(VerifyError::Busy)?;
        let started = Instant::now();
        let verified = match tokio::time::timeout(self.limits.wall_clock, self.in_child(&component)).await {
            Ok(verified) => verified,
            Err(_) => Err(VerifyError::Slow),
        };
        let verified_in_ms = started.elapsed().as_millis();
        match &verified {
            Ok(verified) => {
                tracing::info!(digest = verified.facts.digest, verified_in_ms, "component verified");
            }
            Err(error) => {
                tracing::info!(%error, ?error, verified_in_ms, "component not verified");
                self.refused.remember(&component, error);
            }
        }
        verified
    }

    async fn in_child(&self, component: &[u8]) -> Result<Verified, VerifyError> {
        let failed = |error: std::io::Error| VerifyError::Failed(error.to_string());
        let started = Instant::now();
        let mut child = self.start().map_err(failed)?;
        let (answer, complaint) =
            talk(&mut child, component, frame::bytes_max(self.limits.code_bytes)).await?;
        let status = child.wait().await.map_err(failed)?;
        judge(status, answer, &complaint, started.elapsed() >= Duration::from_secs(self.limits.cpu_seconds))
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(child::command_line(&self.limits))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Gives the child its component, and takes its answer and its complaints.
async fn talk(
    child: &mut Child,
    component: &[u8],
    answer_bytes_max: usize,
) -> Result<(Vec<u8>, Vec<u8>), VerifyError> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(VerifyError::Failed("child has no pipes".to_owned()));
    };
    let feed = async move {
        // A child that needs no more to refuse it reads no more.
        let _ = stdin.write_all(component).await;
        Ok::<_, std::io::Error>(())
    };
    let answer = async {
        let answer = read_up_to(stdout, answer_bytes_max.saturating_add(1)).await?;
        if answer.len() > answer_bytes_max {
            Err(std::io::Error::other("the answer is too long"))
        } else {
            Ok(answer)
        }
    };
    let complaint = async {
        let mut stderr = stderr;
        let complaint = read_up_to(&mut stderr, COMPLAINT_BYTES_MAX).await?;
        // The rest is read as well: a full pipe would stop the child.
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        Ok(complaint)
    };
    let ((), answer, complaint) = tokio::try_join!(feed, answer, complaint)
        .map_err(|error| VerifyError::Failed(format!("talking to the child failed: {error}")))?;
    Ok((answer, complaint))
}

async fn read_up_to(from: impl AsyncRead + Unpin, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(u64::try_from(bytes_max).unwrap_or(u64::MAX)).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What the child's end means. `has_had_time` is whether it may have used up its processor
/// time: it has one thread.
fn judge(
    status: ExitStatus,
    answer: Vec<u8>,
    complaint: &[u8],
    has_had_time: bool,
) -> Result<Verified, VerifyError> {
    let detail = || {
        let complaint = String::from_utf8_lossy(complaint);
        format!("child ended with {status}: {}", complaint.trim().escape_debug())
    };
    let limit = |message| Err(VerifyError::Limit { message, detail: detail() });
    match (status.code(), status.signal()) {
        (Some(code), _) if code == 0 || code == i32::from(child::EXIT_REFUSED) => match frame::read(answer) {
            Some(Ok(verified)) if code == 0 => Ok(verified),
            Some(Err(refusal)) if code != 0 => Err(VerifyError::Refused(refusal)),
            _ => Err(VerifyError::Failed(detail())),
        },
        (Some(EXIT_PANIC), _) => limit("checking it failed"),
        // The machine was out of memory, whoever took it: a child is the first to go.
        (_, Some(libc::SIGKILL)) if !has_had_time => Err(VerifyError::Slow),
        (_, Some(libc::SIGXCPU | libc::SIGKILL)) => {
            limit("compiling it takes more processor time than a component may take")
        }
        (_, Some(_)) => limit("compiling it takes more memory or stack than a component may take"),
        _ => Err(VerifyError::Failed(detail())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_the_kernel_takes_for_want_of_memory_is_not_the_components_fault() {
        let killed = |has_had_time| judge(ExitStatus::from_raw(libc::SIGKILL), Vec::new(), b"", has_had_time);
        assert!(matches!(killed(false), Err(VerifyError::Slow)));
        assert!(matches!(killed(true), Err(VerifyError::Limit { .. })));
    }
}
