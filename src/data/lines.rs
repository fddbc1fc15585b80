//! Lines of a file in bounded memory, however long they are.

use std::io::{self, BufRead};

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The whole line.
    Whole(&'a [u8]),
    /// The beginning of a line that is longer than the limit.
    TooLong(&'a [u8]),
}

/// Hands out the lines of a file one after the other, holding at most `max_bytes` of one.
pub(crate) struct Lines<R> {
    reader: R,
    max_bytes: usize,
    buffer: Vec<u8>,
    /// Whether the line handed out last had its line break.
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader, max_bytes, buffer: Vec::new(), ended: true }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The line handed out last, or its beginning.
    pub(crate) fn last(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether the line handed out last had a line break at its end.
    pub(crate) fn was_ended(&self) -> bool {
        self.ended
    }

    /// The next line; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut too_long = false;
        let mut anything = false;
        let mut ended = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            anything = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let room = self.max_bytes - self.buffer.len();
            too_long |= part.len() > room;
            self.buffer.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                ended = true;
                break;
            }
        }
        if anything {
            self.ended = ended;
        }
        Ok(match (anything, too_long) {
            (false, _) => None,
            (true, false) => Some(Line::Whole(&self.buffer)),
            (true, true) => Some(Line::TooLong(&self.buffer)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_100_mb_is_skipped_without_being_held() {
        let long = io::repeat(b'x').take(100 << 20);
        let mut lines = Lines::new(BufReader::new(long.chain(&b"\nnext"[..])), 1 << 20);

        assert!(
            matches!(lines.next().unwrap(), Some(Line::TooLong(head)) if head.len() == 1 << 20)
        );
        assert!(lines.buffer.capacity() <= 2 << 20, "{}", lines.buffer.capacity());
        assert_eq!(lines.next().unwrap(), Some(Line::Whole(b"next")));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit() {
        let mut lines = Lines::new(&b"12345\n123456\n"[..], 5);

        assert_eq!(lines.next().unwrap(), Some(Line::Whole(b"12345")));
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong(b"12345")));
        assert_eq!(lines.next().unwrap(), None);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_split(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            buffer in 1..20_usize,
        ) {
            let mut lines = Lines::new(BufReader::with_capacity(buffer, &bytes[..]), 1000);
            let mut read = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                let Line::Whole(line) = line else { panic!("no line is that long") };
                read.push(line.to_vec());
            }

            let mut expected: Vec<_> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(read, expected);
        }
    }
}
