"""What a server tells Prometheus, read by whoever measures it."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from monitoring.declarations import Instrument, Metric

ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Scraped:
    """All samples of one answer."""

    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, page: str) -> Self:
        """From the text of the page."""
        return cls(tuple(sample for family in text_string_to_metric_families(page) for sample in family.samples))

    @classmethod
    async def at(cls, url: str) -> Self:
        """Ask a server. OSError if it does not answer in time."""
        return cls.of(await asyncio.to_thread(_page, url))

    def sum(self, metric: Metric, **labels: str) -> float:
        """The sum of a metric's values with these labels, 0 if there is none; of a histogram how many it counts."""
        name = metric.name + ("_count" if metric.instrument is Instrument.HISTOGRAM else "")
        return self._sum(name, labels)

    def total(self, metric: Metric, **labels: str) -> float:
        """The sum of all that a histogram counts."""
        return self._sum(f"{metric.name}_sum", labels)

    def _sum(self, name: str, labels: dict[str, str]) -> float:
        return sum(each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items())


def _page(url: str) -> str:
    text: bytes = urllib.request.urlopen(url, timeout=ANSWER_S).read()
    return text.decode()
