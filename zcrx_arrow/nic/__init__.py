# SPDX-License-Identifier: Apache-2.0
"""
Network interfaces, as zero-copy receive needs them.

    netlink.py    what the kernel says of an interface and its queues
    preflight.py  what is missing for zero-copy receive, in words
"""
