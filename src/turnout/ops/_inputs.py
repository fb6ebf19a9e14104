"""Checks of the formulas' arguments; an invalid one is a ValueError of one line."""

from typing import NoReturn

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def refuse(name: str, expected: str, received: object) -> NoReturn:
    """Raise the ValueError for an invalid argument."""
    raise ValueError(f"{name}: expected {expected}, got {received}")


def wide(x: Tensor) -> Tensor:
    """`x` in the dtype for computing: float32 for half precision, else its own."""
    return x.float() if x.dtype in _HALF else x


def check_shape(name: str, x: Tensor, dims: str) -> None:
    """Refuse anything but a tensor of floats with the dimensions `dims` ("S E" is two), none of size 0.

    Values are not checked. With `dims` that begin with "*R" any number of leading dimensions is accepted.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        refuse(name, "a tensor of floats", getattr(x, "dtype", type(x).__name__))
    leading, needed = dims.startswith("*R"), len(dims.removeprefix("*R").split())
    if x.dim() < needed or (x.dim() > needed and not leading) or x.numel() == 0:
        refuse(name, f"shape [{', '.join(dims.split())}], none of them 0", list(x.shape))


def check_floats(name: str, x: Tensor, dims: str) -> None:
    """`check_shape`, and refuse NaN and infinity."""
    check_shape(name, x, dims)
    if not bool(torch.isfinite(x).all()):
        at = (~torch.isfinite(x)).nonzero()[0].tolist()
        refuse(name, "finite numbers", f"{x[tuple(at)].item()} at {at}")


def check_amounts(name: str, x: Tensor, dims: str) -> None:
    """`check_floats`, and refuse negative numbers."""
    check_floats(name, x, dims)
    if bool((x < 0).any()):
        refuse(name, "numbers of at least 0", x.min().item())


def check_k(k: int, n_experts: int) -> None:
    """Refuse a number of chosen experts outside 1…E."""
    if not 1 <= k <= n_experts:
        refuse("k", f"1 to {n_experts}, the number of experts", k)


def check_labels(domain_S: Tensor, n_samples: int) -> None:
    """Refuse labels that are not integers, or not one for each sample."""
    if not isinstance(domain_S, Tensor) or domain_S.is_floating_point() or domain_S.dtype == torch.bool:
        refuse("domain_S", "a tensor of integers", getattr(domain_S, "dtype", type(domain_S).__name__))
    if domain_S.shape != (n_samples,):
        refuse("domain_S", f"shape [{n_samples}], a label for each sample", list(domain_S.shape))


def check_domains(domain_S: Tensor, n_samples: int, n_domains: int) -> None:
    """`check_labels`, and refuse labels outside 0…D−1 and domains without a sample."""
    check_labels(domain_S, n_samples)
    if n_domains < 1 or int(domain_S.min()) < 0 or int(domain_S.max()) >= n_domains:
        received = f"{int(domain_S.min())} to {int(domain_S.max())}"
        refuse("domain_S", f"labels from 0 to {n_domains - 1}, n_domains being {n_domains}", received)
    counts_D = torch.bincount(domain_S.long(), minlength=n_domains)
    if not bool(counts_D.all()):
        refuse("domain_S", "a sample in each domain", f"none in domain {int((counts_D == 0).nonzero()[0])}")


def check_members(members: Tensor, n_experts: int) -> None:
    """Refuse expert indices that repeat or lie outside 0…E−1."""
    if not isinstance(members, Tensor) or members.dim() != 1 or members.is_floating_point():
        refuse("members", "a 1-dimensional tensor of expert indices", getattr(members, "shape", type(members).__name__))
    if members.numel() and not 0 <= int(members.min()) <= int(members.max()) < n_experts:
        refuse("members", f"indices from 0 to {n_experts - 1}", members.tolist())
    if members.unique().numel() != members.numel():
        refuse("members", "each expert once", members.tolist())
