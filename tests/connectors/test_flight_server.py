# SPDX-License-Identifier: Apache-2.0
"""Many Flight clients of one live feed: each gets all, and none can hurt the others."""

from __future__ import annotations

import fcntl
import gc
import json
import socket
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest
from pyarrow import flight

import zcrx_arrow as zc
from tests.conftest import eventually, open_fds
from tests.connectors.flight_client.tools import SCHEMA, Feed, Reading, numbered
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors.flight_ending import hang_up
from zcrx_arrow.connectors.flight_server import serve
from zcrx_arrow.errors import ConfigError, FramingError, UnsupportedError, ZcrxError


def contiguous(reading: Reading, first: int, until: int) -> None:
    assert reading.numbers == list(range(first, until))


def test_a_feed_is_found_and_read_by_many():
    feed = Feed()
    with (
        serve(feed, name="trades", wait_for=5) as server,
        flight.connect(server.location) as client,
    ):
        (info,) = client.list_flights()
        assert info.schema == SCHEMA
        assert info.descriptor.path == [b"trades"]
        assert list(client.list_flights(b"trad"))
        assert not list(client.list_flights(b"x"))
        assert client.get_schema(info.descriptor).schema == SCHEMA
        ticket = client.get_flight_info(info.descriptor).endpoints[0].ticket
        clients = [Reading(server.location, ticket.ticket) for _ in range(5)]
        feed.put(*(numbered(n * 100, 100) for n in range(50)), None)
        server.wait("30 s")
        for each in clients:
            contiguous(each.done(), 0, 5000)
            rows = [said["row"] for said in each.metadata]
            assert [said["batch"] for said in each.metadata] == list(range(len(rows)))
            assert rows == sorted(rows)
            assert not any("skipped_rows" in said for said in each.metadata)
        found = server.metrics()
        assert (found.rows, found.sent_rows, found.joined, found.clients) == (5000, 25000, 5, 0)
        assert found.sent_bytes == 5 * found.bytes > 0


def test_rows_of_a_tcp_feed_reach_every_client_once(send):
    lines = [b"%d\n" % n for n in range(20_000)]
    decode = decoders.Csv(pa.schema([("n", pa.int64())]), header=False)
    with (
        zc.listen("127.0.0.1:0", decode=decode, accept=1) as source,
        serve(source, wait_for=3) as server,
    ):
        clients = [Reading(server.location) for _ in range(3)]
        send(source.address, *(b"".join(lines[at : at + 777]) for at in range(0, 20_000, 777)))
        server.wait("30 s")
        for each in clients:
            contiguous(each.done(), 0, 20_000)


def test_views_become_what_every_client_knows(send):
    with (
        zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source,
        serve(source, wait_for=1) as server,
    ):
        client = flight.connect(server.location)
        reader = client.do_get(flight.Ticket("feed"))
        assert reader.schema.field("payload").type == pa.binary()
        send(source.address, b"short\n" + b"long" * 100 + b"\n")
        assert reader.read_all()["payload"].to_pylist() == [b"short", b"long" * 100]
        client.close()


def test_views_can_be_kept(send):
    with (
        zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source,
        serve(source, wait_for=1, views="keep", message="64 KiB") as server,
    ):
        client = flight.connect(server.location)
        reader = client.do_get(flight.Ticket("feed"))
        assert reader.schema.field("payload").type == pa.binary_view()
        lines = [b"%d" % n * 100 for n in range(3000)]
        send(source.address, b"\n".join(lines) + b"\n")
        chunks = [chunk.data for chunk in reader]
        assert [row for batch in chunks for row in batch["payload"].to_pylist()] == lines
        assert max(pa.ipc.get_record_batch_size(batch) for batch in chunks) <= 64 << 10
        client.close()


def test_receive_memory_is_free_while_clients_lag(send):
    with (
        zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source,
        serve(source, wait_for=1, queue="64 MiB", keep="1 h") as server,
    ):
        client = flight.connect(server.location)
        reader = client.do_get(flight.Ticket("feed"))  # and reads nothing of it
        send(source.address, (b"x" * 999 + b"\n") * 16_000)
        eventually(lambda: server.metrics().rows == 16_000)
        assert server.metrics().held_bytes > 15 << 20
        eventually(lambda: source.metrics().chunks_leased == 0)
        reader.cancel()
        client.close()


