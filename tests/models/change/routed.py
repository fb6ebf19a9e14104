"""Outputs of routers in plain forwards, and a hash of everything that an intervention could change."""

import hashlib

import torch
from tiny import FAMILIES

from turnout.models.change.intervene import fewest_left

MOES = [family for family in FAMILIES if family not in ("llama4_text", "jetmoe", "llama")]
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [9, 8], [30, 31, 32, 33]]
LETTERS = [[1, 2, 3, 4]] * 3
IDS = torch.tensor([PROMPTS[0]])


def state(model):
    """A hash of everything that an intervention could change: weights, hooks, attributes, configuration."""
    sha = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        sha.update(f"{name} {tensor.dtype} {tensor.requires_grad} {id(tensor)}".encode())
        sha.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, module in model.named_modules():
        hooks = [v for k, v in sorted(module.__dict__.items()) if "hooks" in k]
        plain = {k: v for k, v in module.__dict__.items() if isinstance(v, int | float | str | bool | None)}
        sha.update(f"{name} {hooks} {sorted(plain.items())} {sorted(module.__dict__)}".encode())
    sha.update(model.config.to_json_string().encode())
    return sha.hexdigest()


def routed(moe, ids=IDS):
    """Each router's output in a plain forward, and the logits."""
    outputs = {}
    handles = [
        layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: outputs.__setitem__(n, out))
        for layer in moe.layers
    ]
    with torch.no_grad():
        logits = moe.model(input_ids=ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return outputs, logits


def most_chosen(moe, n):
    """In each layer the experts most often chosen without a mask, as many as can be masked, at most n."""
    outputs, _ = routed(moe)
    experts = {}
    for layer in moe.layers:
        order = torch.bincount(outputs[layer.layer][2].flatten(), minlength=layer.n_experts).argsort(descending=True)
        chosen = []
        for e in order.tolist():
            if len(chosen) < n and fewest_left(layer, [*chosen, e]) >= layer.top_k:
                chosen.append(e)
        experts[layer.layer] = chosen
    return experts
