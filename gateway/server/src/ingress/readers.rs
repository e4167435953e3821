//! Readers that take nothing of their answers. A connection notes what it waits to be rid of:
//! each answer of which a piece was handed out and the next is not asked for, and the socket
//! that takes no more. What waits for too long ends the connection, or its stream if it has one
//! of HTTP/2 (see [`super::streams`]), and is in the budget of bytes until then.
//!
//! No timer is set for an answer: the connection ticks, and everything that waits is counted
//! by the tick in which it began to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::heads::{HeadTimer, Heads};
use super::streams::Stream;
use crate::admission::{Admission, Room};

/// Ticks that are told apart. What began to wait in the last but two of them has waited for
/// two whole ones.
const TICKS: usize = 4;

/// Ticks in the longest time that anything may wait.
pub(super) const TICKS_IN_TIMEOUT: u32 = 2;

/// Most bytes of an answer that are handed out at a time. The reader has to take them within
/// the write timeout, which two kilobytes a second do.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// What a connection waits to be rid of.
#[derive(Debug)]
pub(super) struct Unread {
    admission: Arc<Admission>,
    /// The requests that it had, or waits for.
    heads: Heads,
    now: AtomicUsize,
    /// Told of each tick.
    ticked: Notify,
    /// How much began to wait in each of the last ticks.
    since: [AtomicUsize; TICKS],
}

impl Unread {
    /// Nothing yet. A head may take `head_time_max` to come.
    pub(super) fn new(admission: Arc<Admission>, head_time_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            admission,
            heads: Heads::new(head_time_max),
            now: AtomicUsize::new(0),
            ticked: Notify::new(),
            since: Default::default(),
        })
    }

    /// Half of the longest time has passed. Whether the connection has waited for all of it.
    pub(super) fn tick(&self) -> bool {
        let now = self.now.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.ticked.notify_waiters();
        // The one behind the current one is the oldest.
        self.count(now.wrapping_add(1)).load(Ordering::Relaxed) > 0
    }

    /// Waits for the next tick.
    pub(super) fn ticked(&self) -> Notified<'_> {
        self.ticked.notified()
    }

    /// Whether what waits since that tick has waited for too long.
    pub(super) fn is_late(&self, since: usize) -> bool {
        self.now.load(Ordering::Relaxed).wrapping_sub(since) >= TICKS - 1
    }

    fn count(&self, tick: usize) -> &AtomicUsize {
        &self.since[tick % TICKS]
    }
}

/// A request, until it is answered or given up.
pub(super) struct Asked {
    unread: Arc<Unread>,
    version: Version,
}

impl Asked {
    /// A request has come over the connection.
    pub(super) fn new(unread: &Arc<Unread>, version: Version) -> Self {
        if version < Version::HTTP_2 {
            unread.heads.begin();
        }
        Self { unread: Arc::clone(unread), version }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.version < Version::HTTP_2 {
            self.unread.heads.end();
        }
    }
}

/// One thing that may wait.
#[derive(Debug)]
struct Waiting {
    unread: Arc<Unread>,
    /// The stream that it waits with. Without one it holds up the connection.
    stream: Option<Arc<Stream>>,
    /// The tick in which it began to, if it does.
    since: Option<usize>,
}

impl Waiting {
    /// It waits from now on, unless it did before.
    fn begin(&mut self) {
        if self.since.is_none() {
            let now = self.unread.now.load(Ordering::Relaxed);
            match &self.stream {
                Some(stream) => stream.begin(now),
                None => drop(self.unread.count(now).fetch_add(1, Ordering::Relaxed)),
            }
            self.since = Some(now);
        }
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            match &self.stream {
                Some(stream) => stream.end(),
                None => drop(self.unread.count(since).fetch_sub(1, Ordering::Relaxed)),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

/// An answer's body, in pieces, each of which is counted until it is taken.
pub(super) struct Answer<B> {
    body: B,
    /// What is left of a piece of the body's.
    rest: Bytes,
    waiting: Waiting,
    room: Room,
    _asked: Asked,
}

impl<B> Answer<B> {
    /// A body that holds so many bytes already.
    pub(super) fn new(body: B, bytes: usize, asked: Asked) -> Self {
        let mut room = asked.unread.admission.room();
        room.note(bytes);
        let mut waiting =
            Waiting { unread: Arc::clone(&asked.unread), stream: Stream::current(), since: None };
        waiting.begin();
        Self { body, rest: Bytes::new(), waiting, room, _asked: asked }
    }

    /// The next piece of what is left.
    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        self.room.shrink(piece.len());
        self.waiting.begin();
        Frame::data(piece)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        this.waiting.end();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        // As long as there is none it is not the reader who is waited for.
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                this.rest = data;
                Poll::Ready(Some(Ok(this.piece())))
            }
            Some(Ok(Err(other))) => Poll::Ready(Some(Ok(other))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

/// A connection's socket, whose reading and writing are watched.
pub(super) struct Watched<S> {
    stream: S,
    head: HeadTimer,
    waiting: Waiting,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, unread: &Arc<Unread>) -> Self {
        let waiting = Waiting { unread: Arc::clone(unread), stream: None, since: None };
        Self { stream, head: HeadTimer::default(), waiting }
    }

    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        match &written {
            Poll::Pending => self.waiting.begin(),
            Poll::Ready(_) => self.waiting.end(),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, out);
        this.head.read(&this.waiting.unread.heads, read, out.filled().len() - before, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush, and would end a wait that goes on.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => self.note(Poll::Pending),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(done)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full};

    use super::*;

    fn unread() -> Arc<Unread> {
        Unread::new(Admission::new(1, 1, 1 << 30), Duration::from_secs(1))
    }

    #[test]
    fn what_waits_for_two_ticks_is_told_and_what_is_taken_is_not() {
        let unread = unread();
        let mut waiting = Waiting { unread: Arc::clone(&unread), stream: None, since: None };
        for _ in 0..9 {
            waiting.begin();
            assert!(!unread.tick());
            assert!(!unread.tick());
            waiting.end();
        }
        waiting.begin();
        assert!(!unread.tick());
        assert!(!unread.tick());
        // The wait goes on: it began when it began.
        waiting.begin();
        assert!(unread.tick());
        drop(waiting);
        assert!((0..9).all(|_| !unread.tick()));
    }

    #[tokio::test]
    async fn an_answer_goes_out_in_pieces_and_is_counted_until_then() {
        let unread = unread();
        let data = Bytes::from(vec![7; 3 * PIECE_BYTES_MAX + 1]);
        let mut answer =
            Answer::new(Full::new(data.clone()), data.len(), Asked::new(&unread, Version::HTTP_11));
        assert_eq!(answer.size_hint().exact(), Some(data.len() as u64));
        assert_eq!(unread.admission.bytes(), data.len());
        let first: Result<_, Infallible> = answer.frame().await.expect("a piece");
        let first = first.ok().and_then(|frame| frame.into_data().ok()).expect("data");
        assert_eq!(first.len(), PIECE_BYTES_MAX);
        assert_eq!(unread.admission.bytes(), data.len() - first.len());
        assert!(!answer.is_end_stream());
        let rest = answer.collect().await.expect("whole").to_bytes();
        assert_eq!(rest.len(), data.len() - first.len());
        assert_eq!(unread.admission.bytes(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_waits_however_often_it_is_flushed() {
        let unread = unread();
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut socket = Watched::new(ours, &unread);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"four").is_ready());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"more").is_pending());
        assert!(Pin::new(&mut socket).poll_flush(&mut cx).is_ready());
        assert_eq!([unread.tick(), unread.tick(), unread.tick()], [false, false, true]);
    }
}