# --- joining -------------------------------------------------------------------------------------


def test_a_client_gets_what_comes_from_its_join_on():
    feed = Feed()
    with serve(feed, keep=0) as server:
        first = Reading(server.location)
        feed.put(numbered(0, 10))
        eventually(lambda: len(first.numbers) == 10)
        second = Reading(server.location)
        feed.put(numbered(10, 10), None)
        contiguous(first.done(), 0, 20)
        contiguous(second.done(), 10, 20)
        assert second.metadata[0]["row"] == 10


def test_clients_that_come_and_go_get_no_row_twice_and_miss_none():
    feed = Feed()
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set() and n < 200_000:
            feed.put(numbered(n, 10))
            n += 10
            time.sleep(0)
        feed.put(None)

    writer = threading.Thread(target=write)
    with serve(feed, keep="1 s", queue="1 GiB", queue_batches=2**20) as server:
        writer.start()
        clients = [
            Reading(server.location, "feed" if n % 2 else {"feed": "feed", "last": 0.01})
            for n in range(20)
        ]
        stop.set()
        writer.join()
        for each in clients:
            got = each.done().numbers
            assert each.error is None
            assert got == list(range(got[0], got[0] + len(got))) if got else True
        assert any(each.numbers for each in clients)


def test_the_past_is_kept_for_those_who_ask():
    feed = Feed()
    with serve(feed, keep="1 h") as server:
        feed.put(numbered(0, 10), numbered(10, 10))
        eventually(lambda: server.metrics().rows == 20)
        past = Reading(server.location, {"feed": "feed", "last": "1 h"})
        now = Reading(server.location)
        feed.put(numbered(20, 5), None)
        contiguous(past.done(), 0, 25)
        contiguous(now.done(), 20, 25)
        assert "truncated" not in past.metadata[0]
        late = Reading(server.location, {"feed": "feed", "last": "1 h"}).done()
        contiguous(late, 0, 25)  # the feed has ended, its past has not
        with pytest.raises(flight.FlightServerError, match="keeps 3600 s, not 7200 s"):
            Reading(server.location, {"feed": "feed", "last": "2 h"})


def test_the_past_goes_after_its_time():
    feed = Feed()
    with serve(feed, keep="300 ms") as server:
        feed.put(numbered(0, 10))
        eventually(lambda: server.metrics().rows == 10)
        eventually(lambda: server.metrics().held_batches == 0)


def test_the_past_has_a_bound_in_bytes_that_is_told():
    feed = Feed()
    size = pa.ipc.get_record_batch_size(numbered(0, 10_000, width=100))
    with serve(feed, keep="1 h", keep_bytes=3 * size) as server:
        feed.put(*(numbered(n * 10_000, 10_000, width=100) for n in range(20)))
        eventually(lambda: server.metrics().rows == 200_000)
        assert server.metrics().held_bytes <= 3 * size
        past = Reading(server.location, {"feed": "feed", "last": "1 h"})
        feed.put(None)
        contiguous(past.done(), 170_000, 200_000)
        assert past.metadata[0]["truncated"] is True


# --- slow clients, and those that go ---------------------------------------------------------


def big(n: int) -> pa.RecordBatch:
    return numbered(n * 1000, 1000, width=1000)


def stuck(server) -> tuple:
    """Make a client that never reads what it has asked for."""
    client = flight.connect(server.location)
    return client, client.do_get(flight.Ticket("feed"))


def fill(feed, server) -> int:
    """Feed until the way to a client that does not read is full; give the number of batches."""
    n = 0
    while True:
        sent = server.metrics().sent_batches
        feed.put(big(n))
        n += 1
        eventually(lambda n=n: server.metrics().rows == n * 1000)
        time.sleep(0.02)
        if server.metrics().held_bytes > 4 << 20 and server.metrics().sent_batches == sent:
            return n


