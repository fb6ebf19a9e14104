"""Trials of PLAN.md: name, seed, length and coupling of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RUNS = Path("runs/couple")
LONG, SHORT = 4_096_000, 2_048_000
MAIN, FEW = range(5), range(3)
ALPHAS = (0.4, 0.6, 0.8, 1.0, 2.0, 3.0)
WEIGHTS = (1, 10, 100)
PLACES = ("up", "activated", "gated", "output")  # beside the paper's choice, the gate product

ERC = "erc"


@dataclass(frozen=True)
class Trial:
    """One model to train.

    Args:
        variant: the kind of training; "vanilla" is training without coupling.
        seed: of weights and order of the text.
        tokens: training tokens.
        couple: options of `turnout.couple`; None: figures are logged, no term is added.
        architecture: other than OLMoE.
        norms_of: the trial whose norms of R and W_g this one follows.
    """

    variant: str
    seed: int
    tokens: int
    couple: dict[str, Any] | None = field(default=None)
    architecture: str | None = None
    norms_of: str | None = None

    @property
    def length(self) -> str:
        """Long or short."""
        return "long" if self.tokens == LONG else "short"

    @property
    def name(self) -> str:
        """Name of the folder and of the result."""
        return f"{self.variant}-{self.length}-{self.seed}"


def weights() -> list[Trial]:
    """Part 1, the manipulation check."""
    settings = [
        (f"{ERC}-weight{weight}{'-normalised' * normalised}", {"weight": float(weight), "normalised": normalised})
        for normalised in (False, True)
        for weight in WEIGHTS
    ]
    return [Trial("vanilla", 0, SHORT), *(Trial(name, 0, SHORT, couple) for name, couple in settings)]


def variants(chosen: dict[str, Any]) -> list[Trial]:
    """Part 2 without its norm-matched trials; seed by seed, so that an interruption leaves complete pairs."""
    long = [
        trial
        for seed in MAIN
        for trial in (
            Trial("vanilla", seed, LONG),
            Trial(ERC, seed, LONG, chosen),
            Trial("permuted", seed, LONG, chosen | {"pairing": "permuted"}),
        )
    ]
    short = [
        trial
        for seed in FEW
        for trial in (
            Trial("vanilla", seed, SHORT),
            Trial(ERC, seed, SHORT, chosen),
            Trial("no-noise", seed, SHORT, chosen | {"noise": False}),
            Trial("orthogonality", seed, SHORT, {"term": "orthogonality", "weight": 1.0}),
            Trial("aoe", seed, SHORT, architecture="turnout_aoe"),
        )
    ]
    return long + short


def norm_matched() -> list[Trial]:
    """Trials of part 2 that follow the norms of the short ERC trials."""
    return [Trial("norm-matched", seed, SHORT, norms_of=f"{ERC}-short-{seed}") for seed in FEW]


def alphas(chosen: dict[str, Any]) -> list[Trial]:
    """Part 3; α = 1 is the short ERC of part 2."""
    return [
        Trial(f"{ERC}-alpha{alpha}", seed, SHORT, chosen | {"alpha": alpha})
        for seed in FEW
        for alpha in ALPHAS
        if alpha != 1.0
    ]


def places(chosen: dict[str, Any]) -> list[Trial]:
    """Part 4; the gate product is the short ERC of part 2."""
    return [Trial(f"{ERC}-{place}", seed, SHORT, chosen | {"place": place}) for seed in FEW for place in PLACES]
