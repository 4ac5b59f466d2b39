# SPDX-License-Identifier: Apache-2.0
"""Command lines: parse options, build the objects, run."""