def test_a_slow_client_is_dropped_and_told_why():
    feed = Feed()
    with serve(feed, queue="8 MiB", keep=0) as server:
        fast = Reading(server.location)
        client, reader = stuck(server)
        for n in range(40):
            feed.put(big(n))
            eventually(lambda n=n: len(fast.numbers) == (n + 1) * 1000)
        eventually(lambda: server.metrics().dropped == 1)
        assert server.metrics().held_bytes < 9 << 20
        with pytest.raises(
            flight.FlightServerError, match=r"dropped: this client is .* behind"
        ) as e:
            for _ in reader:  # rows that were on their way come first
                pass
        assert e.value.extra_info == b"slow"
        feed.put(None)
        contiguous(fast.done(), 0, 40_000)
        client.close()


def test_a_client_that_never_reads_is_cut_off():
    feed = Feed()
    with serve(feed, queue="8 MiB", keep=0) as server:
        client, reader = stuck(server)
        begin = fill(feed, server)
        feed.put(*(big(begin + n) for n in range(10)))
        eventually(lambda: server.metrics().dropped == 1)
        eventually(lambda: server.metrics().hung_up >= 1)
        eventually(lambda: server.clients().num_rows == 0 and not server._engine.fanout._lost)
        with pytest.raises(flight.FlightError):
            for _ in reader:
                pass
        client.close()


def test_a_slow_client_skips_and_is_told_what():
    feed = Feed()
    with serve(feed, queue="8 MiB", keep=0, slow="skip") as server:
        fast = Reading(server.location)
        client, reader = stuck(server)
        for n in range(60):
            feed.put(big(n))
            eventually(lambda n=n: len(fast.numbers) == (n + 1) * 1000)
        assert server.metrics().held_bytes < 9 << 20
        feed.put(None)
        chunks = list(reader)
        contiguous(fast.done(), 0, 60_000)
        expected = missed = 0
        for chunk in chunks:
            said = json.loads(chunk.app_metadata.to_pybytes())
            numbers = chunk.data["n"].to_pylist()
            missed += said.get("skipped_rows", 0)
            expected += said.get("skipped_rows", 0)
            assert said["row"] == expected == numbers[0]
            expected += len(numbers)
        assert expected == 60_000
        assert 0 < missed == server.metrics().skipped_rows
        assert server.metrics().dropped == 0
        client.close()


def test_a_feed_may_wait_for_its_slowest_client_and_not_for_ever():
    feed = Feed()
    with serve(feed, queue="8 MiB", keep=0, slow="wait", patience="500 ms") as server:
        fast = Reading(server.location)
        client, reader = stuck(server)
        feed.put(*(big(n) for n in range(40)), None)
        eventually(lambda: server.metrics().dropped == 1)
        assert server.metrics().waits >= 1
        contiguous(fast.done(), 0, 40_000)
        del reader
        client.close()


def test_small_batches_that_wait_go_together_and_keep_their_order():
    feed = Feed()
    with serve(feed, keep=0, wait_for=1) as server:
        client, reader = stuck(server)
        feed.put(*(numbered(n * 10, 10, width=1000) for n in range(2000)), None)
        eventually(lambda: server.metrics().rows == 20_000)
        got = [n for chunk in reader for n in chunk.data["n"].to_pylist()]
        assert got == list(range(20_000))
        assert server.metrics().batches < 1000
        client.close()


def test_a_client_that_goes_is_forgotten_while_the_feed_is_quiet():
    feed = Feed()
    with serve(feed) as server:
        client, reader = stuck(server)
        assert server.clients().num_rows == 1
        reader.cancel()
        eventually(lambda: server.clients().num_rows == 0)
        client.close()
        script = (
            "import os, sys; from pyarrow import flight; c = flight.connect(sys.argv[1]);"
            "r = c.do_get(flight.Ticket('feed')); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", script, server.location], check=True)
        eventually(lambda: server.metrics().joined == 2 and not server.clients().num_rows)


def test_too_many_clients_are_refused():
    feed = Feed()
    with serve(feed, clients=2) as server:
        two = [Reading(server.location) for _ in range(2)]
        with pytest.raises(flight.FlightUnavailableError, match="too many"):
            Reading(server.location)
        assert server.metrics().refused == 1
        feed.put(None)
        for each in two:
            each.done()
        feed_again = Reading(server.location).done()
        assert feed_again.error is None


