# SPDX-License-Identifier: Apache-2.0
"""Counters of sources, as OpenMetrics over HTTP and as instruments of OpenTelemetry."""

from __future__ import annotations

import dataclasses
import gc
import re
import socket
import threading
import urllib.error
import urllib.request
import weakref

import pyarrow as pa
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
from prometheus_client.parser import text_string_to_metric_families as parse_plain

import zcrx_arrow as zc
from tests.conftest import eventually, open_fds
from zcrx_arrow import decoders
from zcrx_arrow.connectors import measures, openmetrics, otel_meter
from zcrx_arrow.decoders import DecodeStats
from zcrx_arrow.errors import ConfigError, ZcrxError

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
NDJSON = decoders.Ndjson(pa.schema([("a", pa.int64())]), on_error="reject", on_drift="reject")


def scrape(server, accept=OPENMETRICS) -> str:
    host, port = server.address
    request = urllib.request.Request(f"http://{host}:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["content-type"].startswith(accept.split(";")[0])
        return answer.read().decode()


def samples(text: str, read=parse) -> dict[tuple[str, str], float]:
    """Value of each sample by its name and the source's."""
    return {
        (sample.name, sample.labels["source"]): sample.value
        for family in read(text)
        for sample in family.samples
    }


@pytest.fixture
def source(send):
    with zc.listen("127.0.0.1:0", decode=NDJSON) as source:
        send(source.address, b'{"a": 1}\n{"a": "x"}\n{"a": 2}\n').join()
        assert source.next_batch("20 s").num_rows
        yield source


# --- what is measured ----------------------------------------------------------------------------


def test_everything_that_is_counted_is_exported():
    ours = {measure.attribute for measure in measures.MEASURES}
    counted = {field.name for field in dataclasses.fields(zc.Metrics)} - {"connection_bytes"}
    decoded = {f"decode.{field.name}" for field in dataclasses.fields(DecodeStats)}
    assert counted <= ours
    assert decoded - {"decode.rows"} <= ours  # rows of a decoder are those of its source's metrics


def test_names_follow_the_conventions():
    names = [measure.openmetrics for measure in measures.MEASURES]
    assert len(set(names)) == len(names) == len({m.otel for m in measures.MEASURES})
    for measure in measures.MEASURES:
        assert re.fullmatch(r"zcrx_arrow(_[a-z]+)+", measure.openmetrics)
        assert re.fullmatch(r"zcrx_arrow(\.[a-z]+(_[a-z]+)*)+", measure.otel)
        assert not measure.openmetrics.endswith("_total")
        assert (measure.unit == "By") == measure.openmetrics.endswith("_bytes")
        assert (measure.unit == "s") == measure.openmetrics.endswith("_seconds")
        assert re.fullmatch(r"By|s|1|\{[a-z]+\}", measure.unit)
        assert measure.text.endswith(".")


# --- OpenMetrics ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("accept", "read"), [(OPENMETRICS, parse), ("text/plain", parse_plain)])
def test_a_scrape_tells_what_metrics_tell(source, accept, read):
    with openmetrics.serve_metrics({"feed": source}, "127.0.0.1:0") as server:
        found = samples(scrape(server, accept), read)
    seen = source.metrics()
    assert found["zcrx_arrow_received_bytes_total", "feed"] == seen.bytes == 29
    assert found["zcrx_arrow_rows_total", "feed"] == 2
    assert found["zcrx_arrow_rejected_rows_total", "feed"] == 1
    assert found["zcrx_arrow_waiting_rejected_rows", "feed"] == 1
    assert found["zcrx_arrow_schema_drifts_total", "feed"] == source.decode_stats.drifts
    assert found["zcrx_arrow_area_chunk_bytes", "feed"] == source.chunk_bytes
    assert found["zcrx_arrow_area_chunks", "feed"] == seen.chunks
    assert found["zcrx_arrow_closed", "feed"] == 0


def test_types_units_and_information(source):
    with openmetrics.serve_metrics(source, "127.0.0.1:0") as server:
        families = {family.name: family for family in parse(scrape(server))}
    assert families["zcrx_arrow_received_bytes"].type == "counter"
    assert families["zcrx_arrow_received_bytes"].unit == "bytes"
    assert families["zcrx_arrow_stalled_seconds"].unit == "seconds"
    assert families["zcrx_arrow_queued_batches"].type == "gauge"
    (info,) = families["zcrx_arrow_source"].samples
    assert info.name == "zcrx_arrow_source_info"
    assert info.labels == {
        "source": f"127.0.0.1:{source.address[1]}",
        "transport": source.transport,
        "decoder": "Ndjson",
        "version": zc.__version__,
    }


def test_scrapes_while_it_runs_and_after_it_was_closed(send):
    with (
        zc.listen("127.0.0.1:0", accept=1) as source,
        openmetrics.serve_metrics({"feed": source}, "127.0.0.1:0") as server,
    ):
        key = "zcrx_arrow_received_bytes_total", "feed"
        sender = send(source.address, *[b"x" * 100_000] * 200)
        received = [samples(scrape(server))[key] for _ in source]
        assert received == sorted(received)
        assert received[0] > 0
        sender.join()
        source.close()
        found = samples(scrape(server))
        assert found[key] == 20_000_000
        assert found["zcrx_arrow_closed", "feed"] == 1
        assert ("zcrx_arrow_rejected_rows_total", "feed") not in found


def test_several_sources_come_and_go(send):
    with (
        zc.listen("127.0.0.1:0") as a,
        zc.listen("127.0.0.1:0") as b,
        openmetrics.serve_metrics([a], "127.0.0.1:0") as server,
    ):
        server.collector.add({"second": b})
        names = {name for _, name in samples(scrape(server))}
        assert names == {f"127.0.0.1:{a.address[1]}", "second"}
        with pytest.raises(ConfigError, match="two sources are called 'second'"):
            server.collector.add({"second": a})
        server.collector.remove({"second": b})
        assert {name for _, name in samples(scrape(server))} == {f"127.0.0.1:{a.address[1]}"}
        server.collector.remove([a])
        assert not samples(scrape(server))


class Broken:
    """A source that cannot be read, for a while."""

    transport = "copy"

    def __init__(self, source):
        self.source, self.broken = source, True

    def metrics(self):
        if self.broken:
            raise RuntimeError("not now")
        return self.source.metrics()


def scrape_warnings(caplog) -> list[str]:
    return [
        record.zcrx_error
        for record in caplog.records
        if getattr(record, "zcrx_event", None) == "scrape_failed"
    ]


def test_a_source_that_cannot_be_read_is_left_out(source, caplog):
    broken, errors = Broken(source), "zcrx_arrow_scrape_errors_total"
    with openmetrics.serve_metrics({"good": source, "bad": broken}, "127.0.0.1:0") as server:
        for times in (1, 2, 3):
            found = samples(scrape(server))
            assert found["zcrx_arrow_rows_total", "good"] == 2
            assert {name for name, each in found if each == "bad"} == {errors}
            assert (found[errors, "bad"], found[errors, "good"]) == (times, 0)
        assert scrape_warnings(caplog) == ["RuntimeError: not now"]
        broken.broken = False
        found = samples(scrape(server))
        assert found["zcrx_arrow_rows_total", "bad"] == source.metrics().rows
        assert found[errors, "bad"] == 3
        broken.broken = True
        scrape(server)
        assert len(scrape_warnings(caplog)) == 2  # it had worked between
        server.collector.remove({"bad": broken})
        server.collector.add({"bad": broken})
        assert samples(scrape(server))[errors, "bad"] == 1


def test_connections_that_cannot_be_told_leave_the_others(source):
    class Half(Broken):
        def metrics(self):
            return self.source.metrics()

        def connections(self):
            raise RuntimeError("not these")

    both = {"good": source, "half": Half(source)}
    with openmetrics.serve_metrics(both, "127.0.0.1:0", connections=3) as server:
        found = samples(scrape(server))
    assert found["zcrx_arrow_rows_total", "good"] == 2
    assert ("zcrx_arrow_rows_total", "half") not in found


def test_a_named_source_is_removed_by_itself(source):
    collector = openmetrics.SourceCollector({"a": source, "b": source})
    collector.remove({"b": source})
    assert [name for name, _ in collector._watched.items()] == ["a"]
    collector.remove(source)
    assert not collector._watched.items()


def test_series_of_connections_are_bounded_and_asked_for(send):
    hold = threading.Event()
    with zc.listen("127.0.0.1:0") as source:
        for size in (10, 20, 30):
            send(source.address, b"x" * size, hold=hold)
            eventually(lambda size=size: size in source.connections()["bytes"].to_pylist())
        with openmetrics.serve_metrics(source, "127.0.0.1:0") as server:
            assert "zcrx_arrow_connection" not in scrape(server)
        with openmetrics.serve_metrics(source, "127.0.0.1:0", connections=2) as server:
            (family,) = [f for f in parse(scrape(server)) if "_connection_" in f.name]
            assert [sample.value for sample in family.samples] == [10, 20]
            peers = source.connections()["peer"].to_pylist()
            assert [sample.labels["peer"] for sample in family.samples] == peers[:2]
            hold.set()
            eventually(lambda: source.metrics().connections == 0)
            assert "zcrx_arrow_connection_received_bytes_total" not in scrape(server)


def test_a_registry_of_the_programs_own(source):
    registry = CollectorRegistry()
    registry.register(openmetrics.SourceCollector(source))
    assert b"zcrx_arrow_rows_total" in generate_latest(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(openmetrics.SourceCollector(source))


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0", ("", 0)])
def test_other_machines_must_be_asked_for(source, address):
    with pytest.raises(ConfigError, match="without TLS or a password"):
        openmetrics.serve_metrics(source, address)
    with openmetrics.serve_metrics(source, address, public=True) as server:
        assert server.address[1]


def test_addresses_of_the_loopback(source):
    for host in ("localhost", "[::1]"):
        with openmetrics.serve_metrics(source, f"{host}:0") as server:
            assert server.address[1]


def test_what_cannot_work(source):
    with pytest.raises(ConfigError, match="has no metrics"):
        openmetrics.serve_metrics(3)
    with pytest.raises(ConfigError, match="one thread only"):
        openmetrics.serve_metrics(zc.frame(b""))
    with pytest.raises(ConfigError, match="two sources are called"):
        openmetrics.serve_metrics([source, source])
    with pytest.raises(ConfigError, match="connections=-1"):
        openmetrics.serve_metrics(source, connections=-1)
    with pytest.raises(ZcrxError, match="is no address"):
        openmetrics.serve_metrics(source, "nowhere.invalid:1")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ZcrxError, match="cannot listen"),
    ):
        openmetrics.serve_metrics(source, taken.getsockname())


