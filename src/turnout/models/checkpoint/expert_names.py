"""Places of the routers and gate matrices in a checkpoint, from tensor names and shapes alone; no file is read.

Names are matched by pattern. A *block* is the part of a name before the experts ("model.layers.3.mlp"). Three spellings
are common, each with one tensor per expert or one for all: gate_proj/up_proj/down_proj (gate_up_proj where the first
two are joined), w1/w3/w2, and fc1/fc3/fc2. The rest follows from shapes: the width H is the router's, the expert width
I the last matrix's other side, and a first matrix with 2·I columns contains gate and up.

Shapes: N routed experts of a layer, H hidden size, I expert width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.errors import ModelError
from turnout.models.checkpoint.leftovers import is_leftover


@dataclass(frozen=True)
class Spelling:
    """Names of an expert's matrices: the first, the up matrix beside it if the first is a gate alone, and the last."""

    first: str
    beside: str
    last: str


SPELLINGS = (
    Spelling("gate_up_proj", "", "down_proj"),
    Spelling("gate_proj", "up_proj", "down_proj"),
    Spelling("w1", "w3", "w2"),
    Spelling("fc1", "fc3", "fc2"),
    Spelling("input_linear", "", "output_linear"),
    Spelling("up_proj", "", "down_proj"),  # no gate: the first matrix is used instead
)

# Model types whose joined matrix alternates gate and up column by column instead of keeping each together.
INTERLEAVED = {"gpt_oss": "GptOssExperts takes gate_up[..., ::2] as the gate"}

_MATRICES = "|".join(sorted({m for s in SPELLINGS for m in (s.first, s.beside, s.last) if m}))
_OF_ONE = re.compile(rf"(?P<block>.+?)\.experts\.(?P<expert>\d+)\.(?P<matrix>{_MATRICES})\.weight")
_OF_ALL = re.compile(rf"(?P<block>.+?)\.(?:experts\.)?(?P<matrix>{_MATRICES})(?:\.weight)?")
_ROUTER = re.compile(r"(?P<block>.+?)\.(?:experts\.)?(?:gate|router)(?:\.\w+)*\.weight")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True)
class Gate:
    """Place of one expert's gate matrix W_g [H, I].

    Attributes:
        name: the tensor's name.
        expert: this expert's index in the tensor; None where the tensor is this expert's alone.
        transposed: the matrix is stored [H, I or 2I], not [I or 2I, H].
        start, stop, step: the gate's part of the I or 2I.
    """

    name: str
    expert: int | None
    transposed: bool
    start: int
    stop: int
    step: int


@dataclass(frozen=True)
class Place:
    """One MoE layer: its number, the router's tensor [N, H] and each expert's gate."""

    layer: int
    router: str
    gates: tuple[Gate, ...]
    width: int
    expert_width: int
    gated: bool


@dataclass
class _Block:
    """Tensors of one block: fused matrices by name, single experts' matrices by name and number, routers."""

    fused: dict[str, str] = field(default_factory=dict)
    single: dict[str, dict[int, str]] = field(default_factory=dict)
    routers: list[str] = field(default_factory=list)


def is_wanted(name: str) -> bool:
    """Whether a tensor may be a router or an expert's matrix; those of prediction heads and vision towers are not."""
    return not is_leftover(name, None) and any(p.fullmatch(name) for p in (_OF_ONE, _OF_ALL, _ROUTER))


def places(shapes: Mapping[str, tuple[int, ...]], model_type: str, n_layers: int | None, where: object) -> list[Place]:
    """One `Place` for each MoE layer, by number.

    Args:
        shapes: the shape of every tensor that `is_wanted`.
        model_type: the configuration's model type.
        n_layers: number of decoder layers; tensors beyond them (of a prediction head) are left out. None if unknown.
        where: the checkpoint, as an error names it.

    Raises:
        ModelError: no experts, experts without a router or of unequal widths, missing ones, or two MoE layers in one
            decoder layer.
    """
    by_layer: dict[int, Place] = {}
    for name, block in _blocks(shapes).items():
        number = int(_NUMBER.findall(name)[-1])
        spelling = _spelling(block)
        if spelling is None or (n_layers is not None and number >= n_layers):
            continue
        if number in by_layer:
            received = f"two in layer {number}, the second under {name}"
            raise ModelError(where, expected="one router in a decoder layer", received=received)
        by_layer[number] = _place(name, number, block, spelling, shapes, model_type, where)
    if not by_layer:
        received, do = _describe(shapes, model_type)
        raise ModelError(where, expected="a Mixture-of-Experts checkpoint", received=received, do=do)
    return [by_layer[number] for number in sorted(by_layer)]


