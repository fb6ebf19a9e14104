"""Import: every file format gives the same run, with the same audit by frequency as the model; errors are named."""

import base64
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditing.planted import domains_of, samples, write_trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listeners import Recorder

import turnout
from turnout import ImportConfig, audit
from turnout.auditing.config import AuditConfig
from turnout.auditing.figures import measure
from turnout.auditing.tables import tables
from turnout.auditing.tokens.atlas import atlas_tables
from turnout.errors import RecipeError, RunError, TaskError
from turnout.exchange import NOT_COMPUTED
from turnout.runs import RunFolder, TraceLayer, verify
from turnout.runs.tables import frame

E, K = 8, 2
LAYERS = (TraceLayer(1, E, K), TraceLayer(4, E, K), TraceLayer(6, E, K))


def import_routed(file, out, config, **options):
    """`turnout.import_routed` with its settings in one object."""
    return turnout.import_routed(file, out, **config.model_dump(), **options)


CONFIG = ImportConfig(experts=E, layers=(1, 4, 6))
SAMPLES = samples({"maths": 6, "law": 5, "art": 7}, LAYERS)


def arrays(found=SAMPLES):
    """Each sample's [T, L, K]."""
    return [np.stack([s["layers"][layer.layer]["chosen"] for layer in LAYERS], axis=1).astype(np.int16) for s in found]


def about(found=SAMPLES, **more):
    """Metadata of each sample, as `planted.write_trace` writes it."""
    return [
        {
            "id": f"q{i}",
            "subject": f"{s['domain']} {i % 2}",
            "domain": s["domain"],
            "tokens": list(range(len(array))),
            **more,
        }
        for i, (s, array) in enumerate(zip(found, arrays(found), strict=True))
    ]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return base64.b64encode(buffer.getvalue()).decode()


def int32(array):
    return base64.b64encode(array.astype("<i4").tobytes()).decode()


def offsets(parts):
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])])


def npz_concatenated(folder):
    said = about()
    columns = {name: np.array([row[name] for row in said]) for name in ("id", "subject", "domain")}
    tokens = np.concatenate([row["tokens"] for row in said])
    np.savez(
        folder / "routed.npz",
        routed_experts=np.concatenate(arrays()),
        offsets=offsets(arrays()),
        tokens=tokens,
        **columns,
    )
    return folder / "routed.npz", None, CONFIG


def npz_by_sample(folder):
    np.savez_compressed(folder / "routed.npz", **{f"q{i}": array for i, array in enumerate(arrays())})
    return folder / "routed.npz", jsonl(folder / "samples.jsonl", list(reversed(about()))), CONFIG


