"""Last tokens with a cache against whole prompts: repeated, for some of the prompts, and with gradients."""

import pytest
import torch
from tiny import random_model, tiny_tokenizer

from turnout.models.change.intervene import add_to_logits
from turnout.models.forward.last_token import LastToken
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read

GENERATOR = torch.Generator().manual_seed(0)
PROMPTS = [torch.randint(0, 250, (n,), generator=GENERATOR).tolist() for n in (5, 9, 2, 17, 33)]


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek_v2", "gpt_oss", "granitemoe"])  # gpt-oss: a window
@pytest.mark.parametrize("first", [0, -1])
def test_last_tokens_are_the_tail(family, first):
    moe = read(random_model(family), tiny_tokenizer(), family)
    tail = Tail(moe, moe.layers[first:], [65, 66, 67, 68], padding="left" if first else "right")
    with tail.opened():
        whole, states = tail.run_model(PROMPTS)
        last = LastToken.of(tail, PROMPTS, states)
        for rows in ([0, 1, 2, 3, 4], [3, 0], [2]):
            some = last.of_rows(torch.tensor(rows))
            for reading in (some.read(), some.read(), some.of_rows(torch.arange(len(rows))).read()):
                torch.testing.assert_close(reading.logits_BU, whole.logits_BU[rows], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(reading.routing_BF, whole.routing_BF[rows], rtol=1e-4, atol=1e-5)
        layer, gradients = moe.layers[-1], []
        for run in (lambda: tail.resume(PROMPTS[4:], states[4:]), last.of_rows(torch.tensor([4])).read):
            added_E = torch.zeros(layer.n_experts, requires_grad=True)
            with add_to_logits(moe, {layer.layer: added_E}):  # in the last layer only the last token is used
                gradients.append(torch.autograd.grad(run().logits_BU.log_softmax(1)[0, 2], added_E)[0])
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)
