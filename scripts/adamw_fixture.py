#!/usr/bin/env python3
"""Writes tests/fixtures/adamw.json: what torch.optim.AdamW and clip_grad_norm_ do to two small tensors.

    pip install torch
    scripts/adamw_fixture.py > tests/fixtures/adamw.json

The learning rate changes from step to step, as under a schedule. Gradients are given before clipping.
"""
import json

import torch

SHAPES = ([2, 3], [4, 2])
CASES = (
    {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "max_norm": 1.0},
    {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1, "max_norm": 2.5},
)
RATES = (1e-2, 2e-2, 1.5e-2, 5e-3)


def flat(tensors):
    return [t.detach().flatten().tolist() for t in tensors]


def case(settings):
    params = [torch.nn.Parameter(0.5 * torch.randn(shape)) for shape in SHAPES]
    optimizer = torch.optim.AdamW(
        params,
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        foreach=False,
    )
    begin, steps = flat(params), []
    for rate in RATES:
        for p in params:
            p.grad = torch.randn_like(p)
        grads = flat(p.grad for p in params)
        norm = torch.nn.utils.clip_grad_norm_(params, settings["max_norm"]).item()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        steps.append({"learning_rate": rate, "grads": grads, "norm": norm, "params": flat(params)})
    return settings | {"begin": begin, "steps": steps}


def main():
    torch.manual_seed(20)
    print(json.dumps({"torch": torch.__version__, "shapes": SHAPES, "cases": [case(dict(c)) for c in CASES]}))


if __name__ == "__main__":
    main()
