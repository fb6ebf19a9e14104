"""Traces are read back as captured, layer by layer, for any order and size of shards."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs.routed import LAYERS, Tensor, capture, samples, table

from turnout.errors import RunError
from turnout.runs import Sample, Trace, TraceLayer, TraceWriter, rows, trace_schema
from turnout.runs.layout import smallest_unsigned


def written(folder, parts, layers=LAYERS, order=None, run=""):
    writer = TraceWriter(folder, layers, len(parts), run=run)
    for i in order or range(len(parts)):
        writer.write(i, parts[i], seconds=0.25)
    return writer


# One sample as plain Python: its tokens, and for each layer and token the (expert, weight) pairs and all E scores.
@st.composite
def routed_samples(draw):
    layers = tuple(
        TraceLayer(number, draw(st.integers(2, 5)), draw(st.integers(1, 2)))
        for number in draw(st.lists(st.integers(0, 90), min_size=1, max_size=3, unique=True))
    )
    n = draw(st.integers(1, 7))
    lengths = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    number = st.floats(0, 1, width=32)

    def tokens_of(layer):
        chosen = st.lists(st.integers(0, layer.experts - 1), min_size=layer.top_k, max_size=layer.top_k, unique=True)
        weights = st.lists(number, min_size=layer.top_k, max_size=layer.top_k)
        scores = st.lists(number, min_size=layer.experts, max_size=layer.experts)
        return st.tuples(chosen, weights, scores)

    routing = [
        [draw(st.lists(tokens_of(layer), min_size=length, max_size=length)) for layer in layers] for length in lengths
    ]
    index = draw(st.permutations(range(n)))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, n - 1)), max_size=2)) - {n})
    answers = draw(st.one_of(st.none(), st.lists(st.lists(number, max_size=4), min_size=n, max_size=n)))
    return layers, lengths, routing, index, cuts, answers


def applied(token, n_experts):
    """The weight of each expert at one token, as floats."""
    chosen, weights, _ = token
    return [sum((w for c, w in zip(chosen, weights, strict=True) if c == e), 0.0) for e in range(n_experts)]


def batch_of(layers, lengths, routing, answers):
    captured = []
    for at, layer in enumerate(layers):
        of_sample = [routed[at] for routed in routing]
        scores = [np.array([token[2] for token in tokens]) for tokens in of_sample]
        weights = [np.array([applied(token, layer.experts) for token in tokens]) for tokens in of_sample]
        counts = [[sum(e in token[0] for token in tokens) for e in range(layer.experts)] for tokens in of_sample]
        fields = {
            "chosen_TK": np.array([token[0] for tokens in of_sample for token in tokens], np.uint8),
            "scores_BE": np.array([s[-1] for s in scores], np.float32),
            "weights_BK": np.array([tokens[-1][1] for tokens in of_sample], np.float32),
            "sum_scores_BE": np.array([s.sum(0) for s in scores], np.float32),
            "sum_weights_BE": np.array([w.sum(0) for w in weights], np.float32),
            "counts_BE": np.array(counts, np.int64),
        }
        captured.append(SimpleNamespace(layer=layer.layer, **{name: Tensor(value) for name, value in fields.items()}))
    return SimpleNamespace(lengths_B=lengths, layers=tuple(captured), choice_logprobs=answers)


@settings(max_examples=40, deadline=None)
@given(routed_samples())
def test_a_trace_is_read_back_as_captured(tmp_path_factory, made):
    layers, lengths, routing, index, cuts, answers = made
    asked = [Sample(index[i], f"q{i}", "s", "d", list(range(n)), i if i % 2 else None) for i, n in enumerate(lengths)]
    whole = rows(asked, batch_of(layers, lengths, routing, answers), layers)
    bounds = [0, *cuts, len(asked)]
    folder = tmp_path_factory.mktemp("trace")
    parts = [whole.slice(a, b - a) for a, b in pairwise(bounds)]
    written(folder, parts, layers, order=list(reversed(range(len(parts)))))
    trace = Trace.open(folder)
    order = np.argsort(index)  # the samples as the trace must give them
    for at, layer in enumerate(layers):
        tokens = [routing[i][at] for i in order]
        check_layer(trace, layer, tokens)
    frame = trace.samples()
    assert frame.columns == ["index", "id", "subject", "domain", "answer", "n_tokens", "choice_logprobs"]
    assert frame["index"].to_list() == sorted(index)
    assert frame["n_tokens"].to_list() == [lengths[i] for i in order]
    assert frame["answer"].to_list() == [asked[i].answer for i in order]
    assert frame["choice_logprobs"].to_list() == [None if answers is None else answers[i] for i in order]
    ids, offsets = trace.tokens()
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [asked[i].tokens for i in order]


def check_layer(trace, layer, tokens):
    """`tokens`: one layer's routing as plain Python, for each sample each token."""
    number, n_experts = layer.layer, layer.experts
    scores = [np.array([token[2] for token in sample]) for sample in tokens]
    weights = [np.array([applied(token, n_experts) for token in sample]) for sample in tokens]
    picks = [np.array([[float(e in token[0]) for e in range(n_experts)] for token in sample]) for sample in tokens]
    for read, values in ((trace.scores, scores), (trace.weights, weights), (trace.frequency, picks)):
        last, mean = read(number, "last"), read(number, "all")
        assert last.dtype == mean.dtype == np.float32
        assert last.shape == mean.shape == (len(tokens), n_experts)
        np.testing.assert_array_equal(last, np.array([v[-1] for v in values], np.float32))
        np.testing.assert_allclose(mean, [v.mean(0) for v in values], rtol=1e-6, atol=1e-7)
    ids, offsets = trace.chosen(number)
    assert ids.dtype == np.uint8
    assert ids.shape == (sum(map(len, tokens)), layer.top_k)
    found = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert found == [[token[0] for token in sample] for sample in tokens]


