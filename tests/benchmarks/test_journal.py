"""The journal's benchmark counts what it says it counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.journal import Load, measure


def test_every_latent_is_written_once_and_every_cue_waited_for(tmp_path: Path) -> None:
    load = Load(sessions=2, blocks=48, latent_bytes=5000, kept_blocks=8, cues=5, beside_bytes_per_s=1e6)
    report = measure(tmp_path, load)
    assert 1.0 < report.throughput.written_per_kept < 1.02
    assert (report.throughput.dropped_latents, report.throughput.failures) == (0, 0)
    assert 0 < report.durable_ms.median <= report.durable_ms.p99 <= report.durable_ms.longest
    assert report.read_megabytes_per_s > 0
    left = sum(path.stat().st_size for path in (tmp_path / "throughput").rglob("latents-*"))
    assert left < 2 * 48 * 4 * 5000, "files in which nothing is wanted are removed"
