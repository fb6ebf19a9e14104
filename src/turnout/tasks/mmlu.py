"""MMLU from a folder of its files, from the hub, or the dev questions in lm-evaluation-harness.

MMLU: Hendrycks et al., arXiv 2009.03300. Ids are `subject/position`, the same from every source with the same order.
"""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from turnout.errors import TaskError
from turnout.tasks.files import read_csv, read_rows
from turnout.tasks.rows import Row

HUB_ID, HUB_CONFIG = "cais/mmlu", "all"
_TIMEOUT = 10.0  # seconds
_SPLITS = {"validation": "val", "val": "val", "dev": "dev", "test": "test", "train": "auxiliary_train"}
DEV_FILE = "tasks/mmlu/flan_cot_fewshot/_cot_prompts.json"
_DEV_QUESTION = re.compile(
    r"(?P<question>.*?)\n?\(A\)\s*(?P<A>.*?)\s*\(B\)\s*(?P<B>.*?)\s*\(C\)\s*(?P<C>.*?)\s*\(D\)\s*(?P<D>.*?)\s*\nA:(?P<worked>.*)",
    re.DOTALL,
)
_DEV_ANSWER = re.compile(r"answer is \(([A-Z])\)")


def from_folder(folder: Path, split: str) -> tuple[Iterator[Row], list[str]]:
    """The rows of `split` in a folder with the original CSV files or with Parquet files of the hub's layout.

    Searched in this order: `<split>/<subject>_<split>.csv`, `<subject>_<split>.csv`, `<subject>.csv`; then
    `<split>*.parquet` in the folder, in `all/`, in `data/`, in any subfolder; then all of the folder's Parquet files.

    Returns:
        The rows, and the files beside them that have a subject's name and are not read, each with the reason.

    Raises:
        TaskError: none of them exists.
    """
    short = _SPLITS.get(split, split)
    csvs = sorted(folder.glob(f"{short}/*_{short}.csv")) or sorted(folder.glob(f"*_{short}.csv"))
    if not csvs:
        csvs = [p for p in sorted(folder.glob("*.csv")) if p.stem.rpartition("_")[2] not in _SPLITS.values()]
    if csvs:
        rows = numbered(row for p in csvs for row in read_csv(p, p.stem.removesuffix(f"_{short}")))
        return rows, _similar_files(csvs, short)
    for pattern in (f"{split}*.parquet", f"all/{split}*.parquet", f"data/{split}*.parquet", f"*/{split}*.parquet"):
        if parquets := sorted(folder.glob(pattern)):
            return numbered(row for p in parquets for row in read_rows(p)), []
    named = tuple(_SPLITS)
    if parquets := [p for p in sorted(folder.glob("*.parquet")) if not p.stem.startswith(named)]:
        return numbered(row for p in parquets for row in read_rows(p)), []
    raise TaskError(
        folder,
        expected=f"MMLU's CSV files ({short}/<subject>_{short}.csv) or Parquet files ({split}-*.parquet)",
        received="a folder without them",
        do="pass the folder with them, or one file",
    )


def _similar_files(read: list[Path], short: str) -> list[str]:
    """Files beside those that are read whose names differ from a subject's only in case, or by a copy's number."""
    pattern = re.compile(rf".*_{re.escape(short)}\b.*\.csv", re.IGNORECASE)
    others = [path for path in sorted(read[0].parent.iterdir()) if path not in read and pattern.fullmatch(path.name)]
    return [f"{path.name}: not named <subject>_{short}.csv" for path in others]


def from_hub(name: str, split: str) -> Iterator[Row]:
    """The rows of a dataset on the hub; the only function that fetches questions over the network.

    Raises:
        TaskError: the dataset cannot be loaded, with the reason.
    """
    import datasets  # slow to import, and used here only
    from huggingface_hub import HfApi, constants

    try:
        if not constants.HF_HUB_OFFLINE:  # one request first: the client below retries for half a minute
            HfApi().dataset_info(name, timeout=_TIMEOUT)
        table = datasets.load_dataset(name, HUB_CONFIG if name == HUB_ID else None, split=split)
    except Exception as e:  # anything that the hub's client raises: no network, no such dataset, no such split
        raise TaskError(
            name,
            expected=f"a file, a folder, or a dataset on the hub with the split {split!r}",
            received=f"{type(e).__name__}: {e}"[:90],
            do="without a network pass a folder or file, or set HF_HUB_OFFLINE=1 to use a cached copy",
        ) from e
    rows = (Row(f"row {i + 1} of {name}", fields) for i, fields in enumerate(table))
    return numbered(rows) if "subject" in (table.column_names or ()) else rows


def from_harness() -> tuple[list[Row], list[str]]:
    """The dev questions in the installed lm-evaluation-harness, and the ones left out, with reasons.

    At most five a subject, with worked answers for chain-of-thought prompts; 282 in all, one of which has an answer
    letter that is not among its choices.

    Raises:
        TaskError: the package or its file is missing.
    """
    path = harness_folder() / DEV_FILE
    try:
        prompts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise TaskError(path, expected="MMLU's dev questions in the installed lm_eval package", received=e) from e
    rows: list[Row] = []
    dropped: list[str] = []
    for subject, prompt in prompts.items():
        blocks = re.split(r"^Q:\s*", prompt, flags=re.MULTILINE)[1:]
        for position, block in enumerate(blocks):
            where = f"{subject}/{position}"
            fields = _dev_question(block)
            if isinstance(fields, str):
                dropped.append(f"{where}: {fields}")
            else:
                rows.append(Row(f"question {where} of {path}", {"id": where, "subject": subject, **fields}))
    return rows, dropped


def numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, with the id `subject/position in that subject` where they have none."""
    counts: Counter[object] = Counter()
    for row in rows:
        subject = row.fields.get("subject")
        own = {} if row.fields.get("id") is not None or subject is None else {"id": f"{subject}/{counts[subject]}"}
        counts[subject] += 1
        yield Row(row.where, {**row.fields, **own})


def _dev_question(block: str) -> dict[str, object] | str:
    """Question, choices and answer of one worked example; or the reason why it is left out."""
    match = _DEV_QUESTION.fullmatch(block.strip())
    if match is None:
        return "not a question with choices A to D"
    answers = _DEV_ANSWER.findall(match["worked"])
    if not answers or answers[-1] not in "ABCD":
        return f"answers {answers[-1] if answers else 'nothing'}, not A to D"
    choices = [match[letter] for letter in "ABCD"]
    return {"question": match["question"].strip(), "choices": choices, "answer": answers[-1]}


def harness_folder() -> Path:
    """The folder of the installed lm_eval, without importing it (it imports torch)."""
    spec = importlib.util.find_spec("lm_eval")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise TaskError("mmlu-dev", expected="the package lm-eval", received="not installed", do="pip install lm-eval")
    return Path(places[0])
