#!/usr/bin/env python3
"""Writes varied lines of text, always the same ones, for comparing tokenizers.

Each line of the output is a JSON string, as `latrod debug tokenize --json` reads it. Half of the
lines target what tokenizers disagree on (spaces before digits, newlines, contractions, combining
marks, special tokens as text); the others join random pieces.

    tokenizer_lines.py > lines.jsonl
    tokenizer_lines.py --count 200 --ids tests/fixtures/tiny.gguf > tests/fixtures/tiny-tokens.jsonl

With --ids each line is an object instead: the text, and the ids that llama.cpp gives it, with
special tokens read as plain text ("ids") and as themselves ("special_ids"). This needs
`pip install llama-cpp-python`.
"""
import argparse
import json
import random
import re
import sys

WORDS = """the of answer is What Natalia sold clips HTTPServer camelCase snake_case CONSTANT don't it's
WE'LL I've they're O'Neil naïve café Straße coöperate façade Ærøskøbing İstanbul ΑΒΓ αβγ Ωmega
Привет мир Ёлка шоколад שלום עולם السلام عليكم نمستے नमस्ते दुनिया ক্ষমতা தமிழ் ภาษาไทย ພາສາລາວ
မြန်မာ ខ្មែរ 日本語 こんにちは カタカナ 한국어 中文字符 繁體 漢字かな交じり ﾊﾝｶｸ ＡＢＣ１２３ ∑∞≠ ½¾ Ⅷ ① ٣٤٥ १२३
e\u0301 n\u0303o a\u0308\u0323 \u0301 x\u200dy x\u200by \ufeffz \u00adsoft \u2028 \u2029 \u0085 \u00a0nbsp \u3000wide
👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☺️ ☺ 🤖🤖 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠮷野家 ͏ ⠿ ﷽ ǅ ʰ ª º _ __init__ µm Å Å ﬁn""".split(" ")
CODE = [
    "fn main() {", "    let x: Vec<u8> = vec![0; 32];", "\treturn x;", "}", "def f(a, *b, **c):",
    "    if a == b and c != 0x1F:  # done", "\t\tprint(f\"{a:>10.2f}\\n\")", "#include <stdio.h>",
    "for(int i=0;i<n;++i){a[i]+=b[i];}", "SELECT * FROM t WHERE id=42;", "<div class=\"a b\">&nbsp;</div>",
    "https://example.com/a/b?c=d&e=%20#f", "user@example.org", "{\"k\": [1, 2.5e-3, null]}", "a->b::c.d()",
    "===", "!=", "...", "---", "//", "/* */", "\\frac{a}{b}", "$x^2$", "`code`", "~/.ssh", "|a|b|", "C:\\dir\\",
]
NUMBERS = [
    "0", "7", "42", "48 + 5", "123", "1234", "12345", "123456", "1234567", "1,234,567.89", "3.14159", "-17", "1e-9",
    "0x1F", "2026-11-22", "16:38:00", "+49 30 1234567", "1st", "2nd", "v1.2.3", "10%", "$5", "5€", "½", "x2y3",
]
SPACES = [
    " ", "  ", "   ", "    ", "     ", "        ", " " * 17, "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", "\r\n",
    "\r\n\r\n", " \n", "\n ", "  \n  ", "\t\n", "\u00a0", " \u00a0 ", "\u3000", "\u2003\u2003", "\u0085", "\v", "\f",
    "\u2028", "\u1680", "\u200b", "\ufeff",
]
SPECIALS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<s>", "</s>", "<|im_end|", "|im_end|>",
    "<|im_start|>user\n", "<repo_name>", "<jupyter_code>", "<empty_output>", "<|im_start|><|im_start|>", "<|IM_END|>",
    "<think>", "</think>", "<end_of_turn>", "<reponame>", "< |im_end|>", "<file_sep>",
]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»“”‘’…—–·•§¶†‡°©®™€£¥¢±×÷")
ODD = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'Ve", "'m", "'ll", "'LL", "'d", "'x", "''s", "'ſ", "' s", "’s"]


def control(rng):
    return chr(rng.choice([*range(1, 32), *range(127, 160)]))


def any_character(rng):
    while True:
        c = rng.choice([rng.randrange(0x20, 0x800), rng.randrange(0x800, 0x3000), rng.randrange(0x3000, 0x10000),
                        rng.randrange(0x10000, 0x20000), rng.randrange(0x20000, 0x110000)])
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def piece(rng):
    kind = rng.randrange(10)
    if kind == 8:
        return control(rng)
    if kind == 9:
        return any_character(rng)
    return rng.choice([WORDS, WORDS, NUMBERS, SPACES, SPACES, CODE, PUNCTUATION, CONTRACTIONS][kind])


def line(rng, kind):
    if kind == 0:  # words with single spaces, as in prose
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 16)))
    if kind == 1:  # code
        return rng.choice(["\n", "\n", "\r\n", " "]).join(rng.choice(CODE) for _ in range(rng.randrange(1, 8)))
    if kind == 2:  # numbers after all kinds of spaces
        return "".join(rng.choice(SPACES) + rng.choice(NUMBERS) for _ in range(rng.randrange(1, 8)))
    if kind == 3:  # sums, as in the tasks
        a, b = rng.randrange(10 ** rng.randrange(1, 7)), rng.randrange(10 ** rng.randrange(1, 7))
        return rng.choice(["{} + {} = {}", "What is {}+{}?  {}", "{}\n+ {}\n= {}"]).format(a, b, a + b)
    if kind == 4:  # special tokens in text
        return "".join(rng.choice([rng.choice(SPECIALS), piece(rng)]) for _ in range(rng.randrange(1, 10)))
    if kind == 5:  # runs of one piece
        return piece(rng) * rng.randrange(1, 40) + piece(rng)
    if kind == 6:  # contractions after everything
        return "".join(piece(rng) + rng.choice(CONTRACTIONS) for _ in range(rng.randrange(1, 6)))
    if kind == 7:  # any characters
        return "".join(any_character(rng) for _ in range(rng.randrange(1, 30)))
    return "".join(piece(rng) for _ in range(rng.randrange(1, 25)))


def llama_cpp(model):
    """The function from a text to llama.cpp's ids, as a document of its own."""
    from llama_cpp import Llama

    vocabulary = Llama(model, vocab_only=True, verbose=False)
    return lambda text, special: vocabulary.tokenize(text.encode(), add_bos=True, special=special)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=6000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--ids", metavar="MODEL", help="a .gguf file to tokenize with llama.cpp")
    a = p.parse_args()
    encode = llama_cpp(a.ids) if a.ids else None
    rng = random.Random(a.seed)
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for i in range(a.count):
        item = line(rng, i % 16)
        if encode:
            item = {"text": item, "ids": encode(item, False), "special_ids": encode(item, True)}
        # Characters that some tools take for the end of a line are written as escapes.
        print(ODD.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(item, ensure_ascii=False)))


if __name__ == "__main__":
    main()
