"""`turnout.couple` and `turnout.uncouple`: the ERC loss in a model's own training loss (arXiv 2512.23447)."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from turnout.api.deprecated import former_names
from turnout.coupling.config import Alpha, CoupleConfig, Gradient, LossTerm, Pairing, Place, Reduction

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from turnout.coupling.handle import Coupling
    from turnout.models.wrap.anatomy import MoE


@former_names(normalised="normalized")
def couple(
    model: "PreTrainedModel | MoE | nn.Module",
    alpha: Alpha = 1.0,
    weight: float = 1.0,
    *,
    gradient: Gradient = "both",
    reduction: Reduction = "mean",
    noise: bool = True,
    pairing: Pairing = "own",
    normalized: bool = False,
    layers: Collection[int] | None = None,
    seed: int = 0,
    place: Place = "gate",
    term: LossTerm = "erc",
) -> "Coupling":
    """Make a MoE add the ERC loss (arXiv 2512.23447) to its own loss whenever it trains; in place.

    >>> turnout.couple(model, alpha=1.0, weight=1.0)
    >>> loss = model(input_ids=ids, labels=ids).loss  # with the term, if model.training; the logits do not change

    It works in a plain loop, transformers' Trainer, TRL's SFTTrainer and accelerate, with DDP and FSDP2. Under gradient
    accumulation the term counts once for each optimizer step: in a loop that divides each loss by the number of
    micro-batches, and with `num_items_in_batch`, which Trainer passes. Nothing is added in evaluation, under `no_grad`
    and without labels. The model's state dict does not change.

    Args:
        model: a transformers model, a MoE, or a PEFT model: the outermost one whose loss is used.
        alpha: α, 0 or more; a mapping from decoder layer, or a function of the optimizer step.
        weight: weight of the term beside the model's own loss; 0 adds nothing, and computes figures for the callback.
        gradient: where the term's gradient flows: router rows and gate matrices, or one of the two.
        reduction: mean or sum over layers.
        noise: whether proxies are router rows with noise; False is the paper's ablation.
        pairing: "permuted" pairs each proxy with another expert, a control.
        normalized: compute M for rows and matrices of length 1, so that smaller weights do not lower the loss.
        layers: decoder layers to couple; None: every MoE layer.
        seed: seed of noise and permutation.
        place: where in an expert M is computed.
        term: "orthogonality" of the router's rows instead, a baseline.

    Returns:
        The handle: `.step`, `.notes`, `.figures`. `uncouple(model)` undoes the coupling.

    Raises:
        ModelError: a dense model; one whose routers or experts do not fit; one that is coupled already; or one that
            is sharded already: couple it before `fully_shard`.
        RecipeError: a setting that does not fit.
    """
    from turnout.coupling.attach import couple_as

    config = CoupleConfig(
        alpha=alpha,
        weight=weight,
        gradient=gradient,
        reduction=reduction,
        noise=noise,
        pairing=pairing,
        normalized=normalized,
        layers=None if layers is None else tuple(layers),
        seed=seed,
        place=place,
        term=term,
    )
    return couple_as(model, config)


def uncouple(model: "PreTrainedModel | MoE | nn.Module") -> None:
    """Undo `couple`: the model's loss is its own again.

    >>> turnout.uncouple(model)

    Args:
        model: the coupled model.

    Raises:
        ModelError: the model is not coupled.
    """
    from turnout.coupling.attach import coupling_of
    from turnout.errors import ModelError
    from turnout.models.wrap.anatomy import MoE

    coupling = coupling_of(model.model if isinstance(model, MoE) else model)
    if coupling is None:
        raise ModelError("uncouple", expected="a coupled model", received="one that is not")
    coupling.remove()