def test_same_rows_same_bytes(tmp_path):
    whole = table(9)
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 4), whole.slice(6)])
    for name, part in (("a", whole), ("b", pieces), ("c", whole)):
        written(tmp_path / name, [part, table(2, first=9)])
    assert len({(tmp_path / name / "part-00000.parquet").read_bytes() for name in "abc"}) == 1
    assert len({(tmp_path / name / "meta.json").read_bytes() for name in "abc"}) == 1


def test_batches_join_into_one_shard(tmp_path):
    written(tmp_path / "one", [table(6)])
    written(tmp_path / "two", [pa.concat_tables([table(4), table(2, first=4)])])
    assert (tmp_path / "one/part-00000.parquet").read_bytes() == (tmp_path / "two/part-00000.parquet").read_bytes()


def test_a_layer_is_read_alone(tmp_path):
    """Layer 1 can be read with every byte of layer 3's columns overwritten: they are not read."""
    written(tmp_path, [table(5), table(5, first=5)])
    trace, untouched = Trace.open(tmp_path), Trace.open(tmp_path)
    expected = {scope: untouched.scores(1, scope) for scope in ("last", "all")}
    for file in tmp_path.glob("part-*"):
        group, data = pq.ParquetFile(file).metadata.row_group(0), bytearray(file.read_bytes())
        for column in map(group.column, range(group.num_columns)):
            if "_3." in column.path_in_schema:
                start = column.dictionary_page_offset or column.data_page_offset
                data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
        file.write_bytes(data)
    for scope, scores in expected.items():
        np.testing.assert_array_equal(trace.scores(1, scope), scores)
        assert trace.weights(1, scope).shape == trace.frequency(1, scope).shape == scores.shape
    with pytest.raises(RunError, match=r"part-00000\.parquet: expected a shard that can be read"):
        trace.scores(3)


def test_integers_are_the_smallest_that_fit():
    sizes = [(2, pa.uint8()), (256, pa.uint8()), (257, pa.uint16()), (65_536, pa.uint16()), (65_537, pa.uint32())]
    assert [(n, smallest_unsigned(n)) for n, _ in sizes] == sizes
    assert trace_schema(LAYERS).field("chosen_3").type == pa.list_(pa.uint16())


def test_meta_and_totals(tmp_path):
    writer = written(tmp_path, [table(3), table(3, first=3)])
    tokens = sum(len(s.tokens) for s in samples(6))
    assert writer.totals() == (tokens, 0.5)
    assert TraceWriter(tmp_path, LAYERS, 2).totals() == (tokens, 0.5)
    assert Trace.open(tmp_path).layers == LAYERS


def test_shards_already_done_are_known(tmp_path):
    writer = TraceWriter(tmp_path, LAYERS, 3)
    assert writer.done() == set()
    writer.write(2, table(2))
    assert writer.done() == TraceWriter(tmp_path, LAYERS, 3).done() == {2}


