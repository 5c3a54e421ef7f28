"""The trial of the images as far as no image is made: what it passes on, how strict it is, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.images import __main__ as trial
from deploy.images import machine
from deploy.images.base import mirror_of, python_of
from deploy.images.build import traces, wrong_labels
from deploy.images.container import Setting, process, specification
from deploy.images.machine import check, check_namespaces, check_room, remove_scratch
from deploy.images.outcomes import Unable, Wrong
from deploy.images.pip_settings import settings_of
from deploy.images.served import CONFINED, composed
from deploy.images.stamp import hashed, put, stamp_of
from deploy.images.storage import Deadline, Failed, Image, Tools, bytes_of
from tests.deploy.manifests import path

LISTING = r"""global.extra-index-url='file:///srv/pypi/simple https://user:secret@index.example/simple'
global.find-links='\n/srv/wheels\n/srv/more'
global.require-virtualenv='true'
install.find-links='/srv/of-install'
:env:.cert='/etc/ssl/certs/ca.pem'
global.cert='/etc/other.pem'
"""
FIGURES = {"base_s": 40.1, "build_s": 120.5, "image_bytes": 1_850_000_000, "ready_s": 8.5, "video_s": 10.0,
           "end_s": 2.6, "status": 0, "same_bytes_as_render": True, "root_read_only": True,
           "storage": "overlay"}  # fmt: skip
SETTING = Setting(environment=("PATH=/bin",), user="1000:1000", folder="/tmp", command=("longtake", "serve"))


def test_a_build_gets_the_settings_of_pip_that_say_where_packages_are(tmp_path: Path) -> None:
    found = settings_of(LISTING)
    assert found.paths == tuple(
        map(Path, ("/etc/ssl/certs/ca.pem", "/srv/more", "/srv/of-install", "/srv/pypi", "/srv/wheels"))
    )
    assert "https://user:secret@index.example/simple" in found.told and "/srv/wheels" in found.told
    conf = tmp_path / "pip.conf"
    conf.write_text(found.text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(conf)}
    read = subprocess.run([sys.executable, "-I", "-m", "pip", "config", "list"], env=environment, capture_output=True)
    own = [line for line in read.stdout.decode().splitlines() if ":env:" not in line]
    assert "global.cert='/etc/ssl/certs/ca.pem'" in own  # a variable goes before a file
    assert r"global.find-links='\n/srv/wheels\n/srv/more'" in own
    assert "install.find-links='/srv/of-install'" in own
    assert not any("require-virtualenv" in line for line in own)


def test_no_settings_are_an_empty_file() -> None:
    assert (
        settings_of("")
        == settings_of("global.user='true'\n")
        == replace(settings_of(LISTING), text="", paths=(), told=())
    )


def test_the_base_has_the_python_that_the_dockerfile_names() -> None:
    assert python_of(path("deploy/Dockerfile").read_text()) == "3.11"
    for other in ("ARG PYTHON_IMAGE=python:3.9-slim\n", "FROM python:3.11-slim\n"):
        with pytest.raises(Wrong, match="PYTHON_IMAGE"):
            python_of(other)


def test_debian_comes_from_where_this_machine_gets_it() -> None:
    targets = "Other Other http://other.example/\nDebian Debian-Security http://a.example/\nDebian Debian http://b.example/d/\n"
    assert mirror_of(targets) == "http://b.example/d/"
    assert mirror_of("") is None


@pytest.mark.parametrize(("size", "wanted"), [("1.58 GB", 1_580_000_000), ("754 MB", 754_000_000), ("0 B", 0)])
def test_sizes(size: str, wanted: int) -> None:
    assert bytes_of(size) == wanted


def test_a_container_is_held_to_what_the_chart_holds_pods_to() -> None:
    files = {Path("/srv/longtake.toml"): "/etc/longtake/longtake.toml"}
    spec = specification(SETTING, root=Path("/srv/root"), name="x", files=files, shared_bytes=2**20)
    assert spec["root"] == {"path": "/srv/root", "readonly": True}
    assert {each["type"] for each in spec["linux"]["namespaces"]} == {"pid", "network", "ipc", "uts", "mount"}
    assert not any("path" in each for each in spec["linux"]["namespaces"])
    for held in (spec["process"], process(SETTING, ["true"])):
        assert held["user"] == {"uid": 1000, "gid": 1000}
        assert held["noNewPrivileges"] is True
        assert len(held["capabilities"]) == 5 and not any(held["capabilities"].values())
    options = {mount["destination"]: mount["options"] for mount in spec["mounts"]}
    assert "ro" in options["/etc/longtake/longtake.toml"] and "ro" in options["/sys"]
    writable = {place for place, words in options.items() if "ro" not in words}
    assert writable == {"/proc", "/dev", "/dev/shm", "/tmp"}


def test_the_server_that_is_run_is_that_of_the_composition() -> None:
    compose = path("deploy/compose/compose.yaml")
    server = composed(compose.read_text(), compose.parent)
    assert server.command[0] == "serve" and server.probe[0] == "python"
    assert {file.name: place for file, place in server.files.items()} == {"longtake.toml": server.command[1]}
    assert all(file.is_file() for file in server.files)
    assert CONFINED["capabilities"] == [0] * 5


def test_a_trace_of_this_machine_in_an_image_is_found(tmp_path: Path) -> None:
    pip = settings_of(LISTING)
    base, image = tmp_path / "base", tmp_path / "image"
    for root in (base, image):
        (root / "etc/ssl/certs").mkdir(parents=True)
        (root / "etc/ssl/certs/ca.pem").write_text("Debian's")
        (root / "srv/wheels").mkdir(parents=True)
    assert traces("{}", pip, image, base) == []
    (image / "etc/ssl/certs/ca.pem").write_text("this machine's")
    (image / "srv/wheels/torch.whl").touch()
    (image / "etc/pip.conf").touch()
    assert traces('{"created_by": "pip --find-links /srv/wheels"}', pip, image, base) == [
        "its description names /srv/wheels", "it has /etc/pip.conf", "it has /etc/ssl/certs/ca.pem",
        "it has /srv/wheels",
    ]  # fmt: skip


def test_labels_that_are_absent_or_wrong_are_named() -> None:
    labels = {
        f"org.opencontainers.image.{name}": value
        for name, value in {
            "title": "t", "version": "0.1.0", "licenses": "Apache-2.0", "revision": "c0ffee",
            "source": "https://example.org/longtake.git", "base.name": "localhost/longtake-base:test",
        }.items()
    }  # fmt: skip
    image = Image(setting=SETTING, labels=labels, size_bytes=1, description="{}")
    assert wrong_labels(image, "c0ffee") == []
    assert wrong_labels(image, "other") == ["label revision is c0ffee, not other"]
    (fault,) = wrong_labels(
        replace(image, labels={key: value for key, value in labels.items() if "title" not in key}), "c0ffee"
    )
    assert "title" in fault


# --- the machine ------------------------------------------------------------------------------------------------------


def test_a_machine_that_lacks_something_is_unable_and_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unable, match="root"):
        check()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "PROGRAMS", {"no-such-program": "its-package", "sh": "dash"})
    monkeypatch.setattr(machine, "POLICY", tmp_path)
    with pytest.raises(Unable, match="apt-get install its-package"):
        check()
    monkeypatch.setattr(machine, "NEEDED_BYTES", 10**18)
    with pytest.raises(Unable, match="GB are free"):
        check_room(tmp_path)


def test_a_machine_that_refuses_namespaces_is_unable() -> None:
    with pytest.raises(Unable, match="refused here: unshare: not permitted"):
        check_namespaces(["sh", "-c", "echo unshare: not permitted >&2; exit 1"])


def test_a_machine_that_is_too_slow_is_unable(tmp_path: Path) -> None:
    tools = Tools(scratch=tmp_path, name="x", deadline=Deadline(at_s=time.monotonic() + 0.2))
    with pytest.raises(Unable, match="in time"):
        tools.run("sleeping", ["sleep", "10"])
    with pytest.raises(Unable, match="in time"):
        tools.run("sleeping", ["true"])
    with pytest.raises(Failed, match="what it said"):
        replace(tools, deadline=Deadline(at_s=time.monotonic() + 60)).run(
            "failing", ["sh", "-c", "echo what it said >&2; exit 3"]
        )


def test_nothing_is_left_on_disk_and_among_control_groups(tmp_path: Path) -> None:
    scratch, groups = tmp_path / "scratch", tmp_path / "cgroup"
    for made in (scratch / "a/b", groups / "name-server/below", groups / "cpu/name-trial", groups / "cpu/other"):
        made.mkdir(parents=True)
    remove_scratch(scratch, "name*", groups)
    assert not scratch.exists()
    assert sorted(str(one.relative_to(groups)) for one in groups.rglob("*")) == ["cpu", "cpu/other"]


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_a_trial_ends_with_whoever_holds_its_standard_input() -> None:
    code = (
        "import threading, time; from deploy.images.inside import end_with\n"
        "threading.Thread(target=end_with, args=(0,), daemon=True).start(); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.stdin.close()
        assert running.wait(10) == 130


def test_what_came_of_it_is_told_apart() -> None:
    assert trial.result_of('{"tested": {"ready_s": 3.5}}\n') == {"ready_s": 3.5}
    with pytest.raises(Unable, match="no mount"):
        trial.result_of('{"unable": "no mount"}')
    with pytest.raises(Wrong, match="no torch"):
        trial.result_of('{"wrong": "no torch"}')
    with pytest.raises(Wrong, match="itself failed"):
        trial.result_of("")


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout's folder for what is tried, and signals as they were afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(trial, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(trial, "stamp_of", lambda files: tmp_path / "tried")
    monkeypatch.setattr(trial, "check", lambda: None)
    monkeypatch.setattr(trial, "check_room", lambda scratch: None)
    yield tmp_path
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("came", "alone", "at_the_gate"), [
    ({"tested": FIGURES}, 0, 0), ({"unable": "no mount"}, 2, 0), ({"wrong": "no torch"}, 1, 1),
])  # fmt: skip
def test_only_what_is_wrong_with_the_image_fails_a_gate(
    came: dict[str, object], alone: int, at_the_gate: int, in_a_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(trial, "in_namespaces", lambda order: json.dumps(came))
    assert trial.main([]) == alone
    (in_a_folder / "tried").unlink(missing_ok=True)
    assert trial.main(["--gate"]) == at_the_gate
    assert (in_a_folder / "tried").exists() == ("tested" in came)
    assert not (in_a_folder / "scratch").exists()
    out, err = capsys.readouterr()
    if "tested" in came:
        assert [json.loads(line) for line in out.splitlines()] == [FIGURES] * 2
        assert "1.85 GB" in err and "SIGTERM ended it after 2.6 s" in err
    reasons = [str(came[kind]) for kind in ("unable", "wrong") if kind in came]
    assert all(reason in err for reason in reasons)


def test_a_gate_tries_once(
    in_a_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_a_folder / "tried").touch()
    monkeypatch.setattr(trial, "tried", lambda order: pytest.fail("it was tried again"))
    assert trial.main(["--gate"]) == 0
    assert "before" in capsys.readouterr().err
    assert trial.main(["--missing"]) == 0
    assert capsys.readouterr().out == "\n"


def test_what_is_tried_again_is_what_changed(tmp_path: Path) -> None:
    assert {"Dockerfile", "constraints.txt", "__main__.py"} <= {file.name for file in hashed()}
    file = tmp_path / "Dockerfile"
    file.write_text("FROM a")
    first = stamp_of([file], tmp_path)
    file.write_text("FROM b")
    second = stamp_of([file], tmp_path)
    put(first)
    put(second)
    assert first != second and not first.exists() and second.exists()
