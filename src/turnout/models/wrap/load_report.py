"""What transformers reports of a load, held against the files: missing, unused and narrowed tensors, each by name."""

import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from turnout.errors import ModelError
from turnout.models.checkpoint.contents import Contents, unused_note
from turnout.models.checkpoint.files import Stored
from turnout.models.checkpoint.leftovers import is_computed, is_in_model, is_leftover
from turnout.models.checkpoint.quantized import FLOATS, Quantized
from turnout.models.checkpoint.reading import read_weight

_BIASES = ("correction_bias", "expert_bias", "moe_statics")  # these change a router's choice and not its weights
_ROUTERS = ("gate", "router")


def load_error(source: str, error: Exception) -> ModelError:
    """A failed load in one line, which names the tensor where transformers' message refers to its report for it."""
    received = _from_report(error) or _first_line(error)
    return ModelError(source, expected="a checkpoint that transformers can load", received=received)


def check_report(
    model: PreTrainedModel, report: Mapping[str, Any], contents: Contents | None, source: str
) -> tuple[str, ...]:
    """Refuse a load in which a weight is missing, or a weight of the model's own layers is unused.

    Returns:
        Notes on everything else that was stored and is not used.

    Raises:
        ModelError: names the first such weight.
    """
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            source,
            expected="every weight in the checkpoint",
            received=f"none for {_listed(missing)}",
            do="the checkpoint is incomplete",
        )
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    unused = [name for name in sorted(report["unexpected_keys"]) if not is_computed(name)]
    others = [name for name in unused if not is_leftover(name, n_layers)]
    lost = [name for name in others if is_in_model(name, model.base_model_prefix)]
    if lost:
        raise ModelError(
            source,
            expected=f"weights that {type(model).__name__} uses",
            received=_listed(lost),
            do="the model would ignore them: the configuration is of another architecture or version",
        )
    if contents is None:
        return unused_note(unused)
    return (*contents.notes, *unused_note(others))


@torch.no_grad()
def restore_precision(model: PreTrainedModel, contents: Contents) -> tuple[str, ...]:
    """Keep biases that correct a router's choice in the precision that they are stored in, as their families do.

    transformers narrows some families' to the model's dtype, where many tokens then choose other experts.

    Returns:
        A note on router weights that are stored in a wider dtype than the model has, where there are any.
    """
    narrowed, stored_tensors = [], _by_numbers(contents)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        parts = name.split(".")
        is_bias = parts[-1].endswith(_BIASES) or any(part in _BIASES for part in parts)
        if (not is_bias and not any(part in _ROUTERS for part in parts)) or tensor.is_meta:
            continue
        stored = _stored(name, tensor, stored_tensors)
        if stored is None:
            continue
        if is_bias:
            wide = read_weight(*stored).view(tensor.shape)
            tensor.data = wide.to(tensor.device)
        else:
            narrowed.append((name, stored[1].dtype, tensor.dtype))
    if not narrowed:
        return ()
    name, wide_dtype, dtype = narrowed[0]
    rest = f" and {len(narrowed) - 1} more" if len(narrowed) > 1 else ""
    stored_as = str(FLOATS[wide_dtype]).removeprefix("torch.")
    return (f"stored in {stored_as}, used in {str(dtype).removeprefix('torch.')}: {name}{rest}",)


def _by_numbers(contents: Contents) -> dict[tuple[str, ...], list[tuple[str, Stored]]]:
    """Tensors stored as floats, by the numbers in their names."""
    result: dict[tuple[str, ...], list[tuple[str, Stored]]] = defaultdict(list)
    for name, stored in contents.weights.items():
        if stored.dtype in FLOATS and not isinstance(stored, Quantized):
            result[_numbers(name)].append((name, stored))
    return result


def _stored(
    name: str, tensor: Tensor, by_numbers: Mapping[tuple[str, ...], list[tuple[str, Stored]]]
) -> tuple[str, Stored] | None:
    """The stored tensor that `tensor` was narrowed from; None if it has the stored precision.

    Names on disk may be others than the model's: of a layer's tensors it is the one with the same numbers.
    """
    for stored_name, stored in by_numbers.get(_numbers(name), ()):
        wider = FLOATS[stored.dtype].itemsize > tensor.dtype.itemsize
        if wider and torch.Size(stored.shape).numel() == tensor.numel() and _ends_alike(stored_name, name):
            wide = read_weight(stored_name, stored)
            if torch.equal(wide.to(tensor.dtype).view(tensor.shape), tensor.cpu()):
                return stored_name, stored
    return None


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split(".") if part.isdigit())


def _ends_alike(stored: str, name: str) -> bool:
    """Whether both are biases or both are not."""
    return stored.rpartition(".")[2].endswith("bias") == name.rpartition(".")[2].endswith("bias")


def _from_report(error: BaseException) -> str | None:
    """The tensors of transformers' loading report, from the frame that raised `error`; None if it had none."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        info = frame.f_locals.get("loading_info")
        mismatched = sorted(getattr(info, "mismatched_keys", ()) or ())
        if mismatched:
            name, stored, needed = mismatched[0]
            rest = f" and {len(mismatched) - 1} more" if len(mismatched) > 1 else ""
            return f"{name} {list(stored)} for {list(needed)}{rest}"
        failed = getattr(info, "conversion_errors", None) or {}
        if failed:
            name, reason = next(iter(sorted(failed.items())))
            return f"{name}: {_reason(reason)}" + (f" and {len(failed) - 1} more" if len(failed) > 1 else "")
    return None


def _reason(report: str) -> str:
    """The exception's own line of a conversion's report, which is a traceback and what follows it."""
    lines = [line for line in report.splitlines() if line.strip()]
    raised = [line for line in lines if line[0].isalpha() and "Error" in line.split(":")[0] and ":" in line]
    return (raised or lines or ["it could not be converted"])[0]


def _listed(names: Iterable[str]) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else first


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
