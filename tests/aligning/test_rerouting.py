"""C3PO and the oracle: what they change, what they leave unchanged; batches and kills change no figure."""

import json

import pytest
import torch
from auditing.tiny_tasks import task_set
from listeners import Recorder
from tiny import random_model, tiny_model, tiny_tokenizer

from turnout import Alignment, align
from turnout.aligning.answers import Letters
from turnout.aligning.config import ManifoldConfig, ReroutingConfig
from turnout.aligning.flops import count
from turnout.aligning.questions import prepare
from turnout.aligning.reading import read_base
from turnout.aligning.rerouting.answering import Batch, Evaluation, descent_step
from turnout.aligning.rerouting.c3po import ALPHAS, C3PO
from turnout.aligning.rerouting.oracle import Oracle
from turnout.aligning.rerouting.references import References, median_distance, nearest_references
from turnout.aligning.rerouting.steering import Steering, core, logits, scores
from turnout.errors import RecipeError, TaskError
from turnout.listener import Listener
from turnout.models.fast.products import linear
from turnout.models.forward.capture import capture
from turnout.models.forward.tail import Tail
from turnout.models.wrap.anatomy import read
from turnout.tasks.prompts import letter_ids

FAMILIES = ("olmoe", "mixtral", "deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "lfm2_moe")
TRAIN, TEST = task_set(40, longest=6), task_set(9, seed=5, longest=6)
OPTIONS = {"embedder": "model", "layers": "last-2"}
DESCENT = {**OPTIONS, "steps": 5, "step_size": 3.0}


def steering_of(family="mixtral", padding="right"):
    moe = read(random_model(family, initializer_range=0.5), tiny_tokenizer(), family)
    train, test = prepare(moe, TRAIN, TEST, 1024)
    letters = Letters(train, among_all=False)
    tail = Tail(moe, moe.layers[-2:] if len(moe.layers) == 3 else moe.layers[-1:], letters.token_ids, "last", padding)
    with tail.opened():
        steering = Steering.checked(tail, test.ids)
    return steering, train, test


def batch_of(steering, test, questions):
    prompts = [test.ids[i] for i in questions]
    return Batch(questions, prompts, steering.run_base(prompts), Letters(test, among_all=False))


@pytest.fixture(scope="module")
def c3po(tmp_path_factory):
    """Makes the method with options: random embeddings, every third training question a reference, tiny Mixtral."""
    steering, train, test = steering_of()
    letters = Letters(train, among_all=False)
    with steering.tail.opened():
        base, states = read_base(steering.tail, letters, tmp_path_factory.mktemp("base"), 10**9, 4096, Listener())
    generator = torch.Generator().manual_seed(0)
    test_NX, train_SX = (
        torch.nn.functional.normalize(torch.randn(len(of.ids), 4, generator=generator)) for of in (test, train)
    )
    question_R = torch.arange(0, len(train.ids), 3)
    index_Nk, weight_Nk = nearest_references(test_NX, train_SX, question_R, ManifoldConfig(), 0.95)
    index_Nk[-1], weight_Nk[-1] = -1, 0.0  # the last question has no neighbor
    near = References(question_R, base.routing_SF[question_R], index_Nk, weight_Nk, test_NX, train_SX, 0.4)

    def make(**options):
        return C3PO(steering, near, base.routing_SF, states, letters, ReroutingConfig(**options), 3)

    return make, steering, test


@pytest.mark.parametrize("family", FAMILIES)
def test_replaced_routing_is_used(family):
    steering, _, test = steering_of(family, "left" if family == "olmoe" else "right")
    with steering.tail.opened(), torch.no_grad():
        assert steering.cached == (family != "lfm2_moe")
        batch, layers = batch_of(steering, test, range(9)), steering.tail.layers
        own_BF = scores(layers, batch.forward.logits_BF)
        torch.testing.assert_close(own_BF, batch.forward.reading.routing_BF, rtol=1e-5, atol=1e-6)
        wanted_BF = 0.8 * own_BF + 0.2 * own_BF.roll(1, 0)
        put_BF = logits(layers, wanted_BF, batch.forward.logits_BF)
        readings = []
        for repeated in (False, True):
            ready = steering.prompts(batch.prompts, batch.forward.states, repeated=repeated)
            readings += [steering.with_replaced(ready, put_BF) for _ in range(2)]
            rows = torch.tensor([7, 0, 3])
            some = steering.with_replaced(ready.select(rows), put_BF[rows])
            torch.testing.assert_close(some.logits_BU, readings[0].logits_BU[rows], rtol=1e-4, atol=1e-5)
        for reading in readings:
            torch.testing.assert_close(reading.routing_BF, wanted_BF, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(reading.logits_BU, readings[0].logits_BU, rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks for m in steering.tail.moe.model.modules())
    assert all("forward" not in m.__dict__ for m in steering.tail.moe.model.modules())


def test_only_the_last_token_is_rerouted():
    steering, _, test = steering_of("olmoe")
    tail, seen = steering.tail, {}
    prompts = sorted(test.ids, key=len)[-3:]
    with tail.opened(), torch.no_grad():
        base = steering.run_base(prompts)
        for side, added_BF in (("own", torch.zeros_like(base.logits_BF)), ("other", base.logits_BF.roll(3, 1) * 9)):
            outputs = seen.setdefault(side, [])
            handle = tail.layers[0].router.register_forward_hook(
                lambda _, __, out, outputs=outputs: outputs.append(out)
            )
            steering.with_added(steering.prompts(prompts, base.states, repeated=False), added_BF)
            handle.remove()
    (own,), (other,) = seen["own"], seen["other"]
    moved_T = (own[2] != other[2]).any(1) | (own[0] != other[0]).any(1)
    width = max(map(len, prompts))
    assert moved_T.nonzero().flatten().tolist() == [i * width + len(p) - 1 for i, p in enumerate(prompts)]


@pytest.mark.parametrize("family", ["olmoe", "mixtral", "deepseek_v3"])
def test_the_gradient_of_added_logits(family):
    steering, _, test = steering_of(family)
    steering.tail.moe.model.double()
    questions, letter_B = [0, 4, 7], torch.tensor([1, 2, 0])
    with steering.tail.opened():
        batch = batch_of(steering, test, questions)

        ready = steering.prompts(batch.prompts, batch.forward.states)

        def losses(added_BF):
            reading = steering.with_added(ready, added_BF)
            return batch.letters.losses(reading.logits_BU, batch.question_B, letter_B)

        added_BF = torch.zeros_like(batch.forward.logits_BF, dtype=torch.float64).requires_grad_()
        (gradient_BF,) = torch.autograd.grad(losses(added_BF).sum(), added_BF)
        direction_BF = torch.randn(added_BF.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        step = 3e-3
        with torch.no_grad():
            ahead_B, behind_B = losses(step * direction_BF), losses(-step * direction_BF)
    slope_B = (gradient_BF * direction_BF).sum(1)
    assert slope_B.abs().min() > 1e-4
    torch.testing.assert_close((ahead_B - behind_B) / (2 * step), slope_B, rtol=2e-2, atol=1e-4, check_dtype=False)


def test_the_gradient_of_the_neighbors_loss(c3po):
    make, steering, test = c3po
    with steering.tail.opened():
        method, batch = make(), batch_of(steering, test, range(9))
        near, own_BF = method.neighbor_rows(batch), batch.forward.logits_BF
        at_BF = own_BF.clone().requires_grad_()
        loss_B = method.neighbors_loss(near, at_BF)
        (gradient_BF,) = torch.autograd.grad(loss_B.sum(), at_BF)
        with torch.no_grad():
            after_B = method.neighbors_loss(near, own_BF + descent_step(gradient_BF, ReroutingConfig(step_size=1e-2)))
        assert loss_B[-1] == 0
        assert not gradient_BF[-1].any()
        assert bool((after_B[:-1] < loss_B[:-1]).all())
        alone = method.neighbors_loss(method.neighbor_rows(batch_of(steering, test, [2])), own_BF[2:3])
    torch.testing.assert_close(alone, loss_B[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"surrogate": "ngd", "steps": 3},
        {"surrogate": "kernel-regression"},
        {"surrogate": "kernel-regression", "alpha": 0.3},
        {"surrogate": "mode-finding", "steps": 2},
    ],
    ids=str,
)
def test_batched_is_one_by_one(c3po, options):
    make, steering, test = c3po
    letters = Letters(test, among_all=False)
    with steering.tail.opened():
        whole = Evaluation(steering, letters, make(**options), 4096).answer(range(9))
        alone = Evaluation(steering, letters, make(**options), 4096)
        for i in range(9):
            one = alone.answer([i])[i]
            assert one["after"][0] == whole[i]["after"][0]
            assert one["after"][1] == pytest.approx(whole[i]["after"][1], abs=1e-3)
            assert one["columns"] == pytest.approx(whole[i]["columns"], abs=1e-4)
    assert whole[8]["after"] == whole[8]["before"]  # no neighbor
    assert whole[8]["columns"]["neighbours"] == 0
    assert [whole[i]["columns"]["moved"] > 0 for i in range(8)].count(True) >= 6


def test_no_step_and_own_routing_equal_the_base(c3po):
    make, steering, test = c3po
    letters = Letters(test, among_all=False)
    with steering.tail.opened():
        for options in ({"steps": 0}, {"surrogate": "mode-finding", "steps": 0}):
            rows = Evaluation(steering, letters, make(**options), 4096).answer(range(9))
            assert all(row["after"] == row["before"] and row["columns"]["moved"] == 0 for row in rows.values())
        rows = Evaluation(steering, letters, make(surrogate="kernel-regression", alpha=1.0), 4096).answer(range(9))
        for row in rows.values():
            assert row["after"] == pytest.approx(row["before"], abs=1e-4)
        oracle = Oracle(steering, test, ReroutingConfig(steps=0), 0)
        rows = Evaluation(steering, letters, oracle, 4096).answer(range(9))
        assert all(row["after"] == row["before"] for row in rows.values())


def test_kernel_regression_selects_the_alpha_of_least_loss(c3po):
    make, steering, test = c3po
    with steering.tail.opened(), torch.no_grad():
        method, batch = make(surrogate="kernel-regression"), batch_of(steering, test, range(9))
        (chosen_BF, alpha), near = method.regress(batch), method.neighbor_rows(batch)
        losses = []
        for given in ALPHAS:
            blend_BF, _ = make(surrogate="kernel-regression", alpha=given).regress(batch)
            losses.append(method.neighbors_loss(near, blend_BF))
        best_B = torch.stack(losses).amin(0)
        torch.testing.assert_close(method.neighbors_loss(near, chosen_BF), best_B)
        assert set(alpha[:-1]) - {1.0}
        index_k, weight_k = method.references.index_Nk[0], method.references.weight_Nk[0]
        mean_F = (weight_k.unsqueeze(1) * method.routing_SF[index_k]).sum(0)
        zero_BF, _ = make(surrogate="kernel-regression", alpha=0.0).regress(batch)
        torch.testing.assert_close(scores(steering.tail.layers, zero_BF)[0], mean_F, rtol=1e-4, atol=1e-5)


def test_experts_outside_the_core_keep_their_odds(c3po):
    make, steering, test = c3po
    layers = steering.tail.layers
    with steering.tail.opened():
        batch = batch_of(steering, test, range(8))
        own_BF = batch.forward.logits_BF
        core_BF = core(layers, scores(layers, own_BF), 2)
        assert core_BF.view(8, 2, 4).sum(2).eq(2).all()
        for moved_BF in (
            make(core_experts=2).descend(batch),
            make(core_experts=2, surrogate="mode-finding").find_mode(batch),
        ):
            ratio_BF = (moved_BF - own_BF).masked_fill(core_BF, 0).view(8, 2, 4)
            for row_E, out_E in zip(ratio_BF.flatten(0, 1), ~core_BF.view(16, 4), strict=True):
                assert float(row_E[out_E].max() - row_E[out_E].min()) < 1e-4  # one constant: the same odds


def test_neighbors_that_are_too_similar_are_left_out():
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.05], [1.0, 0.5], [0.0, 1.0], [1.0, 0.9]]))
    query, config = torch.tensor([[1.0, 0.0]]), ManifoldConfig(k=2)
    index, weight = nearest_references(query, points, torch.arange(5), config, 0.95)
    assert index.tolist() == [[2, 4]]
    assert float(weight.sum()) == pytest.approx(1)
    index, weight = nearest_references(query, points, torch.tensor([0, 1, 3]), config, 0.95)
    assert index.tolist() == [[3, -1]]
    assert weight.tolist() == [[1.0, 0.0]]
    index, weight = nearest_references(query, points, torch.tensor([0, 1]), config, 0.95)
    assert (index.tolist(), weight.tolist()) == ([[-1, -1]], [[0.0, 0.0]])
    assert nearest_references(query, points, torch.arange(5), config, 1.0)[0].tolist() == [[0, 1]]


