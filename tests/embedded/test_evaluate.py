"""Bits of tokens in overlapping windows against single forwards."""

import numpy as np
import pytest
import tiny
import torch

from turnout.embedded import evaluate
from turnout.models.wrap.anatomy import read


@pytest.mark.parametrize("length", [10, 16, 40, 43])
def test_windows_score_each_token_once_with_enough_context(monkeypatch, length):
    monkeypatch.setattr(evaluate, "WINDOW", 16)
    monkeypatch.setattr(evaluate, "STRIDE", 8)
    moe = read(tiny.random_model("olmoe"))
    ids = np.random.default_rng(0).integers(0, 256, length).astype(np.uint16)
    bits = evaluate.token_bits(moe, ids)
    whole = torch.from_numpy(ids.astype(np.int64))[None]
    with torch.no_grad():
        log_p = moe.model(input_ids=whole[:, :16]).logits[0].log_softmax(-1)
    n = min(15, length - 1)
    expected = -log_p[torch.arange(n), whole[0, 1 : n + 1]].numpy() / np.log(2)
    assert bits.shape == (length - 1,)
    assert bits[:n] == pytest.approx(expected, rel=1e-4)
    if length > 16:  # windows start at 0, 7, 14, 21, 28: the last token has the whole last window before it
        with torch.no_grad():
            log_p = moe.model(input_ids=whole[:, 28:]).logits[0].log_softmax(-1)
        assert bits[-1] == pytest.approx(-log_p[-2, whole[0, -1]].item() / np.log(2), rel=1e-4)
