# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of zcrx-arrow against a bare recv() loop, Python sockets, Arrow IPC and Flight.

``python -m benchmarks`` (from the project root) runs everything; ``--help`` lists the choices.
Read ``README.md`` here first: it says what each number means and how it is taken.
"""
