#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the virtual machine of tests/kernel: a pair of software NICs, made ready for zero-copy receive,
# and liburing's example program, which receives and verifies 26 MB from the other end of the wire.
set -eu
ethtool() { "$ZCRX_ARROW_ETHTOOL" "$@"; }

insmod "$ZCRX_ARROW_ZCSIM"
ip netns add far                            # else the kernel would not use the wire
ip link set zc1 netns far
ip addr add 10.9.0.1/24 dev zc0
ip link set zc0 up
ip -n far addr add 10.9.0.2/24 dev zc1
ip -n far link set zc1 up

ethtool -G zc0 tcp-data-split on hds-thresh 0
ethtool -X zc0 equal 1                      # RSS keeps to queue 0 ...
ethtool -K zc0 ntuple on
ethtool -N zc0 flow-type tcp4 dst-port 9000 action 1   # ... and this port has queue 1

stdbuf -oL "$ZCRX_ARROW_WITNESS" -i zc0 -q 1 -p 9000 -v -s 26000000 &
sleep 2
ip netns exec far python -c '
import socket, string
peer = socket.create_connection(("10.9.0.1", 9000))
peer.sendall(string.ascii_lowercase.encode() * 1_000_000)
peer.recv(1)'
ethtool -S zc0 | grep -E "rx1_(placed_bytes|linear)"
kill %1
