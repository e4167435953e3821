//! A program's standard output, sent to the caller as it is written.
//!
//! WASI asks how much may be written before it writes, so a program whose caller is slow
//! waits in its own write, off its budget.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;

use super::written::Sink;
use crate::budget::Budget;
use crate::config::PluginLimits;
use crate::error::HostFault;
use crate::parts::{Gone, Part, PartSender};
use crate::types::HttpAnswer;

/// Bytes that wait to become a part: then the program waits too.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Standard output. Clones are one output.
#[derive(Clone)]
pub(crate) struct StreamedOutput {
    parts: PartSender,
    budget: Arc<Budget>,
    bytes_max: usize,
    parts_max: usize,
    unsent: Arc<Mutex<Unsent>>,
}

#[derive(Default)]
struct Unsent {
    data: BytesMut,
    /// Told from the first bytes: programs have no way to say it.
    content_type: Option<Arc<str>>,
    bytes: usize,
    parts: usize,
}

impl Unsent {
    fn take(&mut self) -> Part {
        let data = std::mem::take(&mut self.data).freeze();
        let content_type = self.content_type.get_or_insert_with(|| {
            // The first bytes may end within a character.
            let is_text =
                std::str::from_utf8(&data).map_or_else(|error| error.error_len().is_none(), |_| true);
            if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }.into()
        });
        Part::Body { content_type: Arc::clone(content_type), data }
    }

    fn put_back(&mut self, part: Part) {
        if let Part::Body { data, .. } = part {
            let later = std::mem::replace(&mut self.data, BytesMut::from(data));
            self.data.extend_from_slice(&later);
        }
    }
}

impl StreamedOutput {
    pub(crate) fn new(parts: PartSender, budget: Arc<Budget>, limits: &PluginLimits) -> Self {
        let (bytes_max, parts_max) = (limits.answer_bytes_max, limits.answer_parts_max);
        Self { parts, budget, bytes_max, parts_max, unsent: Arc::default() }
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left when the program has ended: the last part, or the whole of an answer
    /// of which nothing was sent.
    pub(crate) fn finish(&self) -> Option<HttpAnswer> {
        let mut unsent = self.unsent();
        if unsent.data.is_empty() && self.parts.has_sent() {
            return None;
        }
        match unsent.take() {
            Part::Body { content_type, data } => Some(HttpAnswer {
                status: super::convert::STATUS_OK,
                content_type: content_type.to_string(),
                data,
            }),
            Part::Tensors(_) => None,
        }
    }

    fn send_now(&self, unsent: &mut Unsent) -> Result<(), HostFault> {
        if unsent.data.is_empty() {
            return Ok(());
        }
        let part = unsent.take();
        // A caller that has gone ends the program from outside.
        if let Ok(Some(part)) = self.parts.try_send(part) {
            unsent.put_back(part);
            return Ok(());
        }
        unsent.parts += 1;
        if unsent.parts > self.parts_max {
            return Err(HostFault::Output(format!("the answer has more than {} parts", self.parts_max)));
        }
        Ok(())
    }

    /// Waits until there is room for more.
    async fn drain(&self) -> Result<(), Gone> {
        let waiting = self.unsent().data.len();
        if waiting < UNSENT_BYTES_MAX {
            return Ok(());
        }
        let _waiting = self.budget.wait();
        self.parts.room(waiting).await?;
        // What fits now is sent; if another was faster, there is a next time.
        let mut unsent = self.unsent();
        let _ = self.send_now(&mut unsent);
        Ok(())
    }
}

impl Sink for StreamedOutput {
    /// Takes bytes, and sends what there is if there is room for it.
    fn take(&self, bytes: &[u8]) -> Result<(), HostFault> {
        let mut unsent = self.unsent();
        unsent.bytes = unsent.bytes.saturating_add(bytes.len());
        if unsent.bytes > self.bytes_max {
            return Err(HostFault::Output(format!("the parts are more than {} bytes", self.bytes_max)));
        }
        unsent.data.extend_from_slice(bytes);
        self.send_now(&mut unsent)
    }

    /// So no more than one permit's bytes ever wait here.
    fn room(&self) -> Result<usize, HostFault> {
        let mut unsent = self.unsent();
        self.send_now(&mut unsent)?;
        Ok(UNSENT_BYTES_MAX.saturating_sub(unsent.data.len()))
    }

    fn flush(&self) -> Result<(), HostFault> {
        self.send_now(&mut self.unsent())
    }

    async fn ready(&self) {
        // A caller that has gone ends the program from outside.
        let _ = self.drain().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::parts::parts;

    #[tokio::test]
    async fn a_program_waits_for_its_reader_and_loses_nothing() {
        let (sender, mut receiver) = parts();
        let budget = Arc::new(Budget::start(Duration::from_secs(1)));
        let output = StreamedOutput::new(sender, budget, &PluginLimits::default());
        let mut written = 0_usize;
        while let Ok(room @ 1..) = output.room() {
            let chunk = vec![b'x'; room.min(50_000)];
            written += chunk.len();
            output.take(&chunk).expect("below the limit");
        }
        assert!(written < 1 << 20, "bounded: {written}");
        assert!(tokio::time::timeout(Duration::from_millis(20), output.ready()).await.is_err());
        let mut read = 0;
        read += receiver.recv().await.map_or(0, |part| part.byte_len());
        read += receiver.recv().await.map_or(0, |part| part.byte_len());
        output.ready().await;
        let last = output.finish();
        drop(output);
        while let Some(part) = receiver.recv().await {
            read += part.byte_len();
        }
        assert_eq!(read + last.map_or(0, |last| last.data.len()), written);
    }

    #[test]
    fn the_type_is_told_from_the_first_bytes() {
        for (first, wanted) in [
            ("é".as_bytes(), "text/plain; charset=utf-8"),
            (&[0xc3], "text/plain; charset=utf-8"),
            (&[0xff, 0xfe], "application/octet-stream"),
        ] {
            let mut unsent = Unsent { data: BytesMut::from(first), ..Unsent::default() };
            let Part::Body { content_type, .. } = unsent.take() else { panic!("a body") };
            assert_eq!(&*content_type, wanted, "{first:?}");
        }
    }
}
