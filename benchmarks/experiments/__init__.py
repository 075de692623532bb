# SPDX-License-Identifier: Apache-2.0
"""One module for each thing that is measured; each turns samples of child processes into numbers.

An experiment is a class with ``run_round()``, which the run calls in turn with the others', so
that the rounds of all are interleaved, and ``result()``, a frozen dataclass.
"""