def test_a_closed_endpoint_leaves_nothing(source):
    fds, threads = open_fds(), threading.active_count()
    for _ in range(5):
        server = openmetrics.serve_metrics(source, "127.0.0.1:0")
        scrape(server)
        server.close()
        server.close()
        with pytest.raises(urllib.error.URLError):
            scrape(server)
    eventually(lambda: threading.active_count() <= threads)
    eventually(lambda: open_fds() <= fds)


# --- OpenTelemetry -------------------------------------------------------------------------------


@pytest.fixture
def meter():
    """A provider, and what its reader finds: by instrument and source, value, unit and kind."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    def collect():
        data = reader.get_metrics_data()
        return {
            (metric.name, point.attributes["zcrx_arrow.source"]): (point.value, metric)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    yield provider, collect
    provider.shutdown()


def test_instruments_tell_what_metrics_tell(source, meter):
    provider, collect = meter
    with otel_meter.instrument({"feed": source}, provider):
        found = collect()
        assert len(found) == len(measures.MEASURES) + 1
        assert found["zcrx_arrow.scrape.errors", "feed"][0] == 0
        value, metric = found["zcrx_arrow.receive.io", "feed"]
        assert (value, metric.unit, metric.data.is_monotonic) == (29, "By", True)
        value, metric = found["zcrx_arrow.area.chunks", "feed"]
        assert value == source.metrics().chunks
        assert (metric.unit, metric.data.is_monotonic) == ("{chunk}", False)
        assert not hasattr(found["zcrx_arrow.paused", "feed"][1].data, "is_monotonic")
        assert found["zcrx_arrow.decode.rows.rejected", "feed"][0] == 1
        source.close()
        assert eventually(lambda: collect()["zcrx_arrow.closed", "feed"][0]) == 1
    assert not collect()


def test_instruments_are_made_once_and_sources_are_let_go(meter, caplog):
    provider, collect = meter
    with zc.listen("127.0.0.1:0") as a, zc.listen("127.0.0.1:0") as b:
        first = otel_meter.instrument({"a": a}, provider)
        second = otel_meter.instrument([b], provider)
        with pytest.raises(ConfigError, match="two sources are called 'a'"):
            otel_meter.instrument({"a": b}, provider)
        assert {name for _, name in collect()} == {"a", f"127.0.0.1:{b.address[1]}"}
        first.uninstrument()
        first.uninstrument()
        otel_meter.instrument({"a": b}, provider).uninstrument()
        assert {name for _, name in collect()} == {f"127.0.0.1:{b.address[1]}"}
        second.uninstrument()
        assert not collect()
        seen = weakref.ref(a)
    del a, b
    gc.collect()
    assert seen() is None
    assert "already" not in caplog.text


def test_instruments_leave_out_what_cannot_be_read(source, meter, caplog):
    provider, collect = meter
    broken = Broken(source)
    with otel_meter.instrument({"good": source, "bad": broken}, provider):
        for _ in range(2):
            found = collect()
            assert found["zcrx_arrow.rows", "good"][0] == 2
            assert [name for name, each in found if each == "bad"] == ["zcrx_arrow.scrape.errors"]
            value, metric = found["zcrx_arrow.scrape.errors", "bad"]
            assert value >= 1
            assert metric.data.is_monotonic
        assert scrape_warnings(caplog) == ["RuntimeError: not now"]
        broken.broken = False
        assert eventually(lambda: ("zcrx_arrow.rows", "bad") in collect())


def test_without_an_sdk_nothing_happens():
    with zc.listen("127.0.0.1:0") as source, otel_meter.instrument(source):
        pass


def test_a_source_that_dials_is_called_by_whom_it_dials():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        zc.connect(server.getsockname()) as source,
    ):
        assert list(measures.named(source)) == [f"127.0.0.1:{server.getsockname()[1]}"]
        server.accept()[0].close()
