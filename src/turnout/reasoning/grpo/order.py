"""The order of problems in each pass over them, which a resumed run repeats."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler


class ByPass(Sampler[int]):
    """A shuffling sampler whose order follows from seed and pass alone.

    TRL's sampler draws one pass after another from one generator, which no checkpoint keeps: a run that goes on in its
    third pass would repeat the order of the first. The first pass is the sampler's own.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        self._sampler, self._seed, self._pass = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each pass, also when it resumes."""
        self._pass = epoch

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator.manual_seed(self._seed + self._pass)
        yield from self._sampler

    def __len__(self) -> int:
        return len(self._sampler)


class OrderByPass:
    """Put before TRL's GRPOTrainer among a class's bases."""

    args: Any

    def _get_train_sampler(self, dataset: Any = None) -> ByPass:
        """TRL's, in an order by pass."""
        return ByPass(super()._get_train_sampler(dataset), self.args.seed)  # type: ignore[misc]  # TRL's
