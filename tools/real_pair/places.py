"""Where in the answers the shift is: `python -m tools.real_pair.places RUN` over a run of `shift`.

For each base context and range of positions: shifted positions (base rank above 3) of all that
there are, and the mean of KL(base ‖ aligned) in nats over those where it is finite.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RANGES = ((0, 5), (5, 20), (20, 1 << 30))
MARGINAL = 3  # the highest base rank that is not shifted


def lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The table in Markdown, a line for each context."""
    whole = [row for row in rows if "contexts" in row]
    names = [f"{a} to {b - 1}" if b < 1 << 30 else f"from {a}" for a, b in RANGES]
    yield "| base context | " + " | ".join(f"positions {name}" for name in names) + " |"
    yield "|---|" + "---|" * len(RANGES)
    for context in whole[0]["contexts"] if whole else ():
        cells = []
        for start, stop in RANGES:
            columns = [row["contexts"][context] for row in whole]
            ranks = [rank for c in columns for rank in c["base_rank"][start:stop]]
            kls = [kl for c in columns for kl in c["kl_base_aligned"][start:stop]]
            finite = [kl for kl in kls if kl is not None and math.isfinite(kl)]
            shifted = sum(rank is not None and rank > MARGINAL for rank in ranks)
            mean = f"{sum(finite) / len(finite):.2f}" if finite else "–"
            cells.append(f"{shifted} of {len(ranks)}, KL {mean}")
        yield f"| {context} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of the run that is named."""
    with (Path(sys.argv[1]) / "rows.jsonl").open(encoding="utf-8") as file:
        for line in lines(json.loads(row) for row in file):
            print(line)


if __name__ == "__main__":
    main()
