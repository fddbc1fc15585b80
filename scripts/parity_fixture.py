#!/usr/bin/env python3
"""Writes LaTRO's numbers for a model as PyTorch computes them, for comparison: tests/fixtures/parity*/.

Install:  pip install -r requirements.txt
Run:      parity_fixture.py --model ../tests/fixtures/tiny.gguf --tasks ../tests/fixtures/tiny-train.jsonl \
                            --out ../tests/fixtures/parity

adapter/                  a PEFT adapter on all seven linear layers, rank 2, with random A and B
rollouts.jsonl            three tasks with four rationales each, sampled from that policy (hot); one is empty
expected.jsonl            for each task: log-probabilities, rewards, advantages, loss (arXiv 2411.04282, eq. 4-5)
gradients.safetensors     the gradient of the mean loss for every tensor of the adapter, under its name

transformers reads the GGUF file and computes the model, PEFT the adapter, autograd the gradient: all in f64 (except
norms and rotary angles, which transformers keeps in f32), one branch at a time, without padding or caches.
"""
import argparse
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TARGETS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
BETA, WEIGHT = 0.05, 1.0
TASKS, K, LONGEST = 3, 4, 48
HEAT = 1.4  # sampling temperature: rationales that differ more than the model's own


def encode(tok, text):
    return tok(text, add_special_tokens=False).input_ids


def with_adapter(model):
    config = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    return model


def sample(model, tok, prompt):
    """A rationale: up to the end of the turn, the answer's line or the limit."""
    ids, stop = list(prompt), tok.convert_tokens_to_ids("<|im_end|>")
    while len(ids) < len(prompt) + LONGEST:
        logits = model(torch.tensor([ids])).logits[0, -1]
        token = torch.multinomial((logits / HEAT).softmax(-1), 1).item()
        if token == stop or "\n" in tok.decode([token]):
            break
        ids.append(token)
    return ids[len(prompt) :]


def rollouts(model, tok, tasks):
    end = tok.convert_tokens_to_ids("<|im_end|>")
    for i, task in enumerate(tasks):
        content = task["question"] + " Let's think step by step."
        text = tok.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        prompt = encode(tok, text)
        rationales = [sample(model, tok, prompt) for _ in range(K)]
        if i == 1:
            rationales[2] = []
        answer = encode(tok, f"\nThe answer is {task['answer']}.") + [end]
        yield {"prompt_ids": prompt, "answer_ids": answer, "rationales": rationales}


def log_probs(model, prompt, text):
    """log p of every token of `text` after `prompt`, in nats."""
    logits = model(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(text)[:, None])[:, 0]


def judge(model, task):
    """The numbers of one task, and its loss with a gradient."""
    prompt, answer, branches = task["prompt_ids"], task["answer_ids"], task["rationales"]
    tokens = [log_probs(model, prompt, z + answer) for z in branches]
    with torch.no_grad(), model.disable_adapter():
        reference = torch.stack([log_probs(model, prompt, z + answer)[: len(z)].sum() for z in branches])
    rationale = torch.stack([t[: len(z)].sum() for t, z in zip(tokens, branches)])
    likelihood = torch.stack([t[len(z) :].sum() for t, z in zip(tokens, branches)])
    reward = (likelihood - BETA * (rationale - reference)).detach()
    others = (reward.sum() - reward) / (len(branches) - 1)
    advantage = reward - others
    loss = -(advantage * rationale + WEIGHT * likelihood).mean()
    numbers = {"logp_rationale": rationale, "ref_logp_rationale": reference, "logp_answer": likelihood,
               "reward": reward, "advantage": advantage, "loss": loss, "token_logp": torch.cat(tokens)}
    return loss, {name: x.tolist() for name, x in numbers.items()}


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


def save_adapter(model, base, out):
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(out, save_embedding_layers=False)
    os.remove(os.path.join(out, "README.md"))  # a model card without content
    path = os.path.join(out, "adapter_config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config["target_modules"].sort()  # was a set, in another order every time
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="the GGUF file")
    p.add_argument("--tasks", required=True, help="tasks as JSON lines, tiny-train.jsonl")
    p.add_argument("--out", required=True, help="folder for the fixture")
    p.add_argument("--seed", type=int, default=7)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    folder, name = os.path.split(os.path.abspath(a.model))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    base = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    model = with_adapter(base).double().eval()
    with open(a.tasks, encoding="utf-8") as f:
        tasks = [json.loads(line) for line in f]
    tasks = [t for t in tasks if t["question"].startswith("Add")][:TASKS]  # asked so, the model works in steps
    with torch.no_grad():
        sampled = list(rollouts(model, tok, tasks))

    numbers = []
    for task in sampled:
        loss, expected = judge(model, task)
        (loss / len(sampled)).backward()
        numbers.append(expected)

    os.makedirs(a.out, exist_ok=True)
    gradients = {
        name.replace(".default.", "."): p.grad.float() for name, p in model.named_parameters() if p.requires_grad
    }
    model.float()
    save_adapter(model, name, os.path.join(a.out, "adapter"))
    write_lines(os.path.join(a.out, "rollouts.jsonl"), sampled)
    write_lines(os.path.join(a.out, "expected.jsonl"), numbers)
    save_file(gradients, os.path.join(a.out, "gradients.safetensors"), metadata={"format": "pt"})
    lengths = [[len(z) for z in task["rationales"]] for task in sampled]
    print(f"{len(gradients)} tensors; rationales of {lengths} tokens; rewards", [n["reward"] for n in numbers])


if __name__ == "__main__":
    main()
