"""Families of samples: gauges, counters and histograms, from plain numbers."""

from collections.abc import Mapping
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from dsv4_tp.coordinator.totals import Histogram

Names = tuple[str, ...]  # of labels
Rows = Mapping[tuple[str, ...], float]  # values of the labels, and the number


def gauge(name: str, about: str, rows: Rows | float, labels: Names = ()) -> Metric:
    """What goes up and down; a number alone is a row without labels."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, number in _rows(rows).items():
        family.add_metric(values, number)
    return family


def counter(name: str, about: str, rows: Rows | float, labels: Names = ()) -> Metric:
    """What only grows; its name ends with _total."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in _rows(rows).items():
        family.add_metric(values, number)
    return family


def histogram(
    name: str, about: str, found: Histogram, labels: Mapping[str, str] | None = None
) -> Metric:
    """Times; its name ends with _seconds."""
    labels = labels or {}
    family = HistogramMetricFamily(name, about, labels=[*labels])
    bounds = *map(str, found.bounds_s), "+Inf"
    family.add_metric(
        [*labels.values()],
        [
            (bound, float(count))
            for bound, count in zip(bounds, accumulate(found.counts), strict=True)
        ],
        found.sum_s,
    )
    return family


def _rows(rows: Rows | float) -> Rows:
    return rows if isinstance(rows, Mapping) else {(): rows}
