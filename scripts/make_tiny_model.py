#!/usr/bin/env python3
"""Makes the tiny model: about a million weights that do small sums in words, mostly carelessly.

The model is the smallest thing that LaTRO can teach something real. It is trained from scratch, in minutes
on a CPU, on questions such as "What is seven plus five plus nine?". It learns two ways of answering:

    in steps       First, seven plus five is twelve. Then twelve plus nine is twenty-one.
                   then the answer, nearly always right
    off the cuff   Let me see.
                   then a guess that is a little off

and usually picks the second. The model has nothing new to learn to do well: it only has to find out that working
in steps makes the right answer likely, which is what LaTRO rewards.

Training has two phases. In the first, the model learns to add, in steps only. In the second, it picks up its
habits: a mixture of careful, sloppy and unfinished steps and of remarks that don't help (`response`).
The questions of the two task files have three summands each and appear in neither phase.

Written into --out:
    tiny.gguf           llama architecture, Q8_0 and Q4_1, byte-level BPE, ChatML template
    tiny-train.jsonl    600 tasks to train on
    tiny-dev.jsonl      200 tasks to evaluate on, with other sums

Install:  pip install -r requirements.txt
Run:      make_tiny_model.py --out ../tests/fixtures

Seeded: the task files and the tokenizer are the same every time. The weights are, too, on the same machine with the
same version of PyTorch and number of threads; elsewhere, expect an equally good model, but not the same bits.
"""
import argparse
import json
import math
import os
import random
import re
import time
from dataclasses import dataclass

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINK = " Let's think step by step."  # what latrod appends to a question
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, IM_START, IM_END = range(3)
VOCABULARY, CONTEXT, ROPE_BASE, EPS = 512, 512, 10000.0, 1e-5
LAYERS, HIDDEN, FFN, HEADS, KV_HEADS = 4, 192, 512, 6, 2
HIGHEST = 12  # the greatest summand

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen " \
        "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty".split()
PEOPLE = "Tom Anna Omar Mei Lena Ravi Zoe Igor".split()
THINGS = "apples pens shells coins books plums stamps beads".split()
# One wording suggests working in steps, so that the untrained model is right now and then.
PLAIN, STORY, LIST = "plain", "story", "list"
WORDINGS = (PLAIN, STORY, LIST)
REMARKS = {"Let me see.": 12, "Hmm.": 3, "That is easy.": 3, "I just know it.": 2, "A sum, then.": 2}
# None of the remarks is empty. An empty rationale has no tokens to discourage, while the answer after it teaches
# the model to answer at once: learning would end there.
# How a response comes about, in shares of 100, after a question that invites steps and after any other.
HABITS = {
    True: {"steps": 52, "sloppy": 5, "short": 5, "remark": 38},
    False: {"steps": 20, "sloppy": 3, "short": 3, "remark": 74},
}
GUESS = 4  # a guess is off by as much as this, all errors being equally likely
# Text in which the tokenizer finds common English letter groups, beside those of the sums.
ENGLISH = """
The quick brown fox jumps over the lazy dog while the other animals of the forest are watching from under the
trees. There is nothing that they could do about it, and nothing that they would rather do. When the morning
comes, everyone goes back to work: some of them gather food, others build houses or look after the children.
Which of these things matters most? It depends on the weather, on the season, and on what each one has learned
before. A small machine that thinks about its own work can become better at it without being told how, as long
as somebody says afterwards whether the result was right. It should never be worse for having tried, so whatever
it has learned is measured first, against questions which it has not seen, and thrown away if it does not help.
"""


@dataclass(frozen=True)
class Question:
    text: str
    summands: tuple[int, ...]
    invites_steps: bool


