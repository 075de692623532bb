# SPDX-License-Identifier: Apache-2.0
"""Bytes that are in memory already, to messages and columns, on one core.

``python -m benchmarks.memory '{"case": ..., "total": ..., "cpu": ...}'`` is what the harness
starts: one process for each sample, so that no peer finds another's memory or threads.
"""
