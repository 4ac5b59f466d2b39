# SPDX-License-Identifier: Apache-2.0
"""Kubernetes network policy on eBPF."""
