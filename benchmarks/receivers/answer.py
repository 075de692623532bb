# SPDX-License-Identifier: Apache-2.0
"""Receivers of the latency case: they answer each message on a second connection."""

from __future__ import annotations

import socket

from benchmarks.probe import say

RECEIVE_BYTES = 64 * 1024


def _no_delay(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def answer_socket(*, message_bytes: int) -> None:
    """Answer what a blocking recv() returns."""
    answer = b"y" * message_bytes
    count = 0
    with (
        socket.create_server(("127.0.0.1", 0)) as replies,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        say(port=listener.getsockname()[1], reply_port=replies.getsockname()[1])
        reply, _ = replies.accept()
        _no_delay(reply)
        connection, _ = listener.accept()
        with reply, connection:
            while message := connection.recv(RECEIVE_BYTES):
                if len(message) != message_bytes:
                    raise AssertionError(len(message))
                reply.sendall(answer)
                count += 1
            say(messages=count)


def answer_ours(*, message_bytes: int) -> None:
    """Answer each batch, which must hold the one message that is under way."""
    import zcrx_arrow as zc  # noqa: PLC0415 (the baseline does without)

    answer = b"y" * message_bytes
    count = 0
    framing = zc.framing.Delimited(b"\n")
    with (
        socket.create_server(("127.0.0.1", 0)) as replies,
        zc.listen("127.0.0.1:0", framing=framing, accept=1) as source,
    ):
        say(port=source.address[1], reply_port=replies.getsockname()[1])
        reply, _ = replies.accept()
        _no_delay(reply)
        with reply:
            for batch in source:
                if batch.num_rows != 1:
                    raise AssertionError(batch.num_rows)
                reply.sendall(answer)
                count += 1
            say(messages=count)
