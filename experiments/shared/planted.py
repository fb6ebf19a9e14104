"""Traces whose truth is known, at the boundaries of the claim.

A sample's scores are the softmax of its domain's log-odds plus what its subject and the sample itself add, so that
questions of one subject resemble each other. The truth (each domain's mean score) is known from a large draw.

Shapes: S samples, D domains, E experts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from turnout.auditing.evidence.bootstrap import Clusters

Floats = NDArray[np.float64]
_TRUTH_SAMPLES = 20_000


@dataclass(frozen=True, kw_only=True)
class Design:
    """How large a planted trace is and how noisy.

    Noise is the standard deviation of log-odds, between subjects and between a subject's samples.
    """

    domains: int = 9
    subjects: int = 12
    samples: int = 8
    experts: int = 32
    top_k: int = 4
    subject_noise: float = 0.3
    sample_noise: float = 0.5

    def clusters(self) -> Clusters:
        """Every domain has the same number of subjects, every subject the same number of samples."""
        domain_S = np.repeat(np.arange(self.domains), self.subjects * self.samples)
        subject_S = np.repeat(np.arange(self.domains * self.subjects), self.samples)
        return Clusters(domain_S, subject_S, self.domains)


@dataclass(frozen=True, eq=False)
class Planted:
    """A planted structure: log-odds of each expert in each domain, and who was planted as core."""

    name: str
    logits_DE: Floats
    members: tuple[int, ...]


def draw(planted: Planted, design: Design, rng: np.random.Generator) -> Tensor:
    """One trace: scores [S, E] float64, samples in the order of `design.clusters()`."""
    shape = (design.domains, design.subjects, design.samples, design.experts)
    logits = planted.logits_DE[:, None, None]
    logits = logits + design.subject_noise * rng.standard_normal((*shape[:2], 1, design.experts))
    logits = logits + design.sample_noise * rng.standard_normal(shape)
    return torch.softmax(torch.from_numpy(logits), -1).reshape(-1, design.experts)


def truth(planted: Planted, design: Design, seed: int = 0) -> Tensor:
    """[D, E]: the mean scores that traces are drawn around."""
    noise = float(np.hypot(design.subject_noise, design.sample_noise))
    rng = np.random.default_rng(seed)
    added = noise * rng.standard_normal((_TRUTH_SAMPLES, design.experts))
    return torch.stack([torch.softmax(torch.from_numpy(row + added), -1).mean(0) for row in planted.logits_DE])


def uniform(design: Design) -> Planted:
    """No structure at all."""
    return Planted("uniform", np.zeros((design.domains, design.experts)), ())


def domain_routing(design: Design, odds: float = 8.0) -> Planted:
    """Each domain has K experts of its own and no two share one (as far as the experts last)."""
    logits_DE = np.zeros((design.domains, design.experts))
    for d in range(design.domains):
        logits_DE[d, (d * design.top_k + np.arange(design.top_k)) % design.experts] = np.log(odds)
    return Planted("domain routing", logits_DE, ())


def concentrated_but_specific(design: Design) -> Planted:
    """K experts hold most of the mass on average, but hardly any in a third of the domains: no invariance."""
    logits_DE = _raised(design, tuple(range(design.top_k)), np.log(30.0))
    for d in range(0, design.domains, 3):
        logits_DE[d] = np.roll(logits_DE[d], design.top_k)
    return Planted("concentrated but specific", logits_DE, ())


def invariant_but_diffuse(design: Design) -> Planted:
    """The same mild preference in every domain: K experts a little above the others."""
    members = tuple(range(design.top_k))
    return Planted("invariant but diffuse", _raised(design, members, np.log(1.6)), members)


def core_covering(share: float, design: Design) -> Planted:
    """K − 1 experts that cover exactly `share` of the mass in every domain."""
    members = tuple(range(design.top_k - 1))
    planted = Planted(f"core covering {share:.2f}", np.zeros((design.domains, design.experts)), members)

    def covered(bonus: float) -> float:
        one = Planted("", _raised(design, members, bonus)[:1], members)
        return truth(one, design)[0, list(members)].sum().item()

    return Planted(planted.name, _raised(design, members, _solve(covered, share)), members)


def invariance_at(ratio: float, design: Design, share: float = 0.7) -> Planted:
    """A core whose least domain covers `ratio` of what the core covers on average, all other domains alike."""
    members = tuple(range(design.top_k - 1))
    logits_DE = core_covering(share, design).logits_DE.copy()

    def least(bonus: float) -> float:
        logits_DE[0] = _raised(design, members, bonus)[0]
        by_domain = truth(Planted("", logits_DE[:2], members), design)[:, list(members)].sum(1)
        mean = (by_domain[0] + (design.domains - 1) * by_domain[1]) / design.domains
        return (by_domain[0] / mean).item()

    logits_DE[0] = _raised(design, members, _solve(least, ratio))[0]
    return Planted(f"least domain at {ratio:.2f}", logits_DE, members)


def noisy_members(noise: float, design: Design, rng: np.random.Generator, odds: float = 2.0) -> Planted:
    """Three members at `odds` times the others, whose log-odds vary between domains with standard deviation `noise`."""
    members = (0, 1, 2)
    logits_DE = _raised(design, members, np.log(odds))
    logits_DE += noise * rng.standard_normal(logits_DE.shape)
    return Planted(f"three members, domain noise {noise}", logits_DE, members)


def _raised(design: Design, members: tuple[int, ...], bonus: float) -> Floats:
    logits_DE = np.zeros((design.domains, design.experts))
    logits_DE[:, list(members)] = bonus
    return logits_DE


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a rising function of log-odds is `target`."""
    low, high = -10.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high
