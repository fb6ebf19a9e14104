"""Bootstrap resamples of a trace: subjects within domains, then samples within subjects.

Questions of one subject resemble each other, so a subject is the unit that varies. A domain of fewer than ten subjects
says too little about subjects: its samples are resampled instead, and whoever shows the interval must say so.

Shapes: S samples, D domains, E experts, R resamples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Level = Literal["subjects", "samples"]
FEWEST_SUBJECTS = 10


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which domain and which subject each of S samples belongs to.

    Args:
        domain_S: 0…D−1, each with a sample.
        subject_S: any integers; the same subject in two domains counts as two.
        n_domains: D.
    """

    domain_S: NDArray[np.int64]
    subject_S: NDArray[np.int64]
    n_domains: int

    def subjects(self, domain: int) -> list[NDArray[np.int64]]:
        """The sample numbers of each subject of a domain."""
        rows = np.flatnonzero(self.domain_S == domain)
        return [rows[self.subject_S[rows] == subject] for subject in np.unique(self.subject_S[rows])]

    def level(self, domain: int) -> Level:
        """What a domain's intervals rest on."""
        return "subjects" if len(self.subjects(domain)) >= FEWEST_SUBJECTS else "samples"

    def overall_level(self) -> Level:
        """What a figure over all domains rests on: subjects only where each domain does."""
        return "subjects" if all(self.level(d) == "subjects" for d in range(self.n_domains)) else "samples"

    def take(self, rows: NDArray[np.int64]) -> "Clusters":
        """The clusters of some of the samples."""
        return Clusters(self.domain_S[rows], self.subject_S[rows], self.n_domains)


def resample(clusters: Clusters, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """How often each sample is drawn in each of `n` resamples, [R, S].

    A domain keeps its number of subjects, and each drawn subject its number of samples.
    """
    counts_RS = np.zeros((n, len(clusters.domain_S)), np.int32)
    for d in range(clusters.n_domains):
        groups = clusters.subjects(d)
        if clusters.level(d) == "samples":
            groups = [np.concatenate(groups)]
        times_RJ = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=n)
        for j, rows in enumerate(groups):
            # A subject drawn m times brings m independent resamples of its samples: one of m times the size.
            resample_R = np.repeat(np.arange(n), times_RJ[:, j] * len(rows))
            cells = resample_R * len(rows) + rng.integers(len(rows), size=len(resample_R))
            counts_RS[:, rows] = np.bincount(cells, minlength=n * len(rows)).reshape(n, len(rows))
    return counts_RS


def resampled_means(values_SE: Tensor, counts_RS: NDArray[np.int32], clusters: Clusters) -> Tensor:
    """[R, D, E]: each domain's mean of `values_SE` in each resample, in the values' dtype.

    The same as `ops.contribution` of the samples that were drawn, copies included.
    """
    means = []
    for d in range(clusters.n_domains):
        rows = np.flatnonzero(clusters.domain_S == d)
        drawn_RS = torch.from_numpy(counts_RS[:, rows]).to(values_SE.dtype)
        means.append(drawn_RS @ values_SE[torch.from_numpy(rows)] / drawn_RS.sum(1, keepdim=True))
    return torch.stack(means, dim=1)
