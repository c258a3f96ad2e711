"""What numbers may be at most: beyond, llama.cpp wraps around, aborts or takes all memory."""

from __future__ import annotations

TOKENS = 1 << 24  # of a context; 255 rows of it still count in the 32 bits of llama.cpp
SEQUENCES = 256  # of a context, in llama.cpp
ROWS_AT_A_TIME = SEQUENCES - 1  # one holds a prefix
THREADS = 512  # GGML_MAX_N_THREADS
BATCH = 1 << 16  # tokens; the working memory of a batch grows with it
LAYERS = 100_000
SHARDS = 1_000_000
ARRAY = 4_000_000  # jobs of a Slurm array, by the documentation of MaxArraySize
DEVICES = 1024  # of one machine
SHOTS = 10_000
REPEATS = 10_000
ROWS = 1 << 53  # of a dataset
SEED = (1 << 64) - 1
MEGABYTES = 1 << 30
COLDEST = 1e-6  # temperature: a smaller one divides by what floats cannot hold
PENALTY = (1e-3, 1e3)


def count(text: str, most: int) -> int | None:
    """A whole number from 0 to `most` as its digits, or None for any other text."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    return int(text) if int(text) <= most else None
