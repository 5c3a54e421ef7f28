"""Documents and the texts of --help name only what exists: commands, settings, metrics, alerts, messages, files."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from longtake import Client, StreamOptions
from tests.deploy.commands import understood
from tests.repository import named
from tests.repository.named import ROOT
from tests.workers.given_pictures import encoded, moving_ball, video

MADE = ("protos/preface.md",)
"""Parts of other documents."""
FIGURES = ("benchmarks/RESULTS.md",)
"""What was measured once, with the commands of then."""
FORMER = {
    *("longtake_images_total", "longtake_image_bytes_total", "longtake_host_memory_bytes", "longtake_picture_rate"),
    *("longtake_opens_total", "longtake_parked_total", "longtake_restored_total", "longtake_worker_slowness"),
    *("longtake_ops_failed_total", "LongtakeRefusingLive", "metrics.prometheusRule", "metrics.dashboards"),
}
"""What CHANGELOG.md says is called otherwise now."""


def pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split() if name not in (*MADE, *FIGURES)]


def wrong_span(span: str, page: Path) -> bool:
    """Whether something in code looks like one of our names, and is none."""
    bare = re.sub(r"\(.*\)$", "", span)
    former = FORMER if page.name == "CHANGELOG.md" else set()
    if bare.split("{")[0] in former:
        return False
    if span.startswith("longtake "):
        return named.wrong_command(span) != ""
    if re.match(r"longtake_\w+", span):
        return not named.is_metric(span)
    if re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_]\w*)+", bare) and not bare.startswith(named.OTHERS):
        kinds = (named.is_key, named.is_value, named.is_field, named.is_of_client, named.is_module)
        return not (any(is_one(bare) for is_one in kinds) or named.is_file(bare, page) or bare.endswith(named.DATA))
    if re.fullmatch(r"[\w.-]+(/[\w.:-]+)+/?", span):
        top = span.split("/")[0]
        return ((ROOT / top).exists() or Path(span).suffix == ".py") and not named.is_file(span, page)
    return False


def wrong_names(text: str, page: Path) -> list[str]:
    """What a document names that does not exist."""
    wrong = [span for span in named.spans(text) if wrong_span(span, page)]
    wrong += [error for words in named.command_lines(text) if (error := named.wrong_command(" ".join(words)))]
    wrong += [call for line in text.splitlines() for call in named.wrong_module(line)]
    former = FORMER if page.name == "CHANGELOG.md" else set()
    alerts = set(re.findall(r"\bLongtake[A-Z][a-z][A-Za-z]+\b", text)) - former
    wrong += sorted(name for name in alerts if not name.startswith("LongtakeService") and not named.is_alert(name))
    enums = "ENDING|CONTINUITY|HOLD|PACE|DECODER|CODEC|SESSION_STATE|WORKER_ROLE|LEVEL|OP_KIND"
    wrong += sorted(set(re.findall(rf"\b(?:{enums})_[A-Z0-9_]+\b", text)) - named.constants())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*named.spans(text), *(line for block in named.blocks(text, "", "sh") for line in block.splitlines())]
    made = [found[1] for line in code if (found := re.match(r"make ([a-z-]+)", line))]
    wrong += [f"make {name}" for name in made if name not in targets]
    wrong += [path for path in named.files_in_blocks(text) if not named.is_file(path, page)]
    sections = re.findall(r"\[([a-z]+)\] ([a-z_]+) =", text)
    wrong += [f"[{section}] {key}" for section, key in sections if not named.is_key(f"{section}.{key}")]
    return wrong


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_document_names_exists(page: Path) -> None:
    assert wrong_names(page.read_text(encoding="utf-8"), page) == []


def test_what_does_not_exist_is_found() -> None:
    good = (
        "`longtake drain --wait` `longtake_calls_total{method}` `limits.max_parked` `workers.allowShrink` `Open.fork` "
        "`ExportRequest.hand_over` `Client.resume` `stream.save` `cue.accepted()` `cluster/serve.py` `make demo` "
        "`benchmarks.simulate` LongtakeDown ENDING_LOST [model] path = 1\n"
        "```\npython -m benchmarks.mixed --live 2\nhelm -f deploy/overlays/h200-4.yaml\n```\n"
    )
    assert wrong_names(good, ROOT / "README.md") == []
    bad = (
        "`longtake drain --graze` `longtake frob` `longtake_call_total` `longtake_calls_total{colour}` "
        "`limits.max_barked` `workers.allowShrinking` `Open.spoon` `Client.resumes` `stream.safe` `cluster/surf.py` "
        "`make coffee` LongtakeDawn `benchmarks.simulation` ENDING_HAPPY [model] paths = 1\n"
        "```\nlongtake serve --prot 1\npython -m benchmarks.mixed --dead 2\npython -m benchmarks.none\n"
        "helm -f deploy/overlays/h200-5.yaml\n```\n"
    )
    found = wrong_names(bad, ROOT / "README.md")
    assert len(found) == 19, found


def test_there_is_much_to_look_at() -> None:
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    assert len(texts) > 20
    assert sum(1 for text in texts for _ in named.command_lines(text)) > 30
    assert sum(span.count(".") == 1 for text in texts for span in named.spans(text)) > 300


def test_what_is_called_otherwise_now_is_gone() -> None:
    assert not [name for name in FORMER if named.is_metric(name) or named.is_alert(name) or named.is_value(name)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_is_one_that_is_taken(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in named.command_lines(page.read_text(encoding="utf-8")):
        for word in words:  # what the commands before it, or a download, would have left there
            if word.endswith("/"):
                (tmp_path / word).mkdir(parents=True, exist_ok=True)
            elif re.fullmatch(r"[\w.-]+\.(toml|safetensors|pt|pth)", word):
                (tmp_path / word).touch()
            elif words[words.index(word) - 1] == "--first-frame":
                (tmp_path / word).write_bytes(encoded(moving_ball(1)[0]))
            elif words[words.index(word) - 1] == "--continue":
                video(tmp_path / word, 5)
        try:
            understood(words)
        except (click.UsageError, KeyError) as error:
            pytest.fail(f"{' '.join(words)}: {error}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_piece_of_a_configuration_has_keys_that_there_are(page: Path) -> None:
    for block in named.blocks(page.read_text(encoding="utf-8"), "toml"):
        if not block.startswith("# tenants.toml"):
            found = tomllib.loads(block)
            keys = [f"{section}.{key}" for section, table in found.items() for key in table]
            assert keys and [key for key in keys if not named.is_key(key)] == []


@pytest.mark.parametrize(("name", "text"), named.help_texts().items(), ids=lambda value: str(value).split("\n")[0][:20])
def test_what_help_names_exists(name: str, text: str) -> None:
    plain = " ".join(text.split())
    assert "..." not in plain.replace("]...", "").replace("SOURCE...", ""), (
        "a sentence is cut off in the list of commands"
    )
    sections = r"(?:listen|metrics|http|limits|cluster|model|recording|journal|auth|tls|link)"
    keys = re.findall(rf"\b({sections}\.[a-z_]+)\b(?!\.)", plain)
    keys += [f"{section}.{key}" for section, key in re.findall(r"\[([a-z]+)\] ([a-z_]+)\b", plain)]
    assert [key for key in keys if not (named.is_key(key) or key.endswith(".json"))] == [], name
    assert [span for span in named.spans(plain) if wrong_span(span, ROOT / "README.md")] == [], name


def test_the_page_about_python_names_what_the_client_has() -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    options = text.partition("## What a stream may be asked for")[2].partition("\n## ")[0]
    asked = {span.partition("=")[0] for span in named.spans(options) if re.fullmatch(r'[a-z_]+(="\w+")?', span)}
    assert len(asked) > 12 and asked <= set(StreamOptions.__dataclass_fields__)
    for call in re.findall(r"`([a-z_]+)\([^`]*\)`", text):
        assert any(named.has_member(kind, call) for kind in named.exported()), call
    questions = re.findall(r"`([a-z_]+)(?:\(\w*\))?`", text.partition("## Other questions")[2])
    assert len(questions) > 8 and [name for name in questions if not hasattr(Client, name)] == []
