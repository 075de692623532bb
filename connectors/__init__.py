# SPDX-License-Identifier: Apache-2.0
"""What a source can be plugged into. Each module names the extra that it needs."""
