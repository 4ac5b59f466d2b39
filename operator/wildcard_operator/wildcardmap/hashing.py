# SPDX-License-Identifier: Apache-2.0
"""The hash of bpf/wildcard/lookup.h, for arrays: NH with random seeds, then one round of mixing."""

import secrets

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def new_seeds() -> npt.NDArray[np.uint32]:
    """Random seeds, two a word of the longest key: uint32[32]."""
    return np.frombuffer(secrets.token_bytes(128), np.uint32).copy()


def new_table_seed() -> int:
    """A random seed of one table."""
    return secrets.randbits(64)


def hashes(seeds: npt.NDArray[np.uint32], table_seed: Words, masked: Words) -> npt.NDArray[np.uint32]:
    """Hash masked keys (uint64[n, words]) with the seeds of their tables (uint64[n] or one)."""
    wide = seeds.astype(np.uint64)
    total = np.broadcast_to(table_seed, masked.shape[:1]).copy()
    for word in range(masked.shape[1]):
        column = masked[:, word]
        first = ((column & _LOW) + wide[2 * word]) & _LOW
        second = ((column >> _HALF) + wide[2 * word + 1]) & _LOW
        total += first * second
    total ^= total >> _HALF
    total *= _MIX
    return (total >> _HALF).astype(np.uint32)
