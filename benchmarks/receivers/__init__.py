# SPDX-License-Identifier: Apache-2.0
"""The receiving processes, one function for each case that is written in Python.

``python -m benchmarks.receivers '{"case": ..., ...}'`` is what the harness starts.
"""
