"""Plans of batches within a token budget, and padding on either side."""

import pytest
import torch

from turnout.models.forward.batches import pad, plan_batches


def test_plan_is_sorted_deterministic_and_within_budget():
    lengths = [5, 40, 3, 5, 1, 120, 7, 5]
    plan = plan_batches(lengths, 40)
    assert plan == [[4, 2, 0, 3, 7], [6], [1], [5]]
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 40 for b in plan)
    assert plan_batches([], 10) == []
    with pytest.raises(ValueError, match="at least 1"):
        plan_batches([1], 0)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_places_of_the_real_tokens(padding):
    prompts = [[5, 6, 7], [8], [9, 10]]
    batch = pad(prompts, padding, torch.device("cpu"))
    assert batch.ids.reshape(-1)[batch.token_T].tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.ids.reshape(-1)[batch.last_B].tolist() == [7, 8, 10]
    assert batch.sample_T.tolist() == [0, 0, 0, 1, 2, 2]
    assert batch.mask.sum(1).tolist() == batch.lengths_B == [3, 1, 2]
    assert batch.padded
    inputs = batch.model_inputs()
    assert set(inputs) == ({"input_ids"} if padding == "right" else {"input_ids", "attention_mask", "position_ids"})
    if padding == "left":
        assert inputs["position_ids"][batch.mask].tolist() == [0, 1, 2, 0, 0, 1]


def test_prompts_of_one_length_need_no_mask():
    batch = pad([[1, 2], [3, 4]], "left", torch.device("cpu"))
    assert not batch.padded
    assert set(batch.model_inputs()) == {"input_ids"}
