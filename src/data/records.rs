//! The tasks of a file, one after the other, whatever its format.

use std::io::{self, BufRead};
use std::path::Path;

use super::csv::CsvRows;
use super::lines::{Line, Lines};
use super::parse::parse_line;
use super::{RejectReason, Task};

/// The mark that some editors put at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a file of tasks is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON lines: `.jsonl`, `.ndjson`.
    JsonLines,
    /// `.json`: JSON lines as well, unless it turns out to be one array.
    Json,
    /// `.csv`.
    Csv,
}

impl Format {
    /// The format that the file name's extension stands for, in upper or lower case.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// A task, a bad line, or a blank one.
pub(crate) struct Record<'a> {
    /// Its (first) line, counted from 1.
    pub(crate) line: usize,
    /// `None` if it is blank.
    pub(crate) task: Option<Result<Task, RejectReason>>,
    /// Its bytes, or the first of them.
    pub(crate) text: &'a [u8],
}

/// Hands out the tasks and bad lines of a file in bounded memory.
pub(crate) struct Records<R> {
    kind: Kind<R>,
    /// Set once the rest of the file is of no use.
    over: bool,
    /// Whether the line handed out last was bad.
    bad: bool,
}

enum Kind<R> {
    Json { lines: Lines<R>, number: usize, max_bytes: usize, refuse_array: bool },
    Csv(CsvRows<R>),
}

impl<R: BufRead> Records<R> {
    /// `max_bytes` is the longest line (or CSV row) that is read.
    pub(crate) fn new(mut reader: R, format: Format, max_bytes: usize) -> io::Result<Self> {
        skip_mark(&mut reader)?;
        let kind = match format {
            Format::Csv => Kind::Csv(CsvRows::new(reader, max_bytes)),
            _ => Kind::Json {
                lines: Lines::new(reader, max_bytes),
                number: 0,
                max_bytes,
                refuse_array: format == Format::Json,
            },
        };
        Ok(Self { kind, over: false, bad: false })
    }

    /// The next line or row; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        if self.over {
            return Ok(None);
        }
        let (line, task, text) = match &mut self.kind {
            Kind::Csv(rows) => {
                let Some((line, task)) = rows.next()? else { return Ok(None) };
                (line, task, rows.text())
            }
            Kind::Json { lines, number, max_bytes, refuse_array } => {
                *number += 1;
                let task = match lines.next()? {
                    None => return Ok(None),
                    Some(Line::Whole(line) | Line::TooLong(line))
                        if *refuse_array && is_array(line) =>
                    {
                        Some(Err(RejectReason::JsonArray))
                    }
                    Some(Line::TooLong(_)) => {
                        Some(Err(RejectReason::TooLong { limit: *max_bytes }))
                    }
                    Some(Line::Whole(line)) => parse_line(line),
                };
                *refuse_array &= task.is_none();
                (*number, task, lines.last())
            }
        };
        self.bad = matches!(task, Some(Err(_)));
        self.over = matches!(&task, Some(Err(reason)) if reason.is_of_file());
        Ok(Some(Record { line, task, text }))
    }

    pub(crate) fn get_ref(&self) -> &R {
        match &self.kind {
            Kind::Csv(rows) => rows.get_ref(),
            Kind::Json { lines, .. } => lines.get_ref(),
        }
    }

    /// Whether the file, read to its end, seems to have ended in the middle of a line or row: it may
    /// still be being written. A whole object of JSON needs no line break after it.
    pub(crate) fn is_torn(&self) -> bool {
        match &self.kind {
            Kind::Csv(rows) => rows.is_torn(),
            Kind::Json { lines, .. } => self.bad && !lines.was_ended(),
        }
    }
}

fn is_array(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"[")
}

fn skip_mark(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        match reader.fill_buf() {
            Ok(start) => {
                if start.starts_with(BYTE_ORDER_MARK) {
                    reader.consume(BYTE_ORDER_MARK.len());
                }
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Format) -> Vec<(usize, Result<String, RejectReason>)> {
        let mut records = Records::new(text.as_bytes(), format, 100).unwrap();
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let answer = record.task.map(|task| task.map(|task| task.answer));
            all.extend(answer.map(|answer| (record.line, answer)));
        }
        all
    }

    #[test]
    fn the_ending_tells_the_format() {
        for (name, format) in [
            ("a.jsonl", Some(Format::JsonLines)),
            ("a.NDJSON", Some(Format::JsonLines)),
            ("a.json", Some(Format::Json)),
            ("a.b.csv", Some(Format::Csv)),
            ("a.txt", None),
            ("csv", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn a_json_file_may_hold_lines_but_not_one_array() {
        let line = r#"{"question": "q", "answer": 1}"#;

        assert_eq!(read(&format!("\n{line}\n"), Format::Json), [(2, Ok("1".into()))]);
        let array = format!("\u{feff}\n[\n{line}\n]");
        assert_eq!(read(&array, Format::Json), [(2, Err(RejectReason::JsonArray))]);
        let long = format!("[{}", " ".repeat(200));
        assert_eq!(read(&long, Format::Json), [(1, Err(RejectReason::JsonArray))]);
        let bad = format!("[1]\n{line}\n");
        let expected = [(1, Err(RejectReason::NotAnObject)), (2, Ok("1".into()))];
        assert_eq!(read(&bad, Format::JsonLines), expected);
    }

    #[test]
    fn a_file_is_torn_if_its_last_line_is_broken_and_has_no_end() {
        const WHOLE: &str = r#"{"question": "q", "answer": 1}"#;
        for (text, torn) in
            [("{}\n", false), ("{}\n{\"question", true), ("", false), (WHOLE, false)]
        {
            let mut records = Records::new(text.as_bytes(), Format::JsonLines, 100).unwrap();
            while records.next().unwrap().is_some() {}
            assert_eq!(records.is_torn(), torn, "{text}");
        }
    }
}
