# SPDX-License-Identifier: Apache-2.0
"""Policies and pods to the addresses and entries of a node: pure and incremental."""