def test_median_distance_by_hand():
    routing = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert median_distance(routing, 1) == 1.0
    assert median_distance(routing, 2) == 3.0
    assert median_distance(torch.ones(3, 2), 1) == 1.0


@pytest.mark.parametrize("kind", ["unit", "plain"])
def test_steps(kind):
    gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    step = descent_step(gradient, ReroutingConfig(step_kind=kind, step_size=0.5))
    assert step.flatten().tolist() == pytest.approx([-0.3, -0.4, 0, 0] if kind == "unit" else [-1.5, -2.0, 0, 0])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint."""
    return tiny_model("mixtral", tmp_path_factory.mktemp("base"), initializer_range=0.5)


@pytest.fixture(scope="module")
def oracle(base, tmp_path_factory):
    """A run of the oracle."""
    return align(base, TRAIN, TEST, tmp_path_factory.mktemp("oracle") / "run", method="oracle", **DESCENT)


def test_the_oracle_and_its_control(oracle):
    table = oracle.table("answers")
    overall = oracle.accuracy["overall"]
    assert overall["lost"] == 0
    assert overall["after"] > overall["before"]
    for row in table.rows(named=True):
        assert (row["steps"] >= 0) == (row["after"] == row["answer"])
        assert (row["wrong_steps"] >= 0) == (row["wrong_after"] == row["wrong_letter"])
        assert row["wrong_letter"] not in (row["answer"], row["before"])
        assert (row["steps"] == 0) == (row["before"] == row["answer"])
        assert row["wrong_steps"] != 0
    figures = oracle.to_dict()["rerouting"]["wrong"]["overall"]
    wrong = table.filter(table["before"] != table["answer"])
    assert figures["questions"] == len(wrong)
    assert figures["right"] == pytest.approx((wrong["steps"] >= 0).mean())
    assert figures["control"] == pytest.approx((wrong["wrong_steps"] >= 0).mean())
    assert figures["excess"] == pytest.approx(figures["right"] - figures["control"])
    by_domain = oracle.to_dict()["rerouting"]["wrong"]["domains"]
    assert sum(figures["questions"] for figures in by_domain.values()) == len(wrong)


def test_wrong_letters_depend_on_the_seed_and_the_question_alone(c3po, base, oracle):
    again = align(base, TRAIN, TEST, method="oracle", **DESCENT)
    assert again.to_dict() == oracle.to_dict()
    assert again.table("answers").equals(oracle.table("answers"))
    _, steering, test = c3po
    with steering.tail.opened():
        batch, part = batch_of(steering, test, range(9)), batch_of(steering, test, [7, 2])
    drawn = [Oracle(steering, test, ReroutingConfig(), seed).wrong_letters(batch).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert Oracle(steering, test, ReroutingConfig(), 0).wrong_letters(part).tolist() == [drawn[0][7], drawn[0][2]]


def test_a_stopped_run_resumes(base, oracle, tmp_path, monkeypatch):
    batches, answer = [], Evaluation.answer

    def once(self, questions):
        batches.append(list(questions))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return answer(self, questions)

    options = {"method": "oracle", "token_budget": 200, **DESCENT}
    monkeypatch.setattr(Evaluation, "answer", once)
    with pytest.raises(KeyboardInterrupt):
        align(base, TRAIN, TEST, tmp_path / "run", **options)
    kept = tmp_path / "run/.work/answers.jsonl"
    assert len(kept.read_text().splitlines()) == 2
    kept.write_text(kept.read_text() + '{"3": {"bef')  # as after a kill while a line was written
    result = align(base, TRAIN, TEST, tmp_path / "run", **options)
    assert batches[3] == batches[2]
    monkeypatch.undo()
    whole = align(base, TRAIN, TEST, tmp_path / "whole", **options)
    assert (result.path / "tables/answers.parquet").read_bytes() == (whole.path / "tables/answers.parquet").read_bytes()
    notes = []
    align(base, TRAIN, TEST, tmp_path / "run", listener=Recorder(notes), **options)
    assert notes == [f"{tmp_path / 'run'}: this run is complete; nothing is computed again"]


def test_files_of_a_c3po_run(base, tmp_path):
    result = align(base, TRAIN, TEST, tmp_path / "run", method="c3po", steps=2, k=1, **OPTIONS)
    content = json.loads((tmp_path / "run/align.json").read_text())
    assert content == result.to_dict() == Alignment.load(tmp_path / "run").to_dict()
    assert content["config"]["rerouting"]["surrogate"] == "ngd"
    assert content["references"] <= content["successful"] < content["questions"]
    assert content["flops"]["ratio"] > 1
    assert content["training"] is None
    assert result.frame()["domain"].to_list() == ["overall", "numbers", "words", "days"]
    assert not (tmp_path / "run/.work").exists()
    moe = read(random_model("mixtral", initializer_range=0.5), tiny_tokenizer())
    table, ids = result.table("answers"), prepare(moe, TRAIN, TEST, 1024)[1].ids
    letters = [letter_ids(moe.tokenizer, 4)] * len(ids)
    logprobs = torch.tensor(capture(moe, ids, letters=letters).choice_logprobs)
    assert table["before"].to_list() == logprobs.argmax(1).tolist()


def test_flops_of_products():
    a, b = torch.rand(3, 5, requires_grad=True), torch.rand(5, 7)
    assert count(lambda: a @ b) == 2 * 3 * 5 * 7
    assert count(lambda: (a @ b).sum().backward()) == 2 * 2 * 3 * 5 * 7
    q, k = torch.rand(1, 2, 4, 8), torch.rand(1, 2, 6, 8)
    assert count(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k)) == 2 * 2 * (2 * 4 * 8 * 6)
    large = torch.nn.Linear(512, 512, bias=False), torch.rand(64, 512)
    assert count(lambda: linear(large[1], large[0].weight)) == 2 * 64 * 512 * 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "oracle", "evaluation": None},
            "evaluation: expected evaluation questions: oracle changes their routing, got none; give them with --eval",
        ),
        ({"method": "c3po", "tokens": "first"}, "tokens: expected last for the method c3po, got first"),
        ({"method": "c3po", "steps": -1}, "steps: expected 0 or more, got -1"),
        ({"method": "c3po", "alpha": 1.5}, "alpha: expected 1 or less, got 1.5"),
        ({"method": "c3po", "routing_sigma": 0.0}, "routing_sigma: expected a number above 0, got 0.0"),
        (
            {"method": "c3po", "surrogate": "magic"},
            "surrogate: expected 'ngd', 'kernel-regression' or 'mode-finding', got 'magic'",
        ),
        ({"method": "c3po", "step_size": 0.0}, "step_size: expected a number above 0, got 0.0"),
        ({"method": "c3po", "core_experts": 0}, "core_experts: expected 1 or more, got 0"),
    ],
)
def test_refusals(base, options, message):
    evaluation = options.pop("evaluation", TEST)
    with pytest.raises(RecipeError, match=message) as raised:
        align(base, TRAIN, evaluation, **OPTIONS, **options)
    assert "\n" not in str(raised.value)


def test_too_few_right_answers(base):
    with pytest.raises(TaskError, match="more than k = 39 different questions"):
        align(base, TRAIN, TEST, method="c3po", k=39, **OPTIONS)
