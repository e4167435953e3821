//! Reads answers off a connection: the status, and where the answer ends.

/// Most bytes of an answer, head and body: the benchmark's are far smaller.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a read asks for.
const READ_BYTES: usize = 4096;

/// Bytes that have come and are no whole answer yet.
#[derive(Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// Where more bytes go.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// The status of the answer, once all of it is there. What follows it stays.
    pub(super) fn answer(&mut self) -> Result<Option<u16>, String> {
        let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return self.unfinished();
        };
        let (status, length) = head(&self.bytes[..end])?;
        let whole = end.saturating_add(4).saturating_add(length);
        if self.bytes.len() < whole {
            return self.unfinished();
        }
        self.bytes.drain(..whole);
        Ok(Some(status))
    }

    fn unfinished(&self) -> Result<Option<u16>, String> {
        if self.bytes.len() > ANSWER_BYTES_MAX {
            Err("an answer without an end".to_owned())
        } else {
            Ok(None)
        }
    }
}

/// Status and length of the body.
fn head(bytes: &[u8]) -> Result<(u16, usize), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("'{first}' has no status"))?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length.ok_or("an answer does not say how long it is")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_whatever_pieces_they_come() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n";
        for size in 1..=text.len() {
            let mut reader = Reader::default();
            let mut statuses = Vec::new();
            for piece in text.chunks(size) {
                reader.room().extend_from_slice(piece);
                while let Some(status) = reader.answer().expect("answers") {
                    statuses.push(status);
                }
            }
            assert_eq!(statuses, [200, 429], "in pieces of {size}");
        }
    }

    #[test]
    fn an_answer_that_does_not_say_its_length_is_an_error() {
        let mut reader = Reader::default();
        reader.room().extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(reader.answer().is_err());
    }
}
