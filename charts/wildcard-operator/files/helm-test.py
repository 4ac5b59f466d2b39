# SPDX-License-Identifier: Apache-2.0
"""One end of `helm test`: a friend reaches the server's first port and not its second, a stranger neither."""

import os
import socket
import sys
import time

HOST = os.environ["WILDCARD_TEST_SERVICE_HOST"]
ALLOWED, DENIED = 80, 81
SECONDS = 90
TRIES = 5
# What is dropped never answers, so a longer wait shows nothing; what is allowed may be late on a busy node.
DROPPED_SECONDS, ALLOWED_SECONDS = 1, 10


def connects(port: int, patience: float = DROPPED_SECONDS) -> bool:
    """Whether the Service answers on a port."""
    try:
        socket.create_connection((HOST, port), timeout=patience).close()
    except OSError:
        return False
    return True


def wait_for_policy() -> None:
    """The server is up and the policy in force once the one port answers and the other doesn't."""
    deadline = time.monotonic() + SECONDS
    while not connects(ALLOWED) or connects(DENIED):
        if time.monotonic() > deadline:
            sys.exit(f"after {SECONDS} s port {ALLOWED} does not answer, or port {DENIED} does")
        time.sleep(0.5)


friend = sys.argv[1] == "friend"
if friend:
    wait_for_policy()
for _ in range(TRIES):
    seen = {
        ALLOWED: connects(ALLOWED, ALLOWED_SECONDS if friend else DROPPED_SECONDS),
        DENIED: connects(DENIED),
    }
    if seen != {ALLOWED: friend, DENIED: False}:
        sys.exit(f"a {sys.argv[1]} sees {seen}")
print(f"a {sys.argv[1]} sees what the NetworkPolicy lets it see")
