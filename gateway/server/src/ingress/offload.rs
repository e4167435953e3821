//! Large bodies of JSON, and large contents of gRPC that have to be packed, are read and written by
//! threads of their own. The threads of the runtime serve everybody, and reading what one caller
//! sends in 60 MiB of text would hold one of them for a second.

use std::sync::LazyLock;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::admission::Room;
use crate::error::{Error, Kind, Result};

/// Bytes that are worth another thread. Fewer are worked on in some milliseconds, for
/// which others can wait.
pub(super) const LARGE_BYTES: usize = 1 << 20;

/// Fewest bodies that are worked on at a time. Of two, one may be large and the other small.
const AT_A_TIME_MIN: usize = 2;

/// Who may work: one for each core, but one that is left to everybody else.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(cores.saturating_sub(1).max(AT_A_TIME_MIN))
});

/// Works on so many bytes: here on few, on a thread of its own on many, when it is
/// their turn.
///
/// # Errors
/// Those of the work; [`Kind::Deadline`] when many were not worked on by then. What was begun goes
/// on, and holds what it holds, until it is done.
pub(super) async fn run<T: Send + 'static>(
    bytes: usize,
    deadline: Instant,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes < LARGE_BYTES { work() } else { Box::pin(elsewhere(deadline, work)).await }
}

/// Writes a large answer, of about so many bytes, once there is room for it.
///
/// # Errors
/// As [`run`]; [`Kind::Overloaded`] without room.
pub(super) async fn write<T: Send + 'static>(
    bytes: usize,
    deadline: Instant,
    mut room: Room,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    room.grow(bytes)?;
    let work = move || {
        let _room = room;
        work()
    };
    run(bytes, deadline, work).await
}

async fn elsewhere<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let late = |_| Error::new(Kind::Deadline, "the request's deadline has passed");
    let internal = || Error::new(Kind::Internal, "internal error");
    let place = timeout_at(deadline, PLACES.acquire()).await.map_err(late)?.map_err(|_| internal())?;
    let span = tracing::Span::current();
    let working = spawn_blocking(move || {
        let _place = place;
        span.in_scope(work)
    });
    timeout_at(deadline, working).await.map_err(late)?.unwrap_or_else(|_| Err(internal()))
}

#[cfg(test)]
mod tests {
    use std::thread::current;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn large_bodies_are_worked_on_elsewhere_in_turns_and_in_time() {
        let here = current().id();
        let deadline = || Instant::now() + Duration::from_secs(9);
        let work = || Ok(current().id());
        assert_eq!(run(LARGE_BYTES - 1, deadline(), work).await.expect("done"), here);
        assert_ne!(run(LARGE_BYTES, deadline(), work).await.expect("done"), here);
        let broken = run(LARGE_BYTES, deadline(), || -> Result<()> { panic!("a bug") }).await;
        assert_eq!(broken.expect_err("it panics").kind(), Kind::Internal);
        let places = PLACES.available_permits();
        let all = PLACES.acquire_many(u32::try_from(places).expect("few")).await.expect("open");
        let soon = Instant::now() + Duration::from_millis(20);
        let late = run(LARGE_BYTES, soon, work).await.expect_err("nobody gives a place back");
        assert_eq!(late.kind(), Kind::Deadline);
        assert_eq!(run(LARGE_BYTES - 1, deadline(), work).await.expect("small ones need none"), here);
        drop(all);
        assert_ne!(run(LARGE_BYTES, deadline(), work).await.expect("done"), here);
        assert_eq!(PLACES.available_permits(), places);
    }
}