def _blocks(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, _Block]:
    blocks: dict[str, _Block] = {}

    def block(match: re.Match[str]) -> _Block | None:
        return blocks.setdefault(match["block"], _Block()) if _NUMBER.search(match["block"]) else None

    for name, shape in shapes.items():
        one, of_all, router = (p.fullmatch(name) for p in (_OF_ONE, _OF_ALL, _ROUTER))
        if one and len(shape) == 2 and (at := block(one)):
            at.single.setdefault(one["matrix"], {})[int(one["expert"])] = name
        elif of_all and len(shape) == 3 and (at := block(of_all)):
            at.fused[of_all["matrix"]] = name
        elif router and len(shape) == 2 and (at := block(router)):
            at.routers.append(name)
    return blocks


def _spelling(block: _Block) -> Spelling | None:
    """The first spelling whose first and last matrices both exist."""
    names = block.fused or block.single
    return next((s for s in SPELLINGS if s.first in names and s.last in names), None)


def _place(
    name: str,
    number: int,
    block: _Block,
    spelling: Spelling,
    shapes: Mapping[str, tuple[int, ...]],
    model_type: str,
    where: object,
) -> Place:
    fused = spelling.first in block.fused
    if fused:
        first, last = shapes[block.fused[spelling.first]], shapes[block.fused[spelling.last]]
        n_experts, first, last = first[0], first[1:], last[1:]
    else:
        of_expert = block.single[spelling.first]
        n_experts, first = max(of_expert) + 1, shapes[next(iter(of_expert.values()))]
        last = shapes[next(iter(block.single[spelling.last].values()))]
        _check_complete(name, of_expert, n_experts, {shapes[n] for n in of_expert.values()}, where)
    router, width = _router(name, block, n_experts, shapes, where)
    beside = spelling.beside in (block.fused if fused else block.single)
    transposed, expert_width, joined = _layout(name, first, last, width, where)
    if not joined:
        cut = (0, expert_width, 1)
    else:
        cut = (0, 2 * expert_width, 2) if model_type in INTERLEAVED else (0, expert_width, 1)
    names = [block.fused[spelling.first] if fused else of_expert[e] for e in range(n_experts)]
    gates = tuple(Gate(n, e if fused else None, transposed, *cut) for e, n in enumerate(names))
    return Place(number, router, gates, width, expert_width, joined or beside)


def _check_complete(
    name: str, of_expert: Mapping[int, str], n_experts: int, shapes: set[tuple[int, ...]], where: object
) -> None:
    missing = sorted(set(range(n_experts)) - of_expert.keys())
    if missing:
        raise ModelError(where, expected=f"{n_experts} experts under {name}", received=f"none numbered {missing[0]}")
    if len(shapes) > 1:
        received = f"{len(shapes)} shapes: {', '.join(map(str, sorted(shapes)))}"
        raise ModelError(where, expected=f"experts of one shape under {name}", received=received)


def _router(
    name: str, block: _Block, n_experts: int, shapes: Mapping[str, tuple[int, ...]], where: object
) -> tuple[str, int]:
    """The router's tensor and its width H."""
    fitting = [router for router in block.routers if shapes[router][0] == n_experts]
    if len(fitting) == 1:
        return fitting[0], shapes[fitting[0]][1]
    received = ", ".join(f"{router} {list(shapes[router])}" for router in block.routers) or "none"
    raise ModelError(where, expected=f"one router with {n_experts} rows under {name}", received=received)


def _layout(
    name: str, first: tuple[int, ...], last: tuple[int, ...], width: int, where: object
) -> tuple[bool, int, bool]:
    """Whether the first matrix is stored [H, …], the expert width I, and whether the first matrix contains gate and up.

    Where both sides of the first matrix are H, the last one decides the orientation; if that is square too, it is a
    linear layer's.
    """
    if width not in first or width not in last:
        received = f"a first matrix {list(first)} and a last one {list(last)}"
        raise ModelError(where, expected=f"experts under {name} of their router's width, {width}", received=received)
    expert_width = last[0] if last[1] == width else last[1]
    if last[0] == width:
        expert_width = last[1]
    out = first[0] if first[1] == width else first[1]
    if out not in (expert_width, 2 * expert_width):
        received = f"a first matrix {list(first)} and a last one {list(last)}"
        raise ModelError(where, expected=f"experts under {name} with matrices of matching widths", received=received)
    square = first[0] == first[1]
    transposed = last[0] != width if square else first[0] == width
    return transposed, expert_width, out == 2 * expert_width


def _describe(shapes: Mapping[str, tuple[int, ...]], model_type: str) -> tuple[str, str | None]:
    """The checkpoint's kind, for an error, and what the user can do."""
    router = next((n for n, shape in shapes.items() if _ROUTER.fullmatch(n) and len(shape) == 2), None)
    if router is None:
        return f"a dense one ({model_type or 'no model_type'})", None
    received = f"a router ({router}) but no experts of a known naming"
    return received, "load it with turnout.load and pass the live model"
