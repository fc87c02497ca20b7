"""Prometheus families of one session: each sample has its name as a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from rt.statistics import Distribution

Labels = tuple[str, ...]
ONE: Labels = ()  # the labels of what there is one of


class Families:
    """Makes them. `labels` are names; samples are told apart by the values of these."""

    def __init__(self, session: str) -> None:
        self._session = session

    def gauge(
        self, name: str, words: str, samples: Mapping[Labels, float], labels: Labels = ()
    ) -> GaugeMetricFamily:
        """What is so now."""
        family = GaugeMetricFamily(name, words, labels=["session", *labels])
        for values, value in samples.items():
            family.add_metric([self._session, *values], value)
        return family

    def counter(
        self, name: str, words: str, samples: Mapping[Labels, float], labels: Labels = ()
    ) -> CounterMetricFamily:
        """What only grows, but for a restart; `_total` is added to its name."""
        family = CounterMetricFamily(name, words, labels=["session", *labels])
        for values, value in samples.items():
            family.add_metric([self._session, *values], value)
        return family

    def durations(
        self,
        name: str,
        words: str,
        samples: Mapping[Labels, Distribution],
        limits_s: tuple[float, ...],
        labels: Labels = (),
    ) -> HistogramMetricFamily:
        """A histogram, in seconds, with the upper limits of its buckets."""
        family = HistogramMetricFamily(name, words, labels=["session", *labels])
        for values, took in samples.items():
            within = took.within(1e9 * np.array(limits_s))
            buckets = [(f"{limit:g}", float(n)) for limit, n in zip(limits_s, within, strict=True)]
            buckets.append(("+Inf", float(took.count)))
            family.add_metric([self._session, *values], buckets, took.sum_ns / 1e9)
        return family

    def rows(
        self, name: str, words: str, seen: Counter[int], limits: tuple[int, ...]
    ) -> HistogramMetricFamily:
        """A histogram of how often which number of rows was seen."""
        family = HistogramMetricFamily(name, words, labels=["session"])
        buckets = [
            (str(limit), float(sum(n for rows, n in seen.items() if rows <= limit)))
            for limit in limits
        ]
        buckets.append(("+Inf", float(seen.total())))
        family.add_metric([self._session], buckets, float(sum(r * n for r, n in seen.items())))
        return family
