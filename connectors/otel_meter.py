# SPDX-License-Identifier: Apache-2.0
"""
The counters of sources as instruments of an OpenTelemetry meter.

Needs ``zcrx-arrow[opentelemetry]``; where the numbers go is the business of the program's SDK.

Source: OpenTelemetry, "Metrics semantic conventions": namespaces by dots, no unit and no ``total``
in the name, units of UCUM.
"""

from __future__ import annotations

import threading
import time
import weakref
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

from zcrx_arrow.connectors.measures import MEASURES, Measure, Watched, named, values
from zcrx_arrow.connectors.scrapes import OTEL_ERRORS, TEXT_ERRORS, Scrapes

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        MeterProvider,
        Observation,
        get_meter_provider,
    )
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError(
        "this connector needs OpenTelemetry: pip install 'zcrx-arrow[opentelemetry]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

__all__ = ["Instrumentation", "instrument"]

_SCOPE: Final = "zcrx_arrow"
_FRESH_S: Final = 0.005


class _Instruments:
    """
    What one meter provider has of us.

    An instrument cannot be taken back, and one made twice reports twice; so each provider gets one
    set, whose callbacks look at whatever is watched.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self.watched, self.scrapes = Watched(), Scrapes()
        self._lock = threading.Lock()
        self._found: list[tuple[dict[Measure, float], dict[str, str]]] = []
        self._names: list[str] = []
        self._at = 0.0
        meter = provider.get_meter(_SCOPE, version("zcrx-arrow"))
        for measure in MEASURES:
            _make(meter, measure, self._callback(measure))
        meter.create_observable_counter(
            OTEL_ERRORS, [self._errors], unit="{error}", description=TEXT_ERRORS
        )

    def _errors(self, _options: CallbackOptions) -> list[Observation]:
        self._read()
        return [
            Observation(self.scrapes.errors(name), {"zcrx_arrow.source": name})
            for name, _ in self.watched.items()
        ]

    def _callback(self, measure: Measure) -> Any:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [
                Observation(read[measure], attributes)
                for read, attributes in self._read()
                if measure in read
            ]

        return observe

    def _read(self) -> list[tuple[dict[Measure, float], dict[str, str]]]:
        """
        Read every source; once for the instruments that are asked right after each other.

        One that raises is left out, and counted.
        """
        with self._lock:
            watched = self.watched.items()
            names = [name for name, _ in watched]
            if names != self._names or time.monotonic() - self._at > _FRESH_S:
                found = (
                    self.scrapes.attempt(name, partial(_readings, name, source))
                    for name, source in watched
                )
                self._found = [each for each in found if each is not None]
                self._names, self._at = names, time.monotonic()
            return self._found


def _readings(name: str, source: Any) -> tuple[dict[Measure, float], dict[str, str]]:
    return dict(values(source)), _attributes(name, source)


def _attributes(name: str, source: Any) -> dict[str, str]:
    return {
        "zcrx_arrow.source": name,
        "zcrx_arrow.transport": getattr(source, "transport", ""),
    }


def _make(meter: Meter, measure: Measure, callback: Any) -> None:
    make = {
        "counter": meter.create_observable_counter,
        "updown": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[measure.kind]
    make(measure.otel, [callback], unit=measure.unit, description=measure.text)


_lock = threading.Lock()
_instruments: weakref.WeakKeyDictionary[MeterProvider, _Instruments] = weakref.WeakKeyDictionary()


class Instrumentation:
    """
    Sources that are being observed; made by `instrument`. A context manager.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, instruments: _Instruments, sources: Mapping[str, Any]) -> None:
        """Not for users: see `instrument`."""
        self._instruments, self._names = instruments, list(sources)

    def uninstrument(self) -> None:
        """Observe them no more, and let go of them. Idempotent."""
        names, self._names = self._names, []
        self._instruments.watched.remove(names)
        for name in names:
            self._instruments.scrapes.forget(name)

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Uninstrument."""
        self.uninstrument()


def instrument(
    sources: Any | Iterable[Any] | Mapping[str, Any], meter_provider: MeterProvider | None = None
) -> Instrumentation:
    """
    Observe sources whenever the provider's readers collect.

    Parameters
    ----------
    sources : Source, iterable of them, or mapping of names to them
        Without a name, the attribute ``zcrx_arrow.source`` is the address that it listens on
        or dials.
    meter_provider : MeterProvider, optional
        Without it, the global one.

    Returns
    -------
    Instrumentation
        Holds the sources, also closed ones, until ``uninstrument()``.

    Raises
    ------
    ConfigError
        If two sources of a provider have the same name.
    """
    provider = meter_provider or get_meter_provider()
    found = named(sources)
    with _lock:
        ours = _instruments.get(provider)
        if ours is None:
            ours = _instruments[provider] = _Instruments(provider)
    ours.watched.add(found)
    return Instrumentation(ours, found)
