"""A few questions for a tiny model, and the model run on them one at a time: every token kept, nothing batched."""

import torch

from turnout.tasks.question import Question, TaskSet

DOMAINS = ("numbers", "words", "days")


def task_set(n=24, seed=0, longest=12):
    """Questions of very different lengths in three domains, two subjects each."""
    generator = torch.Generator().manual_seed(seed)
    questions = []
    for i in range(n):
        words = int(torch.randint(1, longest, (1,), generator=generator))
        domain = DOMAINS[i % 3]
        text = " ".join(f"{domain}{(i * j) % 7}" for j in range(words))
        choices = tuple(f"{domain[0]}{i + c}" for c in range(4))
        questions.append(Question(f"q{i}", f"{domain} {i % 2}", domain, text, choices, i % 4))
    return TaskSet.of("tiny", questions)


def plain_prompt(question):
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", question.choices, strict=True)]
    return "\n".join([f"Question: {question.text}", "Choices:", *lines, "Answer:"])


def token_ids(moe, text):
    """Ids of the tiny tokenizer: one token per byte, which byte-level BPE writes as itself but for white space."""
    vocabulary = moe.tokenizer.get_vocab()
    return [vocabulary[character] for character in text.replace(" ", "Ġ").replace("\n", "Ċ")]


def one_by_one(moe, tasks):
    """The samples for plain.py, and the log-probabilities of the letters A to D for each question."""
    samples, logprobs = [], []
    for question in tasks.questions:
        prompt = token_ids(moe, plain_prompt(question))
        outputs = {layer.layer: [] for layer in moe.layers}
        handles = [
            layer.router.register_forward_hook(lambda _, __, out, to=outputs[layer.layer]: to.append(out))
            for layer in moe.layers
        ]
        with torch.no_grad():
            logits = moe.model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        for handle in handles:
            handle.remove()
        layers = {}
        for number, ((z, w, i),) in outputs.items():
            layers[number] = {"p": z.float().softmax(-1).tolist(), "chosen": i.tolist(), "weights": w.float().tolist()}
        samples.append({"domain": question.domain, "layers": layers})
        logprobs.append(logits.float().log_softmax(-1)[token_ids(moe, "ABCD")].tolist())
    return samples, logprobs
