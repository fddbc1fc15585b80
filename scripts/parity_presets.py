#!/usr/bin/env python3
"""Writes the numbers of latrod's other objectives as PyTorch computes them: tests/fixtures/parity/presets/.

Install:  pip install -r requirements.txt
Run:      parity_presets.py --model ../tests/fixtures/tiny.gguf --fixture ../tests/fixtures/parity

Takes the adapter and the rationales of parity_fixture.py. With seam `policy` each rationale is followed by an answer
of its own: the announcement is the rationale's end, and the answer, " x.", comes from the task; the last rationale of
the second task announces nothing. The guess is "The answer is" without a rationale.

rollouts.jsonl            the same tasks with those answers and guesses
NAME.jsonl                for each task: rewards, advantages, loss
NAME.safetensors          the gradient of the mean loss for every tensor of the adapter, under its name

| NAME | objective |
|---|---|
| prob, mean_prob | R = max(0, p(y | x, z) - 1.1 p(y | x, guess)), advantages by RLOO, likelihood term R * grad log p |
| jepo | advantages K (log mean p - log mean of the others), weights K p_k / sum p, p as in prob |
| released | the paper's reward with the rationale's last token, no likelihood term, cut rationales 2 * mean |
"""
import argparse
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from parity_fixture import encode, log_probs, write_lines
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

GUESS_WEIGHT, BETA, LEAST = 1.1, 0.05, 1e-3


def with_policy_seam(tok, task, silent):
    """Answers of the rationales' own, and a guess."""
    said = tok.decode(task["answer_ids"]).split("The answer is")[1].split("<|im_end|>")[0]
    own = encode(tok, said)
    answers = [{"ids": own, "span": {"start": 0, "end": len(own) - 1}, "right": False} for _ in task["rationales"]]
    if silent:
        answers[-1] = {"ids": [], "span": {"start": 0, "end": 0}, "right": False}
    announced = [z + encode(tok, " The answer is") for z in task["rationales"]]
    return {"prompt_ids": task["prompt_ids"], "answer_ids": own, "rationales": announced, "answers": answers,
            "guess": encode(tok, "The answer is")}


def likelihood(kind, logps):
    return logps.exp().mean() if kind == "mean_prob" else logps.sum().exp()


def edge(model, task, kind):
    prompt = task["prompt_ids"]
    rationale, p = [], []
    for z, answer in zip(task["rationales"], task["answers"]):
        tokens = log_probs(model, prompt, z + answer["ids"]) if z + answer["ids"] else torch.zeros(0).double()
        rationale.append(tokens[: len(z)].sum())
        p.append(likelihood(kind, tokens[len(z) :]) if answer["ids"] else torch.zeros((), dtype=torch.float64))
    guessed = log_probs(model, prompt, task["guess"] + task["answer_ids"])[len(task["guess"]) :]
    guess = likelihood(kind, guessed).detach()
    rationale, p = torch.stack(rationale), torch.stack(p)
    reward = (p - GUESS_WEIGHT * guess).clamp(min=0).detach()
    k = len(p)
    if kind == "jepo":
        raised = reward + LEAST
        advantage = k * ((raised.sum() / k).log() - ((raised.sum() - raised) / (k - 1)).log())
        # grad of log p_k weighs K p_k / sum p, both less the guess
        weight = k * reward / reward.sum() if reward.sum() > 0 else reward
        term = (weight * p / p.detach().clamp(min=1e-300)).sum()
    else:
        advantage = reward - (reward.sum() - reward) / (k - 1)
        term = (reward / p.detach().clamp(min=1e-300) * p).sum()
    loss = -((advantage * rationale).sum() + term) / k
    return loss, {"reward": reward.tolist(), "advantage": advantage.tolist()}


def released(model, task):
    prompt, answer, branches = task["prompt_ids"], task["answer_ids"], task["rationales"]
    cut = torch.tensor(task["truncated"])
    tokens = [log_probs(model, prompt, z + answer) for z in branches]
    with torch.no_grad(), model.disable_adapter():
        reference = torch.stack([log_probs(model, prompt, z + answer)[: len(z)].sum() for z in branches])
    rationale = torch.stack([t[: len(z)].sum() for t, z in zip(tokens, branches)])
    span = torch.stack([t[max(len(z) - 1, 0) :].sum() for t, z in zip(tokens, branches)]).detach()
    span = torch.where(cut, 2 * span.mean(), span)
    reward = span - BETA * (rationale - reference).detach()
    advantage = reward - (reward.sum() - reward) / (len(branches) - 1)
    return -(advantage * rationale).mean(), {"reward": reward.tolist(), "advantage": advantage.tolist()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="the GGUF file")
    p.add_argument("--fixture", required=True, help="folder of parity_fixture.py; the results go to presets/ in it")
    a = p.parse_args()
    torch.set_num_threads(1)
    folder, name = os.path.split(os.path.abspath(a.model))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    base = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, os.path.join(a.fixture, "adapter"), is_trainable=True).double().eval()
    with open(os.path.join(a.fixture, "rollouts.jsonl"), encoding="utf-8") as f:
        given = [json.loads(line) for line in f]
    seam = [with_policy_seam(tok, task, i == 1) for i, task in enumerate(given)]
    cut = [{**task, "truncated": [k == i for k in range(len(task["rationales"]))]} for i, task in enumerate(given)]
    out = os.path.join(a.fixture, "presets")
    os.makedirs(out, exist_ok=True)
    write_lines(os.path.join(out, "policy-rollouts.jsonl"), seam)
    write_lines(os.path.join(out, "released-rollouts.jsonl"), cut)
    for kind in ["prob", "mean_prob", "jepo", "released"]:
        model.zero_grad(set_to_none=True)
        numbers = []
        for task in cut if kind == "released" else seam:
            loss, expected = released(model, task) if kind == "released" else edge(model, task, kind)
            (loss / len(given)).backward()
            numbers.append(expected)
        gradients = {n.replace(".default.", "."): p.grad.float() for n, p in model.named_parameters() if p.requires_grad}
        write_lines(os.path.join(out, f"{kind}.jsonl"), numbers)
        save_file(gradients, os.path.join(out, f"{kind}.safetensors"), metadata={"format": "pt"})
        print(kind, [n["reward"] for n in numbers])


if __name__ == "__main__":
    main()
