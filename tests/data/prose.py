"""Text like a person's, of any size, for the tests of data."""

import random


def prose(size: int, seed: int = 0) -> bytes:
    """Lines of 20 to 80 bytes of words, cut at `size` bytes."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(1, 4)).hex() for _ in range(3000)]
    lines = (" ".join(rng.choices(words, k=rng.randint(4, 11))) for _ in range(size // 20 + 1))
    return "\n".join(lines).encode()[:size]
