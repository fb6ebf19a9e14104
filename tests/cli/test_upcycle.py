"""`turnout upcycle`: output and errors."""

import pytest

SMALL = ("--tokens", 800, "--held-out", 600, "--length", 50)


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"line {i} of {i * i} things and {i % 7} others\n" for i in range(300)))
    return file


def test_json_then_text(turnout, checkpoint, text, tmp_path):
    words = ["upcycle", checkpoint("llama"), tmp_path / "moe", "--text", text, "--experts", 4, *SMALL]
    first = turnout(*words, "--json")
    assert first.code == 0
    assert [row["model"] for row in first.json()["losses"]] == ["dense", "before fitting", "fitted", "random split"]
    again = turnout(*words)
    assert again.code == 0
    assert "nothing to do" in again.err
    assert "mixtral" in again.err
    assert f"{first.json()['losses'][2]['loss']:.4f}" in again.out


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("olmoe", ["--method", "copy"], "a MoE already"),
        ("llama", ["--experts", 5], "divides the networks' 48 neurons"),
        ("llama", ["--top-k", 9], "at most the 8 experts"),
    ],
)
def test_refused_in_one_line(turnout, checkpoint, text, tmp_path, family, words, message):
    ran = turnout("upcycle", checkpoint(family), tmp_path / "moe", "--text", text, *words, *SMALL)
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.strip().splitlines()) == 1
    assert message in ran.err


def test_no_such_text(turnout, checkpoint, tmp_path):
    ran = turnout("upcycle", checkpoint("llama"), tmp_path / "moe", "--text", tmp_path / "none.txt", "--experts", 4)
    assert ran.code == 1
    assert "none.txt" in ran.err