def test_what_a_ticket_may_not_say():
    with serve(Feed()) as server, flight.connect(server.location) as client:
        for ticket, why in {
            "nope": "no feed 'nope'",
            "{": "cannot be read",
            '{"feed": 1}': "must be text",
            '{"feed": "feed", "more": 1}': "unknown keys more",
            '{"feed": "feed", "last": "soon"}': "no duration",
            b"\xff": "cannot be read",
            "[" * 5000: "at most 4096 bytes",
            '{"a":' * 800: "cannot be read",
            '{"feed": "feed", "last": 1' + "0" * 400 + "}": "cannot be read",
            '{"feed": "feed", "\\ud800": 1}': "unknown keys",
        }.items():
            with pytest.raises(flight.FlightServerError, match=why) as error:
                client.do_get(flight.Ticket(ticket))
            assert "File " not in str(error.value), "a traceback"
        with pytest.raises(flight.FlightServerError, match="path of one part"):
            client.get_flight_info(flight.FlightDescriptor.for_path("a", "b"))


# --- types -----------------------------------------------------------------------------------


def test_types_that_clients_may_not_know():
    words = pa.array(["a", None, "b" * 20], pa.string_view())
    table = pa.table(
        {
            "words": words,
            "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
            "views": pa.DictionaryArray.from_arrays(pa.array([2, None, 0], pa.int8()), words),
            "nested": pa.array([[b"q"], None, []], pa.list_(pa.binary_view())),
            "struct": pa.array([{"s": "t"}, None, {"s": None}], pa.struct({"s": pa.string_view()})),
            "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string_view(), pa.int8())),
            "listed": pa.array([[1, 2], [3], []], pa.list_view(pa.int8())),
        }
    )
    with serve(table, wait_for=1) as server, flight.connect(server.location) as client:
        reader = client.do_get(flight.Ticket("feed"))
        kinds = [str(field.type) for field in reader.schema]
        assert not [k for k in kinds if "string_view" in k or "binary_view" in k or "dict" in k]
        assert reader.read_all().to_pylist() == table.to_pylist()


def test_columns_of_every_client_s_types_are_sent_unchanged_when_merged():
    kinds = {
        "i": pa.array([1, None, 3]),
        "b": pa.array([True, None, False]),
        "l": pa.array([[1], None, [2, 3]]),
        "lv": pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())),
        "r": pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"]),
        "n": pa.nulls(3),
        "f": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "u": pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3])] * 2),
    }
    batch = pa.record_batch(list(kinds.values()), names=list(kinds))
    feed = Feed(batch.schema)
    with serve(feed, keep=0, wait_for=1) as server:
        client, reader = stuck(server)
        feed.put(*[batch] * 100, None)
        assert reader.read_all().to_pylist() == batch.to_pylist() * 100
        client.close()


def test_a_schema_that_cannot_be_sent_is_refused_before_anything_is_pulled():
    deep = pa.list_(pa.dictionary(pa.int8(), pa.string_view()))
    feed = Feed(pa.schema([("fine", pa.int8()), ("deep", deep)]))
    with pytest.raises(UnsupportedError, match="dictionary of views within"):
        serve(feed)
    feed = Feed(pa.schema([("odd", pa.list_view(pa.dictionary(pa.int8(), pa.string())))]))
    with pytest.raises(UnsupportedError, match="a dictionary within list_view"):
        serve(feed)
    assert not feed.pulled


def test_large_batches_are_cut_and_a_large_row_is_sent_whole():
    batch = numbered(0, 10_000, width=1000)
    with serve(pa.Table.from_batches([batch]), message="1 MiB", wait_for=1) as server:
        client, reader = stuck(server)
        pieces = [chunk.data for chunk in reader]
        assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([batch]))
        assert max(pa.ipc.get_record_batch_size(piece) for piece in pieces) <= 1 << 20
        client.close()
    row = numbered(0, 1, width=5 << 20)
    with serve(pa.Table.from_batches([row]), message="1 MiB", wait_for=1) as server:
        client, reader = stuck(server)
        assert reader.read_all().equals(pa.Table.from_batches([row]))
        client.close()


