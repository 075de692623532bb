# SPDX-License-Identifier: Apache-2.0
"""
Coverage-guided fuzzing of what reads bytes of peers.

``python -m tests.fuzz --seconds 100`` builds the C targets of native/fuzz with libFuzzer, and runs
them and those here with atheris, each for its share of that time. Inputs that found something, and
seeds, lie in the corpus folders; the ordinary tests run all of them once.
"""
