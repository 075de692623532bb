# SPDX-License-Identifier: Apache-2.0
"""Aggregates of a live feed by an engine, against what one writes without this project."""
