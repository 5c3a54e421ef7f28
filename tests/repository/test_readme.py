"""The README keeps what it promises: its links lead somewhere, its code runs, its picture moves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests.cluster.frontend.toy import HEADER, toy_cell_in_thread

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURE = ROOT / "docs/pictures/streams.webp"
MOST_BYTES = 1_500_000
WORDS = ("block", "segment", "cue", "lane", "page")


def documents() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split() if name != "protos/preface.md"]  # a part of docs/protocol.md


def anchors(text: str) -> set[str]:
    """The names of a document's headings, as hosts of repositories make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def astray(document: Path, text: str) -> list[str]:
    """Links and pictures of a document that lead nowhere."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (document.parent / path).resolve() if path else document
        known = target.suffix == ".md" and target.exists()
        if not target.exists() or (anchor and (not known or anchor not in anchors(target.read_text("utf-8")))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    assert astray(document, document.read_text(encoding="utf-8")) == []


def test_links_that_lead_nowhere_are_found() -> None:
    good = "[a](docs/pocket.md) [b](docs/pocket.md#training-again) [c](#words) [d](https://arxiv.org)"
    bad = "[a](docs/none.md) ![b](docs/pictures/none.webp) [c](docs/pocket.md#none) [d](#none)"
    assert astray(ROOT / "README.md", f"# Words\n{good}\n{bad}") == [
        "docs/none.md",
        "docs/pictures/none.webp",
        "docs/pocket.md#none",
        "#none",
    ]


def test_the_words_are_explained_before_the_first_long_section() -> None:
    top = README[: README.index("## How it works")]
    assert [word for word in WORDS if not re.search(rf"^\| {word} \| .{{30,}} \|$", top, re.MULTILINE)] == []


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with toy_cell_in_thread() as cell:
        assert "127.0.0.1:50051" in code
        exec(compile(code.replace("127.0.0.1:50051", cell.target), "README.md", "exec"), {})
    written = (tmp_path / "out.mp4").read_bytes()
    assert written.startswith(HEADER) and b"shows a green ring" in written and b"shows a red box" in written


def test_the_two_commands_come_first() -> None:
    assert re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)[:2] == ["demo", "test"]


def test_the_picture_moves_and_is_small() -> None:
    assert f"]({PICTURE.relative_to(ROOT).as_posix()})" in README
    assert PICTURE.stat().st_size < MOST_BYTES
    with Image.open(PICTURE) as picture:
        frames = getattr(picture, "n_frames", 1)
        picture.seek(frames // 3)
        middle = picture.convert("RGB").tobytes()
        picture.seek(frames - 1)
        assert frames > 100 and picture.convert("RGB").tobytes() != middle
