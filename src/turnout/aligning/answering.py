"""What a forward's letters say of the answers.

Shapes: B questions of a batch, W choices of the one with most, U letters (or the vocabulary).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from turnout.aligning.questions import Asked


@dataclass(frozen=True)
class Answers:
    """Answers of some questions.

    Attributes:
        predicted_B: the choice of the greatest logit, the first of equals.
        logprob_B: log-probability of the right letter: among the question's letters, or among all tokens.
    """

    predicted_B: Tensor
    logprob_B: Tensor


@dataclass(frozen=True, eq=False)
class Letters:
    """Where a question's letters stand in the logits that the tail reads.

    Attributes:
        asked: the questions.
        among_all: the logits are those of the whole vocabulary, and a letter is held against all of it.
    """

    asked: Asked
    among_all: bool

    @property
    def wanted(self) -> list[int] | None:
        """The token ids whose logits a tail must read; None for all."""
        return None if self.among_all else self.asked.vocabulary

    def logprobs(self, logits_BU: Tensor, question_B: Tensor) -> Tensor:
        """Log-probabilities [B, W] of the letters of each question; −∞ beyond its choices. Differentiable."""
        letter_BW = self.asked.letter_SW[question_B].to(logits_BU.device)
        none_BW = letter_BW < 0
        if not self.among_all:
            chosen_BW = logits_BU.gather(1, letter_BW.clamp(min=0)).masked_fill(none_BW, -torch.inf)
            return chosen_BW.log_softmax(1)
        vocabulary = torch.tensor(self.asked.vocabulary, device=logits_BU.device)
        token_BW = vocabulary[letter_BW.clamp(min=0)]
        return logits_BU.log_softmax(1).gather(1, token_BW).masked_fill(none_BW, -torch.inf)

    def loss(self, logits_BU: Tensor, question_B: Tensor) -> Tensor:
        """Cross-entropy of the right letter, mean over the batch."""
        answer_B = self.asked.answer_S[question_B].to(logits_BU.device)
        return functional.nll_loss(self.logprobs(logits_BU, question_B), answer_B)

    def read(self, logits_BU: Tensor, question_B: Tensor) -> Answers:
        """Predictions, and how probable the right letter was."""
        logprob_BW = self.logprobs(logits_BU, question_B).cpu()
        answer_B1 = self.asked.answer_S[question_B].unsqueeze(1)
        return Answers(logprob_BW.argmax(1), logprob_BW.gather(1, answer_B1).squeeze(1))
