"""Documents of one sequence that do not see each other: positions start anew with each.

transformers takes such positions for documents packed side by side and lets none attend to another. Not every family
does: some mix tokens by other means than attention, or build masks of their own. A model is asked before it trains.

Shapes: T tokens of a sequence.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from turnout.errors import RecipeError

_ROUNDING = 200  # steps of the dtype, of the largest logit; measured: below 30; 800 of a fresh model's convolutions


def positions(ids_T: Tensor, end: int) -> Tensor:
    """Each token's position in its own document [T]; a document ends with the token `end`."""
    at_T = torch.arange(len(ids_T))
    first_T = pad(ids_T[:-1] == end, (1, 0))
    return at_T - torch.where(first_T, at_T, 0).cummax(0).values


def require_isolation(model: PreTrainedModel) -> None:
    """Refuse a model that reads a second document otherwise behind a first one than alone.

    Raises:
        RecipeError: such a model.
    """
    ids = torch.arange(2, 18, device=model.device).remainder(model.config.get_text_config().vocab_size)[None]
    half = ids.shape[1] // 2
    at = torch.arange(half, device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone, behind = (
            model(input_ids=tokens, position_ids=places[None], use_cache=False).logits[:, -half:]
            for tokens, places in ((ids[:, half:], at), (ids, torch.cat([at, at])))
        )
    model.train(was_training)
    if (behind - alone).abs().max() > _ROUNDING * torch.finfo(alone.dtype).eps * alone.abs().max():
        expected = "a model that keeps documents of one sequence apart"
        do = "leave it out, or choose another architecture"
        raise RecipeError("data.isolated", expected=expected, received=model.config.model_type, do=do)
