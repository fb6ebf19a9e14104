"""Time spent on the coupling term: in a forward by the clock, in a backward between two gradients."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import Node

Mark = float | torch.cuda.Event


class Stopwatch:
    """Sum of time spans on one device; on CUDA from events, so that nothing waits before the sum is read.

    Args:
        clock: the clock of other devices, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spans: list[tuple[Mark, Mark]] = []

    def mark(self, device: torch.device) -> Mark:
        """The present time on `device`."""
        if device.type != "cuda":
            return self._clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def add(self, start: Mark, device: torch.device) -> None:
        """Add the time since `start`."""
        self._spans.append((start, self.mark(device)))

    def time_backward(self, first: Tensor, last: Node) -> None:
        """Add the time from the gradient of `first` to the end of node `last` in the next backward pass."""
        started: list[Mark] = []
        first.register_hook(lambda _: started.append(self.mark(first.device)))
        last.register_hook(lambda *_: self.add(started.pop(), first.device) if started else None)

    def take(self) -> float:
        """Seconds since the last call, and reset."""
        spans, self._spans = self._spans, []
        return sum(_seconds(start, end) for start, end in spans)


def _seconds(start: Mark, end: Mark) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float)
        assert isinstance(end, float)
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3
