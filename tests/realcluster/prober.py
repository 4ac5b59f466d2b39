# SPDX-License-Identifier: Apache-2.0
"""Runs in a client's pod: connects to a Service's ports without end, and prints a line for every attempt.

prober.py HOST PORT...      prints: TIME PORT yes|no
"""

import socket
import sys
import threading
import time

HOST, PORTS = sys.argv[1], [int(port) for port in sys.argv[2:]]
# Denied packets are dropped, so a refusal is silence; what is allowed answers in far less on any machine.
PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.05


def probe(port: int) -> None:
    """Try one port for ever."""
    while True:
        started = time.time()
        try:
            with socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS):
                answer = "yes"
        except OSError:
            answer = "no"
        sys.stdout.write(f"{started:.3f} {port} {answer}\n")
        sys.stdout.flush()
        time.sleep(PAUSE_SECONDS)


for number in PORTS:
    threading.Thread(target=probe, args=(number,), daemon=True).start()
threading.Event().wait()