def test_an_unfinished_trace_is_refused(tmp_path):
    TraceWriter(tmp_path, LAYERS, 2).write(0, table(2))
    with pytest.raises(RunError, match="expected 2 finished shards, got 1; run the same command again"):
        Trace.open(tmp_path)
    with pytest.raises(RunError, match=r"meta\.json: expected a trace's description, got No such file"):
        Trace.open(tmp_path / "none")


def test_a_sample_twice_is_refused(tmp_path):
    written(tmp_path, [table(2), table(2, first=1)])
    with pytest.raises(RunError, match="expected each sample once, got sample 1 twice"):
        Trace.open(tmp_path)


@pytest.mark.parametrize(
    ("layers", "n_shards", "run"),
    [((LAYERS[0],), 1, "a"), (LAYERS[::-1], 1, "a"), (LAYERS, 2, "a"), (LAYERS, 1, "b")],
)
def test_another_trace_is_refused(tmp_path, layers, n_shards, run):
    TraceWriter(tmp_path, LAYERS, 1, run="a")
    with pytest.raises(RunError, match="expected a trace of layers"):
        TraceWriter(tmp_path, layers, n_shards, run=run)


def test_unknown_layer_and_scope(tmp_path):
    written(tmp_path, [table(2)])
    trace = Trace.open(tmp_path)
    with pytest.raises(RunError, match=r"expected a layer of \[1, 3\], got 2"):
        trace.scores(2)
    with pytest.raises(RunError, match="scope: expected last or all, got first"):
        trace.weights(1, "first")


def damaged(column, change, at=1):
    """A valid table with one changed value: row `at` of `column`."""
    good = table(3)
    values = good[column].to_pylist()
    values[at] = change(values[at])
    return good.set_column(good.column_names.index(column), column, pa.array(values, good[column].type))


@pytest.mark.parametrize(
    ("rows_of", "message"),
    [
        (lambda: table(3).drop_columns(["counts_3"]), r"columns of 2 layers, got a difference in \['counts_3'\]"),
        (lambda: table(3, layers=LAYERS[::-1]), "columns of 2 layers, got a difference in another order"),
        (lambda: table(3).append_column("more", pa.array([1, 2, 3])), r"a difference in \['more'\]"),
        (lambda: table(3, layers=(LAYERS[0], TraceLayer(3, 299, 3))), "column scores_3: expected fixed_size_list"),
        (lambda: damaged("id", lambda _: None), "column id: expected no nulls, got 1"),
        (lambda: damaged("tokens", lambda _: []), "sample q1: expected at least one token, got none"),
        (lambda: damaged("chosen_1", lambda x: x[:-1]), r"layer 1, sample q1: expected tokens × 2 chosen experts"),
        (lambda: damaged("chosen_1", lambda x: [6, *x[1:]]), "layer 1, sample q1: expected experts below 6"),
        (
            lambda: damaged("counts_1", lambda x: [x[0] + 1, *x[1:]]),
            "q1: expected counts that sum to tokens × 2",
        ),
        (lambda: damaged("counts_3", lambda x: x[::-1]), "layer 3, sample q1: expected counts of the chosen experts"),
        (lambda: damaged("scores_3", lambda x: [float("nan"), *x[1:]]), "layer 3, sample q1: expected finite scores"),
        (lambda: damaged("sum_weights_1", lambda x: [float("inf"), *x[1:]]), "sample q1: expected finite sum_weights"),
    ],
)
def test_miscounted_rows_are_never_written(tmp_path, rows_of, message):
    writer = TraceWriter(tmp_path, LAYERS, 1)
    with pytest.raises(RunError, match=message) as refused:
        writer.write(0, rows_of())
    assert str(refused.value).startswith("part-00000.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["meta.json"]


def test_rows_hold_the_batch_to_its_samples():
    asked = samples(3)
    with pytest.raises(AssertionError, match="samples are not the batch's"):
        rows(asked[:2], capture(asked), LAYERS)
    with pytest.raises(AssertionError, match="layers are not the trace's"):
        rows(asked, capture(asked), LAYERS[:1])
    assert rows(asked, capture(asked, answers=False), LAYERS)["choice_logprobs"].null_count == 3


def test_torch_tensors_are_accepted(tmp_path):
    torch = pytest.importorskip("torch")
    asked = samples(4)
    batch = capture(asked)
    for layer in batch.layers:
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                setattr(layer, name, torch.from_numpy(value.numpy()))
    assert rows(asked, batch, LAYERS).equals(table(4))


def test_no_torch_needed():
    import subprocess

    code = "import sys, turnout.runs; raise SystemExit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
