"""Base model with headroom for alignment, written to runs/align/base.

    python -m experiments.align.base

The embedded model answers the questions of worlds at chance: it has learned their form, but does not associate a choice
with its letter. Training on the loss of the letter alone does not change that within hours. A curriculum does: lists of
four words with several questions about each (16 different words first, then 200, then any), the same with the question
first, then the questions of worlds' train split. The same machine gives the same weights; a killed run starts again.

Shapes: B rows of a batch, T tokens of a row.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from turnout.embedded import model_path
from turnout.models.fast.experts import set_fast_experts
from turnout.tasks import prompts, worlds
from turnout.training.bfloat16 import set_fast_bfloat16
from turnout.training.model import load_model
from turnout.training.tokens import load_tokenizer

OUT = Path("runs/align/base")
DOMAINS = ("sequences", "strings", "units", "logic", "calendar")
QUESTIONS, SEED = 200_000, 0
LENGTH, BATCH = 192, 20
LEARNING_RATE, WARMUP, FINAL = 1e-3, 100, 0.1
BALANCING, TEXT = 0.02, 0.1  # weights of the load-balancing loss and of tokens that are not letters
WORDS = (16, 200, 4096)
ENOUGH, MAX_STEPS = 0.95, 900  # a stage of words ends at this share of correct letters, or after so many steps
WORLD_STEPS = 2400

Row = tuple[list[int], list[float]]


class Rows:
    """Token rows with one weight a token: 1 for the letter of an answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._draw = random.Random(SEED)  # noqa: S311  no secret depends on it
        self._encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        self._letters = prompts.letter_ids(tokenizer, 4)
        self._end = int(tokenizer.eos_token_id)
        texts = [tokenizer.decode([i]) for i in range(len(tokenizer))]
        self._single = [i for i, t in enumerate(texts) if t.startswith(" ") and t.strip().isalpha() and len(t) > 3]
        self._numbers = [self._encode(f" {i}") for i in range(100)]
        self._spelled = [self._encode(f" {c}")[0] for c in "abdeiklmnorstu"]
        self._marks = [self._encode(f"{letter}.") for letter in "ABCD"]
        self._line = self._encode("\n")
        self._asks = [self._encode("Question: Which one is"), self._encode("Question: Find")]
        self.words = WORDS[0]
        questions = list(worlds.questions("train", QUESTIONS, SEED, DOMAINS))
        self._draw.shuffle(questions)
        self._worlds = [(self._encode(prompts.plain_prompt(q)), q.answer) for q in questions]
        self._next = 0

    def _content(self) -> Callable[[], list[int]]:
        kind = self._draw.random() if self.words > WORDS[1] else 0.0
        if kind < 0.5:
            return lambda: [self._draw.choice(self._single[: self.words])]
        if kind < 0.75:
            return lambda: self._draw.choice(self._numbers)
        n = self._draw.randint(2, 4)
        return lambda: [self._draw.choice(self._spelled) for _ in range(n)]

    def _four(self) -> tuple[list[list[int]], list[int]]:
        """Four different contents, and the tokens of the list."""
        make, four = self._content(), list[list[int]]()
        while len(four) < 4:
            one = make()
            if one not in four:
                four.append(one)
        listed = [t for mark, one in zip(self._marks, four, strict=True) for t in mark + one + self._line]
        return four, listed

    def list_first(self) -> Row:
        """A list, then four questions about it."""
        four, listed = self._four()
        ids = self._encode("Choices:\n") + listed
        weights = [0.0] * len(ids)
        for _ in range(4):
            answer = self._draw.randrange(4)
            question = self._draw.choice(self._asks) + four[answer] + self._encode("?\nAnswer:")
            ids += [*question, self._letters[answer], *self._line]
            weights += [0.0] * len(question) + [1.0] + [0.0] * len(self._line)
        return ids, weights

    def question_first(self) -> Row:
        """A question about the list that follows it, as in worlds."""
        four, listed = self._four()
        answer = self._draw.randrange(4)
        question = self._draw.choice(self._asks) + four[answer] + self._encode("?")
        return self._answered(question + self._encode("\nChoices:\n") + listed + self._encode("Answer:"), answer, 0.0)

    def world(self) -> Row:
        """The next question of worlds."""
        ids, answer = self._worlds[self._next % len(self._worlds)]
        self._next += 1
        assert answer is not None
        return self._answered(ids, answer, TEXT)

    def _answered(self, ids: list[int], answer: int, weight: float) -> Row:
        return [*ids, self._letters[answer], self._end], [weight] * len(ids) + [1.0, 0.0]

    def batch(self, worlds_too: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and weights [B, T]."""
        rows = [self._row(worlds_too) for _ in range(BATCH)]
        return torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])

    def _row(self, worlds_too: bool) -> Row:
        ids, weights = list[int](), list[float]()
        while len(ids) < LENGTH:
            kind = self._draw.random()
            if worlds_too:
                more = self.question_first() if kind < 0.1 else self.world()
            else:
                more = self.list_first() if kind < 0.5 else self.question_first()
            ids, weights = ids + more[0], weights + more[1]
        return ids[:LENGTH], weights[:LENGTH]


def losses(model: PreTrainedModel, ids: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """Loss to minimize, cross-entropy of the letters, and share of correct letters."""
    with torch.autocast("cpu", torch.bfloat16):
        out = model(input_ids=ids)
    targets, weight = ids[:, 1:], weights[:, 1:]
    letters, text = weight == 1, (weight > 0) & (weight < 1)
    logits = out.logits[:, :-1]
    letter_loss = cross_entropy(logits[letters].float(), targets[letters])
    correct = (logits[letters].argmax(-1) == targets[letters]).float().mean()
    total = letter_loss + BALANCING * out.aux_loss
    if text.any():
        total = total + TEXT * cross_entropy(logits[text].float(), targets[text])
    return total, float(letter_loss.detach()), float(correct)


def main() -> None:
    """Train and save."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = load_tokenizer(model_path())
    model = load_model(model_path()).train()
    model.config.output_router_logits, model.config.router_aux_loss_coef = True, BALANCING
    set_fast_experts(model)
    set_fast_bfloat16(model)
    rows = Rows(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05)
    steps = 0

    def step(worlds_too: bool, share: float) -> tuple[float, float]:
        nonlocal steps
        rate = LEARNING_RATE * min(1, (steps + 1) / WARMUP) * (1 - (1 - FINAL) * share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, letter_loss, correct = losses(model, *rows.batch(worlds_too))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        return letter_loss, correct

    for words in WORDS:
        rows.words, recent = words, list[float]()
        while len(recent) < MAX_STEPS and (len(recent) < 50 or sum(recent[-50:]) < 50 * ENOUGH):
            recent.append(step(False, 0.0)[1])
        print(f"{words} words: {len(recent)} steps, {sum(recent[-50:]) / 50:.3f} correct", flush=True)
    figures = list[tuple[float, float]]()
    for at in range(WORLD_STEPS):
        figures.append(step(True, at / WORLD_STEPS))
        if at % 100 == 99:
            letter_loss, correct = (sum(column) / 100 for column in zip(*figures[-100:], strict=True))
            print(f"worlds, step {at + 1}: loss of letters {letter_loss:.3f}, {correct:.3f} correct", flush=True)
    model.config.output_router_logits = False
    model.save_pretrained(OUT)
    tokenizer.save_pretrained(OUT)


if __name__ == "__main__":
    sys.exit("runs/align/base is there already") if (OUT / "config.json").exists() else main()
