"""A plain alignment loop: whole forwards with autograd, full-vocabulary head, no batching."""

import torch
from torch.nn import functional


def plain_losses(moe, layers, prompts, answers, letters, near, weights, config, steps):
    """(cross-entropy, manifold loss) of each step over all questions at once; the model's routers are trained in place.

    `near`: indices of each question's neighbors; `weights`: their weights. Targets are the base routers' routing.
    """
    model, trained = moe.model.eval(), [layer.router.weight for layer in layers]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=config["learning_rate"], weight_decay=0.01)

    def read(ids):
        router_logits = {}
        handles = [
            layer.router.register_forward_hook(lambda _, __, out, n=layer.layer: router_logits.update({n: out[0][-1]}))
            for layer in layers
        ]
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits, torch.cat([router_logits[layer.layer].softmax(-1) for layer in layers])

    with torch.no_grad():
        base = torch.stack([read(ids)[1] for ids in prompts])
    losses = []
    for _ in range(steps):
        cross_entropy = manifold = 0.0
        for i, ids in enumerate(prompts):
            logits, routing = read(ids)
            cross_entropy = cross_entropy + functional.cross_entropy(logits[letters], torch.tensor(answers[i]))
            for j, weight in zip(near[i], weights[i], strict=True):
                manifold = manifold + weight * ((routing - base[j]) ** 2).sum()
        cross_entropy, manifold = cross_entropy / len(prompts), manifold / len(prompts)
        optimizer.zero_grad()
        (cross_entropy + config["weight"] * manifold).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append((cross_entropy.item(), manifold.item()))
    return losses
