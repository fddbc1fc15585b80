use super::*;
use crate::text::tokenizer::fixture::{END_OF_TEXT, IM_END, IM_START, THINK, spec, tokenizer};

fn texts(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| tokenizer.token_text(id)).collect()
}

fn refusal(spec: TokenizerSpec) -> String {
    Tokenizer::new(spec).expect_err("it should be refused").to_string()
}

#[test]
fn merges_follow_their_rank() {
    let t = tokenizer();

    let ids = t.encode("The answer is 42.", false).unwrap();

    assert_eq!(texts(&t, &ids), ["The", " answer", " is", " 4", "2", "."]);
}

#[test]
fn every_text_comes_back() {
    let t = tokenizer();
    for text in
        ["", " ", "a\r\n\tb", "naïve 😀👩‍👩‍👧 日本語 नमस्ते", "\0\u{7f}\u{85}\u{a0}\u{ad}", "<|im_end|>"]
    {
        for special in [false, true] {
            let ids = t.encode(text, special).unwrap();
            assert_eq!(t.decode(&ids, true), text.as_bytes(), "{text:?}");
        }
    }
}

#[test]
fn control_tokens_count_only_where_they_are_asked_for() {
    let t = tokenizer();
    let text = "a<|im_end|>b";

    assert_eq!(texts(&t, &t.encode(text, true).unwrap()), ["a", "<|im_end|>", "b"]);
    assert!(!t.encode(text, false).unwrap().contains(&IM_END));
    assert!(t.names_control(text) && !t.names_control("<think>"));
}

#[test]
fn user_defined_tokens_always_count() {
    let t = tokenizer();

    assert!(t.encode("a<think>b", false).unwrap().contains(&THINK));
    assert_eq!(t.decode(&[THINK, IM_END], false), b"<think>");
}

#[test]
fn a_control_token_that_touches_plain_text_is_text() {
    let t = tokenizer();
    let text = "<|im_start|>a<|im_end|>b<|im_end|>";

    let placed = t.encode_placed(text, 12..18).unwrap(); // "a<|im_"

    let special: Vec<u32> = placed.iter().map(|p| p.id).filter(|&id| t.is_control(id)).collect();
    assert_eq!(special, [IM_START, IM_END]);
    assert_eq!(placed.last().unwrap().bytes, 24..34);
    assert!(placed.windows(2).all(|w| w[0].bytes.end == w[1].bytes.start));
}

#[test]
fn documents_get_what_the_metadata_asks_for() {
    let t = Tokenizer::new(TokenizerSpec { add_bos: Some(true), add_eos: Some(true), ..spec() })
        .unwrap();
    assert_eq!(t.encode_document("", false).unwrap(), [IM_START, IM_END]);

    let group_default =
        Tokenizer::new(TokenizerSpec { pre: "llama-bpe".into(), ..spec() }).unwrap();
    assert_eq!(group_default.encode_document("", false).unwrap(), [IM_START]);

    assert!(tokenizer().encode_document("", false).unwrap().is_empty());
}

#[test]
fn a_byte_without_a_token_is_left_out_as_in_llama_cpp() {
    let mut parts = spec();
    let tilde = parts.tokens.iter().position(|t| t == "~").unwrap();
    parts.tokens[tilde] = "~~~~".into();
    let t = Tokenizer::new(parts).unwrap();

    let placed = t.encode_placed("t~he~", 0..0).unwrap();

    let ids: Vec<u32> = placed.iter().map(|p| p.id).collect();
    assert_eq!(texts(&t, &ids), ["t", "he"], "the gap keeps t and h apart");
    assert_eq!(placed[1].bytes, 2..4);
}

#[test]
fn turn_ends_are_those_of_the_template_then_eos() {
    let t = Tokenizer::new(TokenizerSpec { eos: Some(END_OF_TEXT), ..spec() }).unwrap();

    assert_eq!(t.turn_ends("… <|im_end|> …"), [IM_END, END_OF_TEXT]);
    assert_eq!(t.turn_ends(""), [END_OF_TEXT]);
}

#[test]
fn a_name_outranks_a_wrong_token_type() {
    let mut parts = spec();
    parts.token_types[IM_END as usize] = 1;

    assert!(Tokenizer::new(parts).unwrap().is_control(IM_END));
}

#[test]
fn byte_tokens_and_unused_ones_have_their_bytes() {
    let mut parts = spec();
    parts.tokens.extend(["<0x0A>", "[PAD1]"].map(String::from));
    parts.token_types.extend([6, 5]);
    let (newline, unused) = (parts.tokens.len() as u32 - 2, parts.tokens.len() as u32 - 1);
    let t = Tokenizer::new(parts).unwrap();

    assert_eq!(t.token_bytes(newline).unwrap(), b"\n");
    assert_eq!(t.token_bytes(unused).unwrap(), b"");
    assert!(
        t.token_bytes(unused + 1).unwrap_err().to_string().contains("outside of the vocabulary")
    );
}

#[test]
fn broken_parts_are_refused_with_a_reason() {
    let with = |change: fn(&mut TokenizerSpec)| {
        let mut parts = spec();
        change(&mut parts);
        refusal(parts)
    };
    let cases: [(&str, String); 10] = [
        ("\"llama\", which is not supported", with(|s| s.model = "llama".into())),
        ("\"klingon\", which is unknown", with(|s| s.pre = "klingon".into())),
        ("0 tokens", with(|s| s.tokens.clear())),
        ("3 token types", with(|s| s.token_types.truncate(3))),
        ("same text as token 0", with(|s| s.tokens[5] = s.tokens[0].clone())),
        ("outside of the byte alphabet", with(|s| s.tokens[5] = "▁x".into())),
        ("eos_token_id is 9999", with(|s| s.eos = Some(9999))),
        ("bos_token_id is missing", with(|s| (s.bos, s.add_bos) = (None, Some(true)))),
        ("merge 0 (\"xyz\") has no space", with(|s| s.merges[0] = "xyz".into())),
        ("merge 0 (\"Q Qx\") joins what is not a token", with(|s| s.merges[0] = "Q Qx".into())),
    ];
    for (expected, message) in cases {
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    }
    assert!(with(|s| s.merges[0] = "Q Q".into()).contains("makes what is not a token"));
}

#[test]
fn a_megabyte_of_one_letter_is_quick() {
    let t = tokenizer();
    let text = "e".repeat(1 << 20);

    let ids = t.encode(&text, true).unwrap();

    assert_eq!(t.decode(&ids, false).len(), text.len());
}