def parquet_nested(folder):
    rows = [{**row, "routed_experts": array.tolist()} for row, array in zip(about(), arrays(), strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "routed.parquet")
    return folder / "routed.parquet", None, CONFIG


def parquet_flat(folder):
    pq.write_table(pa.table({"routed_experts": [a.ravel().tolist() for a in arrays()]}), folder / "routed.parquet")
    pq.write_table(pa.Table.from_pylist(about()), folder / "samples.parquet")
    config = ImportConfig(experts=E, layers=(1, 4, 6), shape=(3, K))
    return folder / "routed.parquet", folder / "samples.parquet", config


def vllm_over_http(folder):
    rows = [{**row, "routed_experts": npy_bytes(array)} for row, array in zip(about(), arrays(), strict=True)]
    return jsonl(folder / "routed.jsonl", rows), None, CONFIG


def sglang(folder):
    """An array with every decoder layer, zeros for those without experts, and no shape."""
    rows = []
    for row, array in zip(about(), arrays(), strict=True):
        full = np.zeros((len(array), 7, K), np.int32)
        full[:, [1, 4, 6]] = array
        rows.append({**row, "meta_info": {"routed_experts": int32(full), "prompt_tokens": len(array)}})
    return jsonl(folder / "routed.jsonl", rows), None, ImportConfig(experts=E, layers=(1, 4, 6), shape=(7, K))


def npz_flat(folder):
    flat = {f"q{i}": array.ravel() for i, array in enumerate(arrays())}
    np.savez(folder / "routed.npz", **flat)
    config = ImportConfig(experts=E, layers=(1, 4, 6), shape=(3, K))
    return folder / "routed.npz", jsonl(folder / "samples.jsonl", about()), config


def npz_flat_concatenated(folder):
    flat = np.concatenate(arrays()).ravel()
    np.savez(folder / "routed.npz", routed_experts=flat, offsets=offsets(arrays()))
    config = ImportConfig(experts=E, layers=(1, 4, 6), shape=(3, K))
    return folder / "routed.npz", jsonl(folder / "samples.jsonl", about()), config


FLAT = (npz_flat, npz_flat_concatenated)
FORMS = (npz_concatenated, npz_by_sample, *FLAT, parquet_nested, parquet_flat, vllm_over_http, sglang)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """The same routing as a model's own trace, with scores and weights, measured by frequency."""
    trace = write_trace(tmp_path_factory.mktemp("captured") / "run", SAMPLES, LAYERS)
    return trace, {s: measure(trace, domains_of(SAMPLES), frequency(s)) for s in ("last", "all")}


def frequency(scope):
    return AuditConfig.of(kind="frequency", scope=scope)


def taken_in(folder, form=npz_concatenated, **options):
    file, beside, config = form(folder)
    return import_routed(file, folder / "run", config, samples=beside, **options)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_is_the_same_trace(captured, tmp_path, form):
    found = taken_in(tmp_path, form)
    assert (found.samples, found.layers, found.top_k, found.token_ids) == (len(SAMPLES), (1, 4, 6), K, True)
    trace, own = RunFolder.read(tmp_path / "run").trace(), captured[0]
    assert not trace.scored
    assert verify(tmp_path / "run") == []
    # A form that says nothing else keeps the order of the file.
    assert trace.samples().drop("answer").equals(own.samples().drop("answer"))
    for layer in LAYERS:
        for mine, his in zip(trace.chosen(layer.layer), own.chosen(layer.layer), strict=True):
            assert np.array_equal(mine, his)
        for scope in ("last", "all"):
            assert np.array_equal(trace.frequency(layer.layer, scope), own.frequency(layer.layer, scope))
    assert np.array_equal(trace.tokens()[0], own.tokens()[0])


@pytest.mark.parametrize("scope", ["last", "all"])
def test_the_audit_equals_the_models_except_where_scores_are_needed(captured, tmp_path, scope):
    taken_in(tmp_path)
    measured = audit(tmp_path / "run", out=tmp_path / "audit", kind="frequency", scope=scope)
    own = captured[1][scope]
    for mine, his in zip(measured.layers, json.loads(json.dumps(own.layers)), strict=True):
        for name in ("committee", "candidates", "mean_rank", "coverage", "gini", "jaccard_mean", "presence"):
            assert mine[name] == his[name], name
        assert mine["specificity"] is None
        assert mine["intervals"] == {name: x for name, x in his["intervals"].items() if name != "specificity"}
        signal = mine["nulls"]["domain_signal"]
        assert signal == his["nulls"]["domain_signal"] | {"silhouette": None}
        assert mine["claim"] == his["claim"]
    contribution, whole = measured.table("contribution"), frame(tables(own)["contribution"])
    assert contribution["frequency"].to_list() == whole["frequency"].to_list()
    for kind in ("gate", "weight", "released"):
        assert contribution[kind].null_count() == len(contribution)
    assert len(measured.table("silhouette")) == 0
    assert measured.model["not_computed"] == NOT_COMPUTED


@pytest.mark.parametrize("kind", ["gate", "weight", "released"])
def test_measures_of_scores_or_weights_are_refused(tmp_path, kind):
    taken_in(tmp_path)
    with pytest.raises(RecipeError, match="expected frequency: the trace contains chosen experts only"):
        audit(tmp_path / "run", out=tmp_path / "audit", kind=kind)
    with pytest.raises(RecipeError, match="min_specificity: expected none"):
        audit(tmp_path / "run", out=tmp_path / "audit", kind="frequency", min_specificity=0.1)
    assert not (tmp_path / "audit").exists()
    trace = RunFolder.read(tmp_path / "run").trace()
    for read in (trace.scores, trace.weights):
        with pytest.raises(RunError, match="layer 4: expected router scores, got chosen experts only"):
            read(4, "last")


def test_atlas_and_another_domain_map_from_an_imported_run(tmp_path):
    taken_in(tmp_path)
    trace = RunFolder.read(tmp_path / "run").trace()
    assert len(frame(atlas_tables(trace, domains_of(SAMPLES))["atlas_tokens"])) > 0
    placed = {f"{d} {i}": d[0] for d in ("maths", "law", "art") for i in (0, 1)}
    (tmp_path / "map.json").write_text(json.dumps(placed))
    measured = audit(tmp_path / "run", out=None, kind="frequency", domains=tmp_path / "map.json")
    assert set(measured.tasks["domains"]) == {"m", "l", "a"}


def test_one_array_without_any_metadata(tmp_path):
    np.save(tmp_path / "one.npy", arrays()[0])
    found = import_routed(tmp_path / "one.npy", tmp_path / "run", ImportConfig(experts=E))
    assert (found.samples, found.layers, found.token_ids) == (1, (0, 1, 2), False)
    trace = RunFolder.read(tmp_path / "run").trace()
    assert trace.samples().select("id", "subject", "domain").rows() == [("0", "all", "all")]
    assert set(trace.tokens()[0].tolist()) == {-1}


def test_samples_of_one_length(tmp_path):
    np.save(tmp_path / "many.npy", np.stack([arrays()[i][:1] for i in range(5)]))
    assert import_routed(tmp_path / "many.npy", tmp_path / "run", ImportConfig(experts=E)).samples == 5


def test_the_answers_last_token_has_no_row(tmp_path):
    said = [{**row, "tokens": [*row["tokens"], 7]} for row in about()]
    np.savez(tmp_path / "r.npz", routed_experts=np.concatenate(arrays()), offsets=offsets(arrays()))
    notes = []
    beside = jsonl(tmp_path / "s.jsonl", said)
    found = import_routed(tmp_path / "r.npz", tmp_path / "run", CONFIG, samples=beside, listener=Recorder(notes))
    assert found.left_out == len(SAMPLES)
    assert len(notes) == 1
    assert 7 not in RunFolder.read(tmp_path / "run").trace().tokens()[0]


def test_prompts_only(tmp_path):
    file, _, _ = npz_concatenated(tmp_path)
    beside = jsonl(tmp_path / "s.jsonl", [{**row, "prompt_tokens": 1} for row in about()])
    config = ImportConfig(experts=E, layers=(1, 4, 6), prompt_only=True)
    found = import_routed(file, tmp_path / "run", config, samples=beside)
    trace = RunFolder.read(tmp_path / "run").trace()
    assert found.tokens == len(SAMPLES)
    assert np.array_equal(trace.chosen(4)[0], np.stack([a[0, 1] for a in arrays()]))
    with pytest.raises(RunError, match=r"prompt_tokens, 1 to \d+, to keep the prompt only, got none"):
        import_routed(file, tmp_path / "other", config)


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path):
    taken_in(tmp_path)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*")}
    notes = []
    taken_in(tmp_path, listener=Recorder(notes))
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "run").rglob("*")} == before
    assert "complete" in notes[0]
    with pytest.raises(RunError, match="as in the run that it contains"):
        import_routed(tmp_path / "routed.npz", tmp_path / "run", ImportConfig(experts=E + 1, layers=(1, 4, 6)))


