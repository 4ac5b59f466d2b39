# SPDX-License-Identifier: Apache-2.0
"""The wildcard map: a classifier over several fields, in pure BPF."""
