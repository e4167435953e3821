//! An answer in parts, on its way from a guest to a caller.
//!
//! What is under way is bounded in parts and in bytes: a guest that is faster than its
//! caller waits. When the receiver is dropped, sending fails at once; when the senders
//! are, the receiver ends after what was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use sluice_tensor::NamedTensor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Parts that may wait for the caller. Enough that a guest and a connection which both
/// run do not wait for each other at every part, few enough to end soon when it stalls.
const QUEUED_PARTS_MAX: usize = 16;

/// Bytes that may wait for the caller, beside one part that is larger. 256 KiB is what a
/// socket's buffers hold.
const QUEUED_BYTES_MAX: usize = 256 << 10;

/// One part of an answer.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes of a body.
    Body {
        /// Of the whole body, the same with every part. Printable ASCII, fit for a header.
        content_type: Arc<str>,
        /// The bytes.
        data: Bytes,
    },
    /// One whole answer of tensors.
    Tensors(Vec<NamedTensor>),
}

impl Part {
    /// What it holds.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Body { data, .. } => data.len(),
            Self::Tensors(tensors) => {
                tensors.iter().map(|named| named.tensor.byte_len()).fold(0, usize::saturating_add)
            }
        }
    }
}

/// Nobody receives any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A part that waits, and its share of the bytes that may.
#[derive(Debug)]
struct Queued {
    part: Part,
    _room: OwnedSemaphorePermit,
}

/// Where parts go in.
#[derive(Debug, Clone)]
pub struct PartSender {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    has_sent: Arc<AtomicBool>,
}

/// Where parts come out, in the order they were sent.
#[derive(Debug)]
pub struct PartReceiver(mpsc::Receiver<Queued>);

/// A way for the parts of one answer.
pub fn parts() -> (PartSender, PartReceiver) {
    let (queue, receiver) = mpsc::channel(QUEUED_PARTS_MAX);
    let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
    (PartSender { queue, room, has_sent: Arc::default() }, PartReceiver(receiver))
}

impl PartSender {
    /// Sends a part once there is room for it. Cancel-safe: it is sent or it is not.
    ///
    /// # Errors
    /// [`Gone`] when nobody receives.
    pub async fn send(&self, part: Part) -> Result<(), Gone> {
        // A receiver that goes drops what waits, so this ends.
        let room = Arc::clone(&self.room).acquire_many_owned(share(&part)).await.map_err(|_| Gone)?;
        let place = self.queue.reserve().await.map_err(|_| Gone)?;
        self.has_sent.store(true, Ordering::Release);
        place.send(Queued { part, _room: room });
        Ok(())
    }

    /// Sends a part if there is room for it now; else gives it back.
    ///
    /// # Errors
    /// [`Gone`] when nobody receives.
    pub(crate) fn try_send(&self, part: Part) -> Result<Option<Part>, Gone> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(share(&part)) else {
            return if self.queue.is_closed() { Err(Gone) } else { Ok(Some(part)) };
        };
        match self.queue.try_send(Queued { part, _room: room }) {
            Ok(()) => {
                self.has_sent.store(true, Ordering::Release);
                Ok(None)
            }
            Err(mpsc::error::TrySendError::Full(queued)) => Ok(Some(queued.part)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Waits until a part of so many bytes fits, or as many as ever fit. Cancel-safe.
    ///
    /// # Errors
    /// Nobody receives any more.
    pub(crate) async fn room(&self, bytes: usize) -> Result<(), Gone> {
        let all = u32::try_from(bytes.min(QUEUED_BYTES_MAX)).unwrap_or(u32::MAX);
        drop(self.room.acquire_many(all).await.map_err(|_| Gone)?);
        drop(self.queue.reserve().await.map_err(|_| Gone)?);
        Ok(())
    }

    /// Whether any part was sent: from then on the answer has begun.
    pub fn has_sent(&self) -> bool {
        self.has_sent.load(Ordering::Acquire)
    }

    /// Returns when nobody receives any more.
    pub(crate) async fn gone(&self) {
        self.queue.closed().await;
    }
}

fn share(part: &Part) -> u32 {
    u32::try_from(part.byte_len().min(QUEUED_BYTES_MAX)).unwrap_or(0)
}

impl PartReceiver {
    /// The next part; `None` after the last, when no sender is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Part> {
        self.0.recv().await.map(|queued| queued.part)
    }

    /// The same, for who polls by hand.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        self.0.poll_recv(cx).map(|queued| queued.map(|queued| queued.part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: usize) -> Part {
        Part::Body { content_type: "text/plain".into(), data: vec![b'x'; bytes].into() }
    }

    fn is_sent(sender: &PartSender, bytes: usize) -> bool {
        sender.try_send(part(bytes)).expect("somebody receives").is_none()
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_parts_and_in_bytes() {
        let (sender, mut receiver) = parts();
        for _ in 0..QUEUED_PARTS_MAX {
            assert!(is_sent(&sender, 1));
        }
        assert!(!is_sent(&sender, 1));
        assert!(receiver.recv().await.is_some());
        assert!(is_sent(&sender, 1));

        let (sender, mut receiver) = parts();
        assert!(is_sent(&sender, QUEUED_BYTES_MAX * 4), "alone it is taken");
        assert!(!is_sent(&sender, 1));
        assert_eq!(receiver.recv().await.map(|part| part.byte_len()), Some(QUEUED_BYTES_MAX * 4));
        assert!(is_sent(&sender, 1));
    }

    #[tokio::test]
    async fn a_receiver_that_goes_ends_who_waits() {
        let (sender, receiver) = parts();
        sender.send(part(QUEUED_BYTES_MAX)).await.expect("room");
        let waits = tokio::spawn(async move { sender.send(part(1)).await });
        tokio::task::yield_now().await;
        drop(receiver);
        assert_eq!(waits.await.expect("no panic"), Err(Gone));
    }

    #[tokio::test]
    async fn parts_come_in_order_and_end_with_their_senders() {
        let (sender, mut receiver) = parts();
        assert!(!sender.has_sent());
        for bytes in 1..=3 {
            sender.send(part(bytes)).await.expect("room");
        }
        assert!(sender.has_sent());
        drop(sender);
        for bytes in 1..=3 {
            assert_eq!(receiver.recv().await.map(|part| part.byte_len()), Some(bytes));
        }
        assert!(receiver.recv().await.is_none());
    }
}
