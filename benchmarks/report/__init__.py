# SPDX-License-Identifier: Apache-2.0
"""What a run found, as JSON, as tables and as a plot."""
