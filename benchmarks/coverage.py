"""How often 95 % intervals hold what they are intervals of, and how often the sign-flip test sees a
difference where there is none: `python -m benchmarks.coverage`. Seeded; no model is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.tasks.intervals import POSITIVE, SHARE, Scale, ratio_intervals
from urial_local.tasks.sign_flip import sign_flip_p

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[FloatArray, FloatArray]]
SIZES = (5, 8, 10, 20, 50)
TRIALS = 4000
SCORES = Scale(1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Population:
    """What answers are drawn from. draw(rng, n, trials): numerators and denominators, each
    [n, trials]; `truth` is the ratio of their means."""

    name: str
    draw: Draw
    truth: float
    scale: Scale


def scores(name: str, counts: Sequence[float]) -> Population:
    """Scores from 1 to 5, as often as `counts` says."""
    p = np.array(counts, np.float64) / sum(counts)
    values = np.arange(1.0, 6.0)

    def draw(rng: np.random.Generator, n: int, trials: int) -> tuple[FloatArray, FloatArray]:
        drawn = rng.choice(values, (n, trials), p=p)
        return drawn, np.ones_like(drawn)

    return Population(name, draw, float(values @ p), SCORES)


def shares(name: str, share: float, alike: float, spread: float, length: float = 60) -> Population:
    """Shifted tokens of answers: lengths log-normal about `length`, each answer's own share from a
    beta distribution, narrower the greater `alike`."""

    def draw(rng: np.random.Generator, n: int, trials: int) -> tuple[FloatArray, FloatArray]:
        lengths = np.maximum(1, np.rint(rng.lognormal(math.log(length), spread, (n, trials))))
        own = rng.beta(share * alike, (1 - share) * alike, (n, trials))
        return rng.binomial(lengths.astype(int), own).astype(np.float64), lengths

    return Population(name, draw, share, SHARE)


def divergences(name: str, skew: float, spread: float) -> Population:
    """Mean divergences of answers, log-normal about 1, and answers' lengths as in `shares`."""

    def draw(rng: np.random.Generator, n: int, trials: int) -> tuple[FloatArray, FloatArray]:
        lengths = np.maximum(1, np.rint(rng.lognormal(math.log(60), spread, (n, trials))))
        own = rng.lognormal(-(skew**2) / 2, skew, (n, trials))
        return own * lengths, lengths

    return Population(name, draw, 1.0, POSITIVE)


POPULATIONS = (
    scores("scores from 1 to 5, each as often", (1, 1, 1, 1, 1)),
    scores("scores about 3.6", (2, 10, 30, 40, 18)),
    scores("scores about 4.4", (2, 3, 10, 25, 60)),
    scores("safety of vicuna-7b (mean 4.60)", (11, 8, 0, 12, 169)),
    scores("safety of Mistral-7B (mean 4.75)", (6, 6, 0, 9, 179)),
    shares("shifted, 30 %, lengths ± 50 %", 0.3, 20, 0.5),
    shares("shifted, 10 %, lengths ± 50 %", 0.1, 20, 0.5),
    shares("shifted, 10 %, lengths ± 80 %, answers unlike", 0.1, 5, 0.8),
    shares("shifted, 2 %, lengths ± 50 %", 0.02, 20, 0.5),
    shares("unshifted, 90 %, lengths ± 80 %", 0.9, 10, 0.8),
    divergences("mean KL, lengths ± 50 %", 0.3, 0.5),
    divergences("mean KL, skewed, lengths ± 80 %", 0.6, 0.8),
)


def coverage(population: Population, n: int, trials: int, seed: int = 0) -> tuple[float, float]:
    """The share of the intervals shown that hold the truth, and the share that is shown."""
    rng = np.random.default_rng(seed)
    low, high = ratio_intervals(*population.draw(rng, n, trials), population.scale)
    shown = np.isfinite(low)
    holds = (low <= population.truth) & (population.truth <= high)
    return float(holds[shown].mean()), float(shown.mean())


def false_alarms(counts: Sequence[float], n: int, trials: int, seed: int = 0) -> float:
    """How often p < 0.05 for two models whose scores are drawn from the same `counts`."""
    rng = np.random.default_rng(seed)
    p = np.array(counts, np.float64) / sum(counts)
    differences = np.subtract(*rng.choice(np.arange(1.0, 6.0), (2, trials, n), p=p))
    return float(np.mean([sign_flip_p(row) < 0.05 for row in differences]))


def main() -> None:
    heads = " | ".join(f"{n} answers" for n in SIZES)
    print(f"| 95 % intervals of | {heads} |\n|:--|{'--:|' * len(SIZES)}")
    for population in POPULATIONS:
        cells = []
        for n in SIZES:
            holds, shown = coverage(population, n, TRIALS)
            cells.append(f"{100 * holds:.1f}" + (f" ({100 * shown:.0f})" if shown < 0.995 else ""))
        print(f"| {population.name} | {' | '.join(cells)} |", flush=True)
    for name, counts in (("about 3.6", (2, 10, 30, 40, 18)), ("mostly 5", (6, 6, 0, 9, 179))):
        alarms = [f"{100 * false_alarms(counts, n, TRIALS):.1f}" for n in (2, 3, *SIZES)]
        print(f"false alarms, scores {name}, n = 2, 3, {SIZES}: {', '.join(alarms)}")


if __name__ == "__main__":
    main()
