# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends any wait, whoever waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import ROOT

PULLS = {
    "loop": "for batch in source: pass",
    "next_batch": "while source.next_batch(): pass",
    "pyarrow": "pa.table(source)",
    "reader": "for batch in pa.RecordBatchReader.from_stream(source): pass",
    "scanner": "ds.Scanner.from_batches(pa.RecordBatchReader.from_stream(source)).to_table()",
    "polars": "pl.DataFrame(source)",
    "duckdb": "duckdb.sql('select count(*) from source').fetchall()",
    "asyncio": "asyncio.run(collect(source))",
}


@pytest.mark.parametrize("feed", ["quiet", "busy"])
@pytest.mark.parametrize("pull", PULLS)
def test_ctrl_c(pull, feed):
    script = f"""
        import asyncio, socket, sys, threading
        import duckdb, polars as pl, pyarrow as pa, pyarrow.dataset as ds
        import zcrx_arrow as zc

        async def collect(source):
            async for batch in source:
                pass

        def feed(address):
            peer = socket.create_connection(address)
            if {feed == "busy"}:
                try:
                    while True:
                        peer.sendall(b"line\\n" * 100)
                        stop.wait(0.001)
                except OSError:
                    return
            stop.wait()

        stop = threading.Event()
        try:
            with zc.listen("127.0.0.1:0", framing=zc.framing.Delimited()) as source:
                threading.Thread(target=feed, args=(source.address,), daemon=True).start()
                while source.metrics().connections == 0:
                    pass
                print("ready", flush=True)
                {PULLS[pull]}
                print("ended by itself")
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
        except BaseException as error:
            print("interrupted" if "interrupt" in str(error).lower() else repr(error))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    try:
        # Let it get into its wait; whether it has or not, it must end.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert out.strip() in ("KeyboardInterrupt", "interrupted"), f"{out}\n{err}"