def test_an_empty_feed_has_a_schema_and_an_end():
    with serve(pa.Table.from_batches([], SCHEMA), wait_for=1) as server:
        each = Reading(server.location).done()
        assert each.schema == SCHEMA
        assert (each.numbers, each.error) == ([], None)


# --- the source's end, and ours --------------------------------------------------------------


def test_a_source_that_fails_ends_its_clients_with_the_reason(send):
    decode = decoders.Ndjson(pa.schema([("n", pa.int64())]))
    with (
        zc.listen("127.0.0.1:0", decode=decode, accept=1) as source,
        serve(source, wait_for=1) as server,
    ):
        each = Reading(server.location)
        send(source.address, b'{"n": 0}\n{"n": 1}\nnonsense\n')
        each.done()
        if each.error is None:  # a bad row closes a connection, and that ends this source
            contiguous(each, 0, 2)
    feed = Feed()
    with serve(feed, wait_for=1) as server:
        each = Reading(server.location)
        feed.put(numbered(0, 10), FramingError(71, "no such frame", step="framing"))
        contiguous(each.done(), 0, 10)
        assert "the feed has failed: framing: no such frame" in str(each.error)
        assert each.error.extra_info == b"failed"
        with pytest.raises(FramingError, match="no such frame"):
            server.wait("5 s")
        assert isinstance(server.error, FramingError)


def test_closing_the_source_ends_the_streams(send):
    hold = threading.Event()
    with (
        zc.listen(
            "127.0.0.1:0", decode=decoders.Csv(pa.schema([("n", pa.int64())]), header=False)
        ) as source,
        serve(source) as server,
    ):
        clients = [Reading(server.location) for _ in range(2)]
        send(source.address, b"0\n1\n2\n", hold=hold)
        eventually(lambda: all(len(each.numbers) == 3 for each in clients))
        source.close()
        for each in clients:
            contiguous(each.done(), 0, 3)
            assert each.error is None
        server.wait("5 s")


def test_closing_tells_clients_and_takes_bounded_time_though_some_hang():
    feed = Feed()
    fds = open_fds()
    server = serve(feed, keep=0, slow="skip")
    reading = Reading(server.location)
    hanging = [stuck(server) for _ in range(3)]
    feed.put(*(big(n) for n in range(30)))
    eventually(lambda: len(reading.numbers) > 0 and server.metrics().rows == 30_000)
    begin = time.monotonic()
    server.close()
    assert time.monotonic() - begin < 20
    assert "the server is closing" in str(reading.done().error) or isinstance(
        reading.error, flight.FlightUnavailableError
    )
    server.close()
    assert server.closed
    assert server.metrics().clients == 0
    with pytest.raises(flight.FlightError):
        Reading(server.location)
    for client, _ in hanging:
        client.close()
    hanging.clear()
    eventually(lambda: (gc.collect(), open_fds() <= fds + 2)[1])


def test_a_close_that_is_interrupted_closes(monkeypatch):
    feed = Feed()
    server = serve(feed, wait_for=1)
    client, reader = stuck(server)
    feed.put(*(big(n) for n in range(30)), None)
    eventually(lambda: server._engine.fanout.finished)

    def interrupted(_timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr(server._engine.fanout, "wait_until_left", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    del reader
    client.close()


def test_closing_leaves_a_server_at_another_address_alone():
    feed, other = Feed(), Feed()
    with serve(feed, wait_for=1) as server, serve(other, f"127.0.0.2:{server.port}") as neighbour:
        client, reader = stuck(server)
        reading = Reading(neighbour.location, "feed")
        fill(feed, server)
        server.close(0)
        other.put(numbered(0, 10), None)
        contiguous(reading.done(), 0, 10)
        del reader
        client.close()


def test_a_consumer_that_raises_leaves_the_others_alone():
    feed = Feed()
    with serve(feed) as server:
        good = Reading(server.location)

        def bad():
            with pytest.raises(RuntimeError), flight.connect(server.location) as client:
                for _ in client.do_get(flight.Ticket("feed")):
                    raise RuntimeError("enough")

        thread = threading.Thread(target=bad)
        thread.start()
        eventually(lambda: server.clients().num_rows == 2)
        feed.put(numbered(0, 10))
        thread.join(20)
        eventually(lambda: server.clients().num_rows == 1)
        feed.put(numbered(10, 10), None)
        contiguous(good.done(), 0, 20)


def test_a_source_is_served_once():
    feed = Feed()
    with serve(feed), pytest.raises(ZcrxError, match="is being read by a Flight server"):
        serve(feed)
    with serve(feed):
        pass


def test_a_source_can_be_served_again_after_its_server_could_not_be_opened():
    feed = Feed()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ZcrxError, match="cannot listen on"),
    ):
        serve(feed, other.getsockname())
    with serve(feed):
        pass


