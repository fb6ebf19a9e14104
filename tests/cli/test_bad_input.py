"""Bad input: exit status 1, one line that names it, nothing written."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from cli.conftest import questions, write_jsonl
from safetensors.torch import load_file, save_file
from tiny import tiny_model

from turnout.errors import ModelError


def refused(ran, *words):
    """Assert exit status 1 and one line on stderr that contains all of `words`."""
    assert ran.code == 1, ran.err
    assert ran.out == ""
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    for word in words:
        assert str(word) in lines[0], lines[0]


def row(**changes):
    return {key: value for key, value in (questions()[0] | changes).items() if value is not None}


def no_config(path):
    (path / "config.json").unlink()


def broken_config(path):
    (path / "config.json").write_text("{")


def cut_weights(path):
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def no_weights(path):
    (path / "model.safetensors").unlink()


def lost_tensor(path):
    weights = path / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "gate.weight" in name)
    tensors.pop(name)
    save_file(tensors, weights, metadata={"format": "pt"})


def pickled(path):
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def remote_code(path):
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "own", "architectures": ["Own"]}
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "modeling_own.py").write_text("raise SystemExit('remote code ran')")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_config, ["config.json"]),
        (broken_config, ["config.json"]),
        (cut_weights, ["model.safetensors"]),
        (no_weights, ["safetensors"]),
        (lost_tensor, ["gate"]),
        (pickled, ["safetensors"]),
        (remote_code, ["trust"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_checkpoint(turnout, tasks, tmp_path, spoil, words):
    model = tiny_model("olmoe", tmp_path / "model")
    spoil(model)
    refused(turnout("audit", model, "--tasks", tasks, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_missing_checkpoint(turnout, tasks, tmp_path):
    refused(turnout("audit", tmp_path / "none", "--tasks", tasks, "--out", tmp_path / "run"), "none")
    assert not (tmp_path / "run").exists()


def test_dense_model(turnout, tasks, tmp_path):
    refused(turnout("audit", tiny_model("llama", tmp_path / "m"), "--tasks", tasks, "--out", tmp_path / "run"), "dense")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], ["tasks.jsonl"]),
        ([row(), row(question=None, choices=None)], ["2", "choices", "text"]),
        ([row(), row(answer="E")], ["2", "E"]),
        ([row(answer=4)], ["1", "4"]),
        ([row(answer=-1)], ["1"]),
        ([row(domain=None, subject="alchemy")], ["alchemy"]),
        ([row(question=3)], ["1", "question"]),
        ([row(choices="ABCD")], ["1", "choices"]),
    ],
    ids=["empty", "neither", "letter", "index", "negative", "no domain", "type", "choices"],
)
def test_bad_tasks(turnout, checkpoint, tmp_path, rows, words):
    tasks = write_jsonl(tmp_path / "tasks.jsonl", rows)
    options = ["--domains", "mmlu-9"] if "alchemy" in words else []
    refused(turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", *options), *words)
    assert not (tmp_path / "run").exists()


def test_malformed_line(turnout, checkpoint, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(row()) + "\n{oops\n")
    refused(turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run"), "tasks.jsonl", "2")


def test_an_unknown_task_lists_the_known_ones(turnout, checkpoint, tmp_path):
    refused(turnout("audit", checkpoint("olmoe"), "--tasks", "mlu", "--out", tmp_path / "run"), "mmlu-dev")


def test_prompt_longer_than_the_context(turnout, checkpoint, tmp_path):
    tasks = write_jsonl(tmp_path / "tasks.jsonl", [row(), row(question="far " * 500)])
    ran = turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    refused(ran, f"line 2 of {tasks}: expected a prompt of at most 512 tokens")
    assert not (tmp_path / "run").exists()


def test_nan_in_router_scores_names_layer_and_sample(turnout, tmp_path):
    model = tiny_model("olmoe", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.embed_tokens.weight"][ord("#") - ord("!")] = torch.nan  # byte-level ids begin at "!"
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    tasks = write_jsonl(tmp_path / "tasks.jsonl", [row(), row(id="sharp", question="What is C#?")])
    refused(turnout("audit", model, "--tasks", tasks, "--out", tmp_path / "run"), "layer 0", "question sharp", "NaN")
    assert not (tmp_path / "run").exists()


def test_nan_in_a_router_names_the_layer(turnout, tasks, tmp_path):
    model = tiny_model("olmoe", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if "layers.1." in name and name.endswith("gate.weight"))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    refused(turnout("audit", model, "--tasks", tasks, "--out", tmp_path / "run"), "layer 1", "finite")


def test_folder_of_another_run(turnout, checkpoint, tasks, tmp_path):
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run")
    before = (tmp_path / "run/audit.json").read_bytes()
    refused(turnout("audit", checkpoint("mixtral"), "--tasks", tasks, "--out", tmp_path / "run"), "run", "model")
    refused(
        turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run", "--scope", "all"), "scope"
    )
    other = write_jsonl(tmp_path / "other.jsonl", questions(3))
    refused(turnout("audit", checkpoint("olmoe"), "--tasks", other, "--out", tmp_path / "run"), "tasks")
    assert (tmp_path / "run/audit.json").read_bytes() == before


def test_folder_of_something_else(turnout, checkpoint, tasks, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    refused(turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run"), "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_full_disk_mid_shard(checkpoint, tasks, tmp_path):
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from turnout.cli.main import main; import turnout.api;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); sys.argv = ['turnout', *sys.argv[1:]]; main()"
    )
    words = ["audit", checkpoint("olmoe"), "--tasks", tasks, "--out", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.rglob("*.tmp*"))
    assert not list(tmp_path.rglob("part-*"))


def test_ctrl_c_prints_how_to_resume(turnout, tmp_path):
    model = tiny_model("olmoe", tmp_path / "model")
    tasks = write_jsonl(tmp_path / "tasks.jsonl", questions(12, 20))
    words = ["audit", model, "--tasks", tasks, "--token-budget", 64, "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "turnout", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    index = tmp_path / "run/trace/index.jsonl"
    while process.poll() is None and not index.exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out == ""
    assert "continues" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "run").rglob("*.tmp*"))
    assert turnout(*words).code == 0


@pytest.mark.parametrize(
    "words", [["audit", "--scope", "first"], ["audit", "--limit", "many"], ["audit", "--nope"], ["nothing"]]
)
def test_arguments_that_do_not_parse_exit_with_2(turnout, words):
    assert turnout(*words).code == 2


def test_debug_shows_the_traceback(turnout, tmp_path):
    with pytest.raises(ModelError, match="none"):
        turnout("audit", tmp_path / "none", "--debug")


def test_damaged_inputs_are_named_with_a_remedy(turnout, checkpoint, tasks, tmp_path):
    run = tmp_path / "run"
    turnout("audit", checkpoint("olmoe"), "--tasks", tasks, "--out", run)
    (run / "inputs.json").write_text("{")
    for words in (["report", run], ["compare", run, run], ["export", run, "--out", tmp_path / "tables"]):
        refused(turnout(*words), run / "inputs.json", "restore it from a copy, or repeat the run in another folder")
    assert not (tmp_path / "tables").exists()


def test_control_characters_of_a_path_do_not_reach_the_terminal(turnout, tmp_path):
    folder = tmp_path / "r\x1b[31mun\x07"
    ran = turnout("plan", "--active", "1.3B", "--tokens", "300B", "--out", folder)
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.err + ran.out
    assert "\x07" not in ran.err + ran.out
    assert r"r\x1b[31mun\x07" in ran.err