def test_many_shards(tmp_path, monkeypatch, captured):
    monkeypatch.setattr("turnout.exchange.importing.SHARD_CELLS", 40)
    taken_in(tmp_path)
    assert len(list((tmp_path / "run" / "trace").glob("part-*"))) > 3
    assert np.array_equal(RunFolder.read(tmp_path / "run").trace().chosen(6)[0], captured[0].chosen(6)[0])


routings = st.integers(1, 6).flatmap(
    lambda e: st.tuples(st.just(e), st.integers(1, e), st.integers(1, 3), st.lists(st.integers(1, 5), min_size=1))
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(routings, st.integers(0, 99))
def test_any_routing_is_read_back(tmp_path_factory, routing, seed):
    (n_experts, k, n_layers, lengths), rng = routing, np.random.default_rng(seed)
    made = [
        np.array([[rng.permutation(n_experts)[:k] for _ in range(n_layers)] for _ in range(length)])
        for length in lengths
    ]
    folder = tmp_path_factory.mktemp("any")
    np.savez(folder / "r.npz", routed_experts=np.concatenate(made).astype(np.uint64), offsets=offsets(made))
    import_routed(folder / "r.npz", folder / "run", ImportConfig(experts=n_experts))
    trace = RunFolder.read(folder / "run").trace()
    for layer in range(n_layers):
        ids, starts = trace.chosen(layer)
        assert starts.tolist() == offsets(made).tolist()
        assert np.array_equal(ids, np.concatenate(made)[:, layer])


def changed(at, value, dtype=np.int16):
    parts = [a.astype(dtype) for a in arrays()]
    parts[2][at] = value
    return parts


def bad_experts(parts, **columns):
    def write(folder):
        np.savez(folder / "r.npz", routed_experts=np.concatenate(parts), offsets=offsets(parts), **columns)
        return folder / "r.npz"

    return write


def bad_rows(rows, name="r.jsonl"):
    return lambda folder: jsonl(folder / name, rows)


def bad_bytes(data, name):
    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def pickled(folder):
    np.save(folder / "r.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return folder / "r.npy"


ONE = {"routed_experts": arrays()[0].tolist()}
BAD = {
    "id too large": (
        bad_experts(changed((0, 1, 0), 8)),
        r"sample 2 of .*, token 0, layer 4: expected experts from 0 to 7",
    ),
    "sentinel": (bad_experts(changed((0, 0, 0), -1)), "layer 1: expected experts from 0 to 7, got -1"),
    "twice": (bad_experts(changed((0, 2), [3, 3])), "layer 6: expected each expert once, got .3, 3.*--layers"),
    "floats": (bad_experts(changed((0, 0, 0), 1, np.float32)), "expected integers, got float32"),
    "two dimensions": (bad_experts([a[:, 0] for a in arrays()]), r"expected experts as \[tokens, layers, K\]"),
    "layers differ": (
        bad_rows([ONE, {"routed_experts": arrays()[0][:, :2].tolist()}]),
        "line 2 .*expected .tokens, 3 l",
    ),
    "ragged": (bad_rows([{"routed_experts": [[[0, 1]], [[0]]]}]), "line 1 of .*as many in each"),
    "no experts": (bad_rows([{"id": "a"}]), "line 1 of .*expected the column routed_experts, got id"),
    "no tokens": (bad_rows([ONE, {"routed_experts": []}]), "line 2"),
    "no samples": (bad_rows([]), "expected at least one sample, got none"),
    "no JSON": (bad_bytes(b"{", "r.jsonl"), "line 1 of .*expected one JSON object"),
    "no object": (bad_bytes(b"3\n", "r.jsonl"), "line 1 of .*expected one JSON object, got int"),
    "no base64": (bad_rows([{"routed_experts": "§"}]), "line 1 of .*base64"),
    "no shape": (bad_rows([{"routed_experts": int32(arrays()[0])}]), "--shape LAYERSxK"),
    "another shape": (bad_experts([a[:, :, :1] for a in arrays()]), "3 layers, 2 experts., as the shape given"),
    "odd bytes": (bad_rows([{"routed_experts": base64.b64encode(b"abc").decode()}]), "int32 numbers in base64"),
    "two ids": (bad_rows([ONE | {"id": "a"}, ONE | {"id": "a"}]), "expected an id of its own .*'a' twice"),
    "subject": (bad_rows([ONE | {"subject": " "}]), "expected a subject with a name"),
    "tokens": (bad_rows([ONE | {"tokens": ["a"]}]), "tokens to be a list of token ids"),
    "too many tokens": (bad_rows([ONE | {"tokens": [1] * 99}]), "token ids.*, one for each row.*got 99"),
    "answer": (bad_rows([ONE | {"answer": -1}]), "answer to be a whole number from 0 to 25"),
    "suffix": (bad_bytes(b"", "r.pkl"), "expected a file of routed experts: .npy"),
    "empty npz": (bad_bytes(b"PK", "r.npz"), "expected a .npz file"),
    "no parquet": (bad_bytes(b"PAR1", "r.parquet"), "expected a Parquet file"),
    "pickle": (pickled, "array of numbers"),
    "offsets": (bad_experts(arrays(), id=np.array(["a"])), "id in .*expected one for each of 18 samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, name):
    write, message = BAD[name]
    config = CONFIG.replace(shape=(3, K)) if name == "another shape" else CONFIG
    with pytest.raises(RunError, match=message) as raised:
        import_routed(write(tmp_path), tmp_path / "run", config)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 1}, "experts: expected at least 2"),
        ({"experts": 0}, "experts: expected 1 or more"),
        ({"experts": 8, "layers": (0, 1, 2, 3)}, "layers: expected a number for each of 3 layers"),
        ({"experts": 8, "layers": (1, 4)}, "layers: expected a number for each of 3 layers, or fewer of 0 to 2"),
        ({"experts": 8, "layers": (2, 1, 0)}, "layers: expected decoder layers from 0, ascending"),
        ({"experts": 8, "shape": (0, 1)}, "shape: expected LAYERSxK"),
        ({"experts": 8, "shared": -1}, "shared: expected 0 or more"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    file, _, _ = npz_concatenated(tmp_path)
    with pytest.raises(RecipeError, match=message):
        import_routed(file, tmp_path / "run", ImportConfig(**options))


def test_samples_that_do_not_fit(tmp_path):
    file, _, _ = npz_by_sample(tmp_path)
    for rows, message in (
        (about()[:-1], "expected a row of its own in .*, got none"),
        ([*about(), {"id": "more"}], "expected 18 rows, as many as samples, got 19"),
        ([{"id": "x"}] * 18, "line 2 of .*expected a unique id, got 'x'"),
    ):
        with pytest.raises(RunError, match=message):
            import_routed(file, tmp_path / "other", CONFIG, samples=jsonl(tmp_path / "bad.jsonl", rows))
    with pytest.raises(TaskError, match="a subject of the domain map mmlu-9"):
        import_routed(file, tmp_path / "other", CONFIG, samples=tmp_path / "samples.jsonl", domains="mmlu-9")
    assert not (tmp_path / "other").exists()
