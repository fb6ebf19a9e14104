import torch
from jaxtyping import Float
from torch import Tensor

from turnout.ops._inputs import check_shape, refuse, wide


def gate_norms(inputs_TH: Float[Tensor, "T H"], gate_HI: Float[Tensor, "H I"]) -> Float[Tensor, "T"]:
    """‖x W_g‖₂ of each input x: how strongly one expert's gate answers it, before the activation.

    With the router's rows as inputs this is the expert's column of M (arXiv 2512.23447, step 2), as `activation_norms`
    gives it for all experts. The product is in the gate's dtype; squares are summed in at least float32.

    Returns:
        [T], float64 where `gate_HI` is, else float32.
    """
    check_shape("inputs_TH", inputs_TH, "T H")
    check_shape("gate_HI", gate_HI, "H I")
    if len(gate_HI) != inputs_TH.shape[1]:
        refuse("gate_HI", f"shape [{inputs_TH.shape[1]}, 'I'], as wide as the inputs", list(gate_HI.shape))
    with torch.autocast(gate_HI.device.type, enabled=False):
        return product_norms(inputs_TH.to(gate_HI.dtype), gate_HI)


def product_norms(inputs_TH: Tensor, gate_HI: Tensor) -> Tensor:
    """`gate_norms` of tensors of one dtype, unchecked: what each step of a training computes for each expert."""
    return torch.linalg.vector_norm(inputs_TH @ gate_HI, dim=1, dtype=wide(gate_HI[:0]).dtype)
