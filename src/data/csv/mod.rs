//! CSV with a header that names the columns `question` and `answer`, and perhaps `answer_kind` (RFC 4180,
//! UTF-8).
//!
//! Columns are separated by commas, semicolons or tabs, whichever makes the header hold both names;
//! other columns are ignored. Quoted texts may hold line breaks. A quote that is never closed costs
//! only its own line, not the rest of the file, and never more memory than a line may take.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use super::lines::{Line, Lines};
use super::parse::{derived, kind_of, text_of};
use super::{RejectReason, Task};

/// Most lines of a file that one row may span.
const MAX_ROW_LINES: usize = 1000;
/// After so many quotes that were never closed, rows are taken to end with their line: looking for
/// the end of each would take unbounded time.
const MAX_UNCLOSED: usize = 16;

/// The number of a row's first line, and its task unless it is a blank line.
pub(super) type Row = (usize, Option<Result<Task, RejectReason>>);

/// A line of the file.
struct Physical {
    number: usize,
    bytes: Vec<u8>,
    too_long: bool,
}

/// The columns as the header names them.
struct Header {
    delimiter: u8,
    columns: usize,
    question: usize,
    answer: usize,
    answer_kind: Option<usize>,
}

/// Hands out the rows of a file one after the other, holding at most `max_bytes` of one.
pub(super) struct CsvRows<R> {
    lines: Lines<R>,
    max_bytes: usize,
    /// Lines that were read while looking for the end of a quote.
    ahead: VecDeque<Physical>,
    read: usize,
    header: Option<Header>,
    unclosed: usize,
    /// Whether the file seems to end in the middle of a row.
    torn: bool,
    row: Vec<u8>,
}

impl<R: BufRead> CsvRows<R> {
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        Self {
            lines: Lines::new(reader, max_bytes),
            max_bytes,
            ahead: VecDeque::new(),
            read: 0,
            header: None,
            unclosed: 0,
            torn: false,
            row: Vec::new(),
        }
    }

    /// The next row (`None` for a blank line and the header) with the number of its first line;
    /// `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        let Some((number, row)) = self.next_row()? else { return Ok(None) };
        let task = match row {
            Err(reason) => Some(Err(reason)),
            Ok(()) => match (std::str::from_utf8(&self.row), &self.header) {
                (Err(_), _) => Some(Err(RejectReason::InvalidUtf8)),
                (Ok(text), _) if text.trim().is_empty() => None,
                (Ok(text), Some(header)) => Some(header.task(text)),
                (Ok(text), None) => {
                    self.header = Header::read(text);
                    self.header.is_none().then_some(Err(RejectReason::NoHeader))
                }
            },
        };
        Ok(Some((number, task)))
    }

    pub(super) fn get_ref(&self) -> &R {
        self.lines.get_ref()
    }

    /// The bytes of the row handed out last.
    pub(super) fn text(&self) -> &[u8] {
        &self.row
    }

    /// Whether what was read so far may be a file that is still being written.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Gathers the lines of a row in `self.row`. Before the header is known, a row is a line.
    fn next_row(&mut self) -> io::Result<Option<(usize, Result<(), RejectReason>)>> {
        self.row.clear();
        let Some(first) = self.next_line()? else { return Ok(None) };
        let number = first.number;
        self.row.extend_from_slice(&first.bytes);
        if first.too_long {
            let limit = self.max_bytes;
            return Ok(Some((number, Err(RejectReason::TooLong { limit }))));
        }
        let delimiter = match &self.header {
            Some(header) if self.unclosed < MAX_UNCLOSED => header.delimiter,
            _ => return Ok(Some((number, Ok(())))),
        };
        let mut quote = Quote::Begin.after(&first.bytes, delimiter);
        let mut more: Vec<Physical> = Vec::new();
        while quote == Quote::Inside {
            let next = self.next_line()?;
            let at_end = next.is_none();
            let fits = next.as_ref().is_some_and(|line| {
                !line.too_long
                    && self.row.len() + 1 + line.bytes.len() <= self.max_bytes
                    && more.len() + 1 < MAX_ROW_LINES
            });
            let (Some(line), true) = (&next, fits) else {
                // The quote never ends: only the line that opened it is lost.
                self.torn |= at_end;
                self.unclosed += 1;
                self.row.truncate(first.bytes.len());
                more.into_iter().chain(next).rev().for_each(|line| self.ahead.push_front(line));
                return Ok(Some((number, Err(RejectReason::UnclosedQuote))));
            };
            self.row.push(b'\n');
            self.row.extend_from_slice(&line.bytes);
            quote = quote.after(&line.bytes, delimiter);
            more.extend(next);
        }
        Ok(Some((number, Ok(()))))
    }

    fn next_line(&mut self) -> io::Result<Option<Physical>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        let (bytes, too_long) = match self.lines.next()? {
            None => return Ok(None),
            Some(Line::Whole(bytes)) => (bytes.to_vec(), false),
            Some(Line::TooLong(bytes)) => (bytes.to_vec(), true),
        };
        self.read += 1;
        self.torn = !self.lines.was_ended();
        Ok(Some(Physical { number: self.read, bytes, too_long }))
    }
}

/// Where in a row a byte is, with regard to quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    /// At the beginning of a field.
    Begin,
    /// In a text without quotes around it.
    Outside,
    /// In a quoted text.
    Inside,
    /// After a quote in a quoted text: its end, or the first of two that mean one.
    Closing,
}

impl Quote {
    fn after(self, bytes: &[u8], delimiter: u8) -> Self {
        bytes.iter().fold(self, |state, &byte| match (state, byte) {
            (Self::Inside, b'"') => Self::Closing,
            (Self::Begin | Self::Closing, b'"') | (Self::Inside, _) => Self::Inside,
            (_, byte) if byte == delimiter => Self::Begin,
            _ => Self::Outside,
        })
    }
}

impl Header {
    fn read(line: &str) -> Option<Self> {
        b",;\t".iter().find_map(|&delimiter| {
            let names = fields(line, delimiter)?;
            let place = |wanted: &str| {
                names.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted))
            };
            let (question, answer) = (place("question")?, place("answer")?);
            let answer_kind = place("answer_kind");
            Some(Self { delimiter, columns: names.len(), question, answer, answer_kind })
        })
    }

    fn task(&self, row: &str) -> Result<Task, RejectReason> {
        let fields = fields(row, self.delimiter).unwrap_or_default();
        if fields.len() != self.columns {
            let (expected, found) = (self.columns, fields.len());
            return Err(RejectReason::FieldCount { expected, found });
        }
        let text = |column: usize, name| text_of(Some(fields[column].into()), name);
        let question = text(self.question, "question")?;
        let task = derived(question, &text(self.answer, "answer")?);
        let kind = self.answer_kind.map(|column| fields[column].trim());
        let kind = kind.filter(|word| !word.is_empty());
        let answer_kind = kind.map(|word| kind_of(word.into())).transpose()?;
        Ok(Task { answer_kind, ..task })
    }
}

/// The fields of one row, given without the line break at its end.
fn fields(row: &str, delimiter: u8) -> Option<::csv::StringRecord> {
    let row = row.strip_suffix('\r').unwrap_or(row);
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .terminator(::csv::Terminator::Any(b'\n'))
        .buffer_capacity(row.len().clamp(64, 1 << 16))
        .from_reader(row.as_bytes());
    let mut record = ::csv::StringRecord::new();
    matches!(reader.read_record(&mut record), Ok(true)).then_some(record)
}

#[cfg(test)]
mod tests;
