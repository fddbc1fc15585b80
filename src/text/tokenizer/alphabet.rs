//! GPT-2's byte alphabet: each of the 256 bytes as one printable character
//! (`bytes_to_unicode` of github.com/openai/gpt-2, `src/encoder.py`).

/// Bytes that stand for themselves; the others follow from U+0100 on, in order.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let (mut byte, mut next) = (0u8, 0x100);
    loop {
        chars[byte as usize] = if is_printable(byte) {
            byte as char
        } else {
            next += 1;
            match char::from_u32(next - 1) {
                Some(c) => c,
                None => panic!("U+0100 to U+0143 are characters"),
            }
        };
        if byte == u8::MAX {
            break chars;
        }
        byte += 1;
    }
};

/// The character of a byte.
pub const fn char_of(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte of a character, if it is in the alphabet.
pub fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            (0..=255u8).filter(|&b| !is_printable(b)).nth(usize::try_from(code - 0x100).ok()?)
        }
    }
}

/// The bytes that a text in the alphabet stands for.
pub fn bytes_of(text: &str) -> Option<Box<[u8]>> {
    text.chars().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(char_of(b'\n'), 'Ċ');
        assert_eq!(char_of(0), 'Ā');
    }

    #[test]
    fn other_characters_are_refused() {
        for c in [' ', '\n', '\u{AD}', '\u{144}', '▁', '😀'] {
            assert_eq!(byte_of(c), None, "{c:?}");
        }
        assert_eq!(bytes_of("Ġhi").as_deref(), Some(&b" hi"[..]));
        assert_eq!(bytes_of("▁hi"), None);
    }
}
