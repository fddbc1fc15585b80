//! What people put around an answer, and where a sentence ends.

/// LaTeX that only says how the text in its braces looks.
const LOOKS: [&str; 7] =
    ["\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\textit{", "\\mbox{", "\\mathit{"];
/// Marks around an answer: spaces apart.
const AROUND: [char; 22] = [
    ':', '*', '_', '`', '"', '\'', '“', '”', '‘', '’', '«', '»', '„', '=', '(', '[', '{', '<', '>',
    '~', '≈', '→',
];

/// Where an answer begins in what is said: behind spaces, quotes, stars, brackets and LaTeX's marks of
/// mathematics.
pub fn start(said: &str) -> usize {
    let mut rest = said;
    loop {
        let before = rest.len();
        rest = rest.trim_start_matches(|c: char| is_space(c) || AROUND.contains(&c));
        for look in LOOKS.iter().chain(&["\\(", "\\[", "\\boxed{", "\\displaystyle", "\\,", "\\ "])
        {
            rest = rest.strip_prefix(look).unwrap_or(rest);
        }
        // A dollar sign is mathematics, unless an amount follows: then it is currency, and harmless.
        rest = rest.trim_start_matches('$');
        if rest.len() == before {
            return said.len() - rest.len();
        }
    }
}

/// White space and what is invisible: byte order marks, joiners, soft hyphens.
pub fn is_space(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' | '\u{1c}'..='\u{1f}')
}

/// LaTeX's words for looks taken away, so that only what they hold stays.
pub fn without_looks(text: &str) -> String {
    let mut plain = text.to_owned();
    for look in LOOKS {
        plain = plain.replace(look, "");
    }
    plain
        .replace("\\(", "")
        .replace("\\)", "")
        .replace("\\[", "")
        .replace("\\]", "")
        .replace("\\$", "$")
        .replace("\\%", "%")
        .replace("\\,", " ")
        .replace("\\ ", " ")
}

/// Where the first sentence or line of a text ends, and whether that has been seen: a line break, or a
/// full stop, question or exclamation mark before a space. A text without one ends at its end.
pub fn sentence(text: &str) -> (usize, bool) {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        let ends = match c {
            '\n' | '\r' => true,
            '.' | '!' | '?' | '。' | '！' | '？' => next.is_some_and(char::is_whitespace),
            _ => false,
        };
        if ends {
            return (at, true);
        }
    }
    (text.len(), false)
}

/// At most so many bytes of a text from its beginning.
pub fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The sentences of a text, with where each begins.
pub fn sentences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
        let (end, _) = sentence(rest);
        let begin = from;
        let mark = rest[end..].chars().next().map_or(0, char::len_utf8);
        from += end + mark;
        Some((begin, &rest[..end]))
    })
}