def test_options_that_cannot_work():
    for option in (
        {"name": ""},
        {"slow": "maybe"},
        {"queue": 0},
        {"queue_batches": 0},
        {"views": "some"},
        {"clients": 0},
        {"wait_for": 65},
        {"keep": "soon"},
        {"message": -1},
        {"location": "http://127.0.0.1:1"},
        {"location": "grpc://127.0.0.1"},
        {"location": "grpc+tls://127.0.0.1:0"},
        {"token": ""},
        {"token": "two words"},
    ):
        with pytest.raises(ConfigError):
            serve(Feed(), **option)
    with pytest.raises(ConfigError, match="not list"):
        serve([numbered(0, 1)])


def test_a_program_that_forgets_to_close_ends(run_python):
    done = run_python(
        """
        import pyarrow as pa
        from pyarrow import flight
        from zcrx_arrow.connectors.flight_server import serve
        from zcrx_arrow.connectors.flight_ingest import ingest
        from tests.connectors.flight_client.tools import Feed, numbered
        feed = Feed()
        server = serve(feed)
        source = ingest()
        client = flight.connect(server.location)
        reader = client.do_get(flight.Ticket("feed"))
        feed.put(numbered(0, 10))
        print(reader.read_chunk().data.num_rows)
        putting = flight.connect(source.location)
        writer, _ = putting.do_put(flight.FlightDescriptor.for_path("feed"), numbered(0, 1).schema)
        writer.write_batch(numbered(0, 1))
        source.next_batch()
        """,
        warn="ignore",
    )
    assert done.stdout.split() == ["10"]


def test_a_child_process_that_ends_does_not_close_its_parent_s_server(run_python):
    done = run_python(
        """
        import os, signal, sys
        from tests.connectors.flight_client.tools import Feed, Reading, numbered
        from zcrx_arrow.connectors.flight_ingest import ingest
        from zcrx_arrow.connectors.flight_server import serve
        feed = Feed()
        with ingest(), serve(feed) as server:
            each = Reading(server.location)
            child = os.fork()
            if not child:
                signal.alarm(20)  # it has no threads that could end it
                server.close()
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            feed.put(numbered(0, 10), None)
            print(len(each.done().numbers))
        """,
        warn="ignore",
    )
    assert done.stdout.split() == ["10"]


def test_hanging_up_touches_nothing_but_sockets(tmp_path):
    """Closing any descriptor of a file would end this process' locks of it."""
    asking = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(7)
"""
    path = tmp_path / "locked"
    path.touch()
    with path.open("r+") as file, serve(Feed()) as server:
        fcntl.lockf(file, fcntl.LOCK_EX)
        client, reader = stuck(server)
        assert hang_up(server.port, "ipv4:127.0.0.1:1") == 0
        assert hang_up(server.port) == 1
        asked = subprocess.run([sys.executable, "-c", asking, path], check=False)
        assert asked.returncode == 7
        del reader
        client.close()


def test_bytes_of_a_file_are_served():
    data = b"".join(b"%d\n" % n for n in range(10_000))
    replay = zc.decode(data, decoders.Csv(pa.schema([("n", pa.int64())]), header=False))
    with serve(replay, wait_for=1, slow="wait") as server:
        contiguous(Reading(server.location).done(), 0, 10_000)
