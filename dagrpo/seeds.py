"""Stateless randomness: what a draw is for decides its value, so order, batch size and resume cannot change it."""

from hashlib import blake2b

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def key(*parts: int | str) -> int:
    """Hash what a draw is for (run seed, purpose, step, problem id, sample index, ...) to 64 bits."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def uniforms(keys: np.ndarray, position: int | np.ndarray) -> np.ndarray:
    """One uniform number in [0, 1) for each key (uint64, shape (N,)) at its position, or at one for all: float64, (N,).

    The finaliser of SplitMix64 (Steele et al., 2014) over ``key + (position + 1) * golden``.
    """
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64) + np.asarray(position + 1, np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator for draws of unknown number, keyed like :func:`key`."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def permutation(size: int, *parts: int | str) -> np.ndarray:
    """A keyed permutation of ``range(size)``, shape (size,)."""
    return generator(*parts).permutation(size)
