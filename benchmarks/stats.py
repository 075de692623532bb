# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios of interleaved rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median and the extremes that it stands between."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise the samples of one case."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def paired_ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Summarise the ratios of two cases, round by round.

    Samples of one round were taken within seconds of each other, so the drift of a shared machine
    cancels out of their ratio better than out of a ratio of medians.
    """
    return spread([value / reference for value, reference in zip(values, base, strict=True)])
