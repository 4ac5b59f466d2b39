# SPDX-License-Identifier: Apache-2.0
"""What the node enforces with: programs, links, interfaces, counters."""