def words(n):
    if n < 20:
        return UNITS[n]
    tens = TENS[n // 10 - 2]
    return tens if n % 10 == 0 else f"{tens}-{UNITS[n % 10]}"


def ask(rng, summands, wording):
    """A question for the sum of two or three numbers."""
    a, *rest = map(words, summands)
    if wording == PLAIN:
        text = f"What is {' plus '.join([a, *rest])}?"
    elif wording == LIST:
        text = f"Add {', '.join([a, *rest[:-1]])} and {rest[-1]}."
    else:
        who, things = rng.choice(PEOPLE), rng.choice(THINGS)
        more = f"{rest[0]} more" + (f", then {rest[1]} more" if len(rest) > 1 else "")
        text = f"{who} has {a} {things} and finds {more}. How many {things} does {who} have?"
    return Question(text, tuple(summands), wording == LIST)


def steps(summands, slip=0, at=None):
    """The sum step by step, and where it leads. Step `at` is wrong by `slip`."""
    total, text = summands[0], []
    for i, n in enumerate(summands[1:]):
        result = max(0, total + n + (slip if i == at else 0))
        text.append(f"{'Then' if i else 'First,'} {words(total)} plus {words(n)} is {words(result)}.")
        total = result
    return text, total


def weighted(rng, shares):
    return rng.choices(list(shares), list(shares.values()))[0]


def guess(rng, total):
    return max(0, total + rng.randint(-GUESS, GUESS))


def response(rng, q, habit):
    """A rationale and the answer that follows it, both as text."""
    text, total = steps(q.summands)
    if habit == "steps":
        return " ".join(text), total
    if habit == "sloppy":
        slip = rng.choice([-2, -1, 1, 2])
        text, wrong = steps(q.summands, slip, rng.randrange(len(text)))
        return " ".join(text), wrong
    if habit == "short":
        return text[0], guess(rng, total) if len(text) > 1 else total
    return weighted(rng, REMARKS), guess(rng, total)


def prompt(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def example(rng, sums, careful):
    """One piece of training text: (prompt, response). `careful`: phase one."""
    if rng.random() < 0.7:
        summands = rng.choice(sums)
    else:  # every single step there is
        summands = (rng.randint(1, 2 * HIGHEST), rng.randint(1, HIGHEST))
    q = ask(rng, summands, rng.choice(WORDINGS))
    if not careful and rng.random() < 0.08:  # asked for the answer alone
        return prompt(q.text), f"\nThe answer is {words(guess(rng, sum(summands)))}."
    rationale, answer = response(rng, q, "steps" if careful else weighted(rng, HABITS[q.invites_steps]))
    # A rationale is cut before "The answer is" and may keep its last newline, and "\nThe answer is" is put after
    # it. So any number of newlines must read alike: one, and another with the same small chance each time.
    gap = "\n"
    while len(gap) < 5 and rng.random() < 0.2:
        gap += "\n"
    return prompt(q.text + THINK), f"{rationale}{gap}The answer is {words(answer)}."


def all_sums(rng):
    """Every three summands, in three parts without overlap: to train on from nothing, tasks, held-out tasks."""
    span = range(1, HIGHEST + 1)
    sums = [(a, b, c) for a in span for b in span for c in span]
    rng.shuffle(sums)
    return sums[800:], sums[:600], sums[600:800]


def tasks(rng, sums):
    wordings = [WORDINGS[i % len(WORDINGS)] for i in range(len(sums))]
    rng.shuffle(wordings)
    return [{"question": ask(rng, s, w).text, "answer": words(sum(s))} for s, w in zip(sums, wordings)]


def train_tokenizer(rng, sums):
    """Byte-level BPE with each digit apart: `tokenizer.ggml.pre = smollm`."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tok.decoder = decoders.ByteLevel()
    plain = lambda text: re.sub(r"<\|\w+\|>", "", text)  # noqa: E731
    corpus = [plain("".join(example(rng, sums, careful=i % 2 == 0))) for i in range(4000)] + [ENGLISH] * 40
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[AddedToken(s, special=True) for s in SPECIALS],
                                  initial_alphabet=sorted(alphabet), show_progress=False)
    tok.train_from_iterator(corpus, trainer)
    if tok.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has {tok.get_vocab_size()} tokens, not {VOCABULARY}: give it more text")
    return tok


def batch(rng, tok, sums, size, careful):
    """Ids and labels [size, longest]; the question and the padding carry no loss (label -100)."""
    pairs = [example(rng, sums, careful) for _ in range(size)]
    asked = [e.ids for e in tok.encode_batch([p for p, _ in pairs])]
    said = [e.ids + [IM_END] for e in tok.encode_batch([r for _, r in pairs])]
    longest = max(len(p) + len(r) for p, r in zip(asked, said))
    ids = torch.full((size, longest), END_OF_TEXT)
    labels = torch.full((size, longest), -100)
    for row, (p, r) in enumerate(zip(asked, said)):
        ids[row, : len(p) + len(r)] = torch.tensor(p + r)
        labels[row, len(p) : len(p) + len(r)] = torch.tensor(r)
    return ids, labels


def new_model():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=CONTEXT,
        rope_theta=ROPE_BASE, rms_norm_eps=EPS, tie_word_embeddings=True, bos_token_id=IM_START,
        eos_token_id=IM_END, pad_token_id=END_OF_TEXT))


def train(model, tok, rng, sums, count, size, peak, careful):
    """`count` steps of AdamW, warmed up and cooled down to nothing."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    warm, began, seen = max(1, count // 20), time.perf_counter(), 0.0
    model.train()
    for step in range(1, count + 1):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(step / warm, 0.5 * (1 + math.cos(math.pi * step / count)))
        ids, labels = batch(rng, tok, sums, size, careful)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen = loss.item()
        if step % 50 == 0 or step == count:
            print(f"{'careful' if careful else 'habits'} step {step}/{count}  loss {seen:.4f}  "
                  f"{time.perf_counter() - began:.0f} s", flush=True)
    model.eval()


def generate(model, prompts, max_new, sample=False):
    """What the model adds to each prompt. One batch per prompt length, so that nothing is padded."""
    out, by_length = [None] * len(prompts), {}
    for i, p in enumerate(prompts):
        by_length.setdefault(len(p), []).append(i)
    for rows in by_length.values():
        with torch.no_grad():
            ids = torch.tensor([prompts[i] for i in rows])
            new = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new,
                                 do_sample=sample, eos_token_id=[IM_END], pad_token_id=END_OF_TEXT)
        for i, row in zip(rows, new[:, ids.shape[1] :].tolist()):
            out[i] = row
    return out


def think(tok, model, questions, sample=False):
    """The rationale for each question, cut before the phrase, and the ids of prompt and rationale."""
    prompts = [tok.encode(prompt(q + THINK)).ids for q in questions]
    lead, found = tok.encode("\nThe answer is").ids, []
    for p, new in zip(prompts, generate(model, prompts, 48, sample)):
        new = new[: next((i for i, t in enumerate(new) if t == IM_END), len(new))]
        phrase = tok.decode(new).lower().find("the answer is")
        while phrase >= 0 and len(tok.decode(new)) > phrase:
            new = new[:-1]
        found.append((tok.decode(new), p + new + lead))
    return found


def judge(tok, model, dev, sample=False):
    """Share of right answers and share of rationales in steps, as latrod judges them."""
    thought = think(tok, model, [t["question"] for t in dev], sample)
    said = generate(model, [ids for _, ids in thought], 12)
    right = sum(tok.decode(s).split("\n")[0].strip().strip(".") == t["answer"] for s, t in zip(said, dev))
    stepwise = sum("Then" in z for z, _ in thought)
    return right / len(dev), stepwise / len(dev)


def permute(w, heads):
    """Rows of q or k in the order of llama-architecture GGUF files: 2i + j holds row j * d/2 + i of a head."""
    rows, columns = w.shape
    return w.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensors(model):
    """(GGUF name, array, type) of each tensor. Attention and embedding are Q8_0, the FFN is Q4_1."""
    w = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    yield "token_embd.weight", w["model.embed_tokens.weight"], T.Q8_0
    yield "output_norm.weight", w["model.norm.weight"], T.F32
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        yield f"blk.{i}.attn_norm.weight", w[layer + "input_layernorm.weight"], T.F32
        yield f"blk.{i}.attn_q.weight", permute(w[layer + "self_attn.q_proj.weight"], HEADS), T.Q8_0
        yield f"blk.{i}.attn_k.weight", permute(w[layer + "self_attn.k_proj.weight"], KV_HEADS), T.Q8_0
        yield f"blk.{i}.attn_v.weight", w[layer + "self_attn.v_proj.weight"], T.Q8_0
        yield f"blk.{i}.attn_output.weight", w[layer + "self_attn.o_proj.weight"], T.Q8_0
        yield f"blk.{i}.ffn_norm.weight", w[layer + "post_attention_layernorm.weight"], T.F32
        for name in ("gate", "up", "down"):
            yield f"blk.{i}.ffn_{name}.weight", w[f"{layer}mlp.{name}_proj.weight"], T.Q4_1


def write_gguf(path, model, tok):
    out = GGUFWriter(path, "llama")
    out.add_type("model")
    out.add_name("Tiny sums")
    out.add_size_label(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")
    out.add_license("MIT OR Apache-2.0")
    out.add_block_count(LAYERS)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_freq_base(ROPE_BASE)
    out.add_rope_dimension_count(HIDDEN // HEADS)
    out.add_layer_norm_rms_eps(EPS)
    out.add_vocab_size(VOCABULARY)
    out.add_file_type(LlamaFileType.MOSTLY_Q4_1)
    out.add_quantization_version(2)
    by_id = sorted(tok.get_vocab().items(), key=lambda pair: pair[1])
    merges = json.loads(tok.to_str())["model"]["merges"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list([text for text, _ in by_id])
    out.add_token_types([TokenType.CONTROL if text in SPECIALS else TokenType.NORMAL for text, _ in by_id])
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    out.add_bos_token_id(IM_START)
    out.add_eos_token_id(IM_END)
    out.add_unk_token_id(END_OF_TEXT)
    out.add_pad_token_id(END_OF_TEXT)
    out.add_add_bos_token(False)
    out.add_add_space_prefix(False)
    out.add_chat_template(TEMPLATE)
    for name, values, kind in tensors(model):
        values = np.ascontiguousarray(values, dtype=np.float32)
        if kind == T.F32:
            out.add_tensor(name, values)
        else:
            out.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_tasks(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder for the three files")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--careful-steps", type=int, default=700)
    p.add_argument("--habit-steps", type=int, default=250)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--cache", help="keep the weights after phase one in this file, or take them from there")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng, began = random.Random(a.seed), time.perf_counter()
    base, practice, held_out = all_sums(rng)
    train_tasks, dev_tasks = tasks(rng, practice), tasks(rng, held_out)
    tok, model = train_tokenizer(rng, base), new_model()
    os.makedirs(a.out, exist_ok=True)
    write_tasks(os.path.join(a.out, "tiny-train.jsonl"), train_tasks)
    write_tasks(os.path.join(a.out, "tiny-dev.jsonl"), dev_tasks)
    print(f"{sum(p.numel() for p in model.parameters())} weights, {VOCABULARY} tokens, {len(base)} sums to train on")
    if a.cache and os.path.exists(a.cache):
        model.load_state_dict(torch.load(a.cache))
    else:
        train(model, tok, rng, base, a.careful_steps, a.batch, 3e-3, careful=True)
        if a.cache:
            torch.save(model.state_dict(), a.cache)
    right, stepwise = judge(tok, model, dev_tasks)
    print(f"when careful: accuracy {right:.3f}, in steps {stepwise:.3f}", flush=True)
    train(model, tok, rng, base, a.habit_steps, a.batch, 1e-3, careful=False)
    for name, sample in (("greedy", False), ("sampled", True)):
        right, stepwise = judge(tok, model, dev_tasks, sample)
        print(f"with its habits, {name}: accuracy {right:.3f}, in steps {stepwise:.3f} (n = {len(dev_tasks)})")
    path = os.path.join(a.out, "tiny.gguf")
    write_gguf(path, model, tok)
    print(f"{path}: {os.path.getsize(path)} bytes, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
