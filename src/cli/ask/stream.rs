//! Showing a rationale while it is sampled.
//!
//! What is shown is never taken back: tokens that may turn out to begin the answer phrase, which
//! does not belong to the rationale, and bytes that are not yet a whole character are held until
//! that is known. Control characters, which could command a terminal, become U+FFFD.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::engine::interrupt::Interrupt;
use crate::latro::prompt::{PHRASE, Prompter, StopWatch};
use crate::latro::sampling::branch::Stop;

/// The text of a rationale and an answer on their way to `out`.
#[derive(Debug)]
pub struct Stream<'p, W> {
    prompter: &'p Prompter,
    out: W,
    /// Tokens that were shown.
    shown: usize,
    /// Tokens after them that may begin the answer phrase.
    held: Vec<u32>,
    /// The beginning of a character.
    partial: Vec<u8>,
    /// Whether the last character was not a line break.
    in_line: bool,
    failure: Option<io::Error>,
}

impl<'p, W: Write> Stream<'p, W> {
    pub const fn new(prompter: &'p Prompter, out: W) -> Self {
        Self {
            prompter,
            out,
            shown: 0,
            held: Vec::new(),
            partial: Vec::new(),
            in_line: false,
            failure: None,
        }
    }

    /// Takes the next token of the rationale and shows what is certain by now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, token: u32) -> io::Result<()> {
        self.held.push(token);
        let certain = self.held.len() - self.uncertain();
        self.show(certain)
    }

    /// Shows the rest of the rationale, which is `whole`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&mut self, whole: &[u32]) -> io::Result<()> {
        self.held = whole.get(self.shown..).unwrap_or_default().to_vec();
        self.show(self.held.len())?;
        if !std::mem::take(&mut self.partial).is_empty() {
            self.write("\u{FFFD}")?;
        }
        Ok(())
    }

    /// Ends the line if one has begun.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end_line(&mut self) -> io::Result<()> {
        if self.in_line { self.write("\n") } else { Ok(()) }
    }

    /// Shows the answer in a sentence on a line of its own.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn answer(&mut self, said: &str) -> io::Result<()> {
        self.end_line()?;
        let said = said.trim();
        let stop = if said.ends_with('.') { "" } else { "." };
        self.write(&format!("The answer is {said}{stop}\n"))
    }

    /// What went wrong while tokens were pushed by a [`Watch`].
    pub const fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// How many of the last tokens may hold the beginning of the phrase.
    fn uncertain(&self) -> usize {
        let tokenizer = self.prompter.tokenizer();
        let lengths = self.held.iter().map(|id| tokenizer.token_bytes(*id).map_or(0, <[u8]>::len));
        let text = tokenizer.decode(&self.held, true);
        let longest = PHRASE.len().min(text.len());
        let begun = (1..=longest)
            .rev()
            .find(|n| text[text.len() - n..].eq_ignore_ascii_case(&PHRASE[..*n]))
            .unwrap_or(0);
        let mut after = 0;
        let needed = lengths.rev().take_while(|bytes| {
            let inside = after < begun;
            after += bytes;
            inside
        });
        needed.count()
    }

    /// Shows the first `count` of the held tokens.
    fn show(&mut self, count: usize) -> io::Result<()> {
        let ids: Vec<u32> = self.held.drain(..count).collect();
        self.shown += count;
        self.partial.extend(self.prompter.tokenizer().decode(&ids, false));
        let text = take_characters(&mut self.partial);
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let harmless =
            |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{FFFD}' } else { c };
        let text: String = text.chars().map(harmless).collect();
        self.in_line = !text.ends_with('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// Takes all characters but one that is not complete; U+FFFD stands for what can't become one.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        let (valid, wrong) = match std::str::from_utf8(bytes) {
            Ok(all) => (all.len(), Some(0)),
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        text += &String::from_utf8_lossy(&bytes[..valid]);
        match wrong {
            Some(wrong) if wrong > 0 => {
                text.push('\u{FFFD}');
                bytes.drain(..valid + wrong);
            }
            _ => {
                bytes.drain(..valid);
                return text;
            }
        }
    }
}

/// Shows each token as it is sampled, and ends the rationale where training would.
pub struct Watch<'a, 'p, W> {
    watch: StopWatch<'p>,
    stream: &'a Mutex<Stream<'p, W>>,
    interrupt: &'a Interrupt,
}

impl<'a, 'p, W: Write> Watch<'a, 'p, W> {
    /// Shows tokens on `stream`; sets `interrupt` if that fails.
    pub const fn new(
        prompter: &'p Prompter,
        stream: &'a Mutex<Stream<'p, W>>,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self { watch: prompter.watch(), stream, interrupt }
    }
}

impl<W: Write + Send> Stop for Watch<'_, '_, W> {
    fn push(&mut self, token: u32) -> bool {
        if self.watch.push(token).is_some() {
            return true;
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = stream.push(token) {
            stream.failure = Some(error);
            self.interrupt.set();
        }
        false
    }
}

/// Ends an answer with the turn or with its first line or sentence; nothing later is read.
pub struct AnswerEnd<'p> {
    prompter: &'p Prompter,
    stop_ids: Vec<u32>,
    text: Vec<u8>,
}

impl<'p> AnswerEnd<'p> {
    pub fn new(prompter: &'p Prompter) -> Self {
        Self { prompter, stop_ids: prompter.stop_ids(), text: Vec::new() }
    }
}

impl Stop for AnswerEnd<'_> {
    fn push(&mut self, token: u32) -> bool {
        self.text.extend(self.prompter.tokenizer().decode(&[token], false));
        self.stop_ids.contains(&token)
            || self.text.contains(&b'\n')
            || self.text.windows(2).any(|pair| pair == b". ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latro::prompt::Finish;
    use crate::text::tokenizer::fixture::{IM_END, tokenizer};
    use crate::text::{TextFormat, Wording};

    fn prompter() -> Prompter {
        Prompter::new(TextFormat { tokenizer: tokenizer(), template: None }, Wording::default())
            .unwrap()
    }

    /// What is on the screen after each token, and after the end.
    fn screens(p: &Prompter, ids: &[u32]) -> (Vec<String>, String) {
        let stream = Mutex::new(Stream::new(p, Vec::new()));
        let interrupt = Interrupt::new();
        let mut watch = Watch::new(p, &stream, &interrupt);
        let screen = || String::from_utf8(stream.lock().unwrap().out.clone()).unwrap();
        let mut after_each = Vec::new();
        for &id in ids {
            let over = watch.push(id);
            after_each.push(screen());
            if over {
                break;
            }
        }
        stream.lock().unwrap().finish(&ids[..p.cut(ids).len]).unwrap();
        (after_each, screen())
    }

    fn ids(p: &Prompter, text: &str) -> Vec<u32> {
        p.tokenizer().encode(text, true).unwrap()
    }

    #[test]
    fn the_screen_only_grows_and_ends_with_the_rationale() {
        let p = prompter();
        for text in [
            "4 + 2 = 6\nThe answer is 6.",
            "the the answer the answer is 6",
            "tHE aNSWER iS",
            "héllo 🙂 the an",
            "t",
            "",
        ] {
            let ids = ids(&p, text);
            let cut = p.cut(&ids);
            let wanted = String::from_utf8(p.tokenizer().decode(&ids[..cut.len], false)).unwrap();

            let (after_each, last) = screens(&p, &ids);

            assert_eq!(last, wanted, "{text:?}");
            for screen in after_each {
                assert!(wanted.starts_with(&screen), "{screen:?} of {wanted:?}");
            }
        }
    }

    #[test]
    fn text_is_shown_as_soon_as_it_cannot_be_the_phrase() {
        let p = prompter();
        let ids = ids(&p, "1 + 2");

        let (after_each, _) = screens(&p, &ids);

        assert_eq!(after_each.last().unwrap(), "1 + 2");
    }

    #[test]
    fn the_end_of_the_turn_is_not_shown() {
        let p = prompter();
        let generated = [ids(&p, "ok"), vec![IM_END]].concat();

        assert_eq!(screens(&p, &generated).1, "ok");
        assert_eq!(p.cut(&generated).finish, Finish::EndOfTurn);
    }

    #[test]
    fn characters_are_shown_whole() {
        let mut bytes = Vec::new();
        let mut shown = String::new();
        for byte in "a🙂é".bytes().chain([0xFF, b'z']) {
            bytes.push(byte);
            shown += &take_characters(&mut bytes);
        }
        assert_eq!(shown, "a🙂é\u{FFFD}z");
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_model_cannot_command_the_terminal() {
        let p = prompter();
        let mut stream = Stream::new(&p, Vec::new());

        stream.answer(" \u{1b}[2J7").unwrap();

        assert_eq!(String::from_utf8(stream.out).unwrap(), "The answer is \u{FFFD}[2J7.\n");
    }
}
