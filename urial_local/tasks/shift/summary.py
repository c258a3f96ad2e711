"""What a whole run says: shares, divergences, curves, tokens, tags, and what contexts repair.

Shares are over all positions of all answers, the end-of-answer token included, as in the paper;
they are also given without it, since in most contexts the base cannot know how the aligned model
ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.shift_rows import ALIGNED_NOT_FINITE, BASE_NOT_FINITE
from urial_local.tasks.intervals import POSITIVE, SHARE, Scale, distribution, ratio_intervals
from urial_local.tasks.shift.classes import CLASSES, classes
from urial_local.tasks.shift.curves import (
    RELATIVE_BINS,
    curve,
    plain,
    position_edges,
    quartiles,
)
from urial_local.tasks.shift.noise import batch_shape, quantisation
from urial_local.tasks.shift.record import NOT_FINITE, Answer, jaccard, same_top
from urial_local.tasks.shift.scoring import INFINITE, NOT_IN_BASE
from urial_local.tasks.shift.style import is_stylistic

REFERENCE = "zero-shot"  # the context that repairs are counted against, if it is there
MIN_COUNT = 5  # occurrences that a token needs for a shift ratio
LISTED = 60  # tokens in a list
UP_TO_LN_2 = Scale(0.0, math.log(2))
Text = Callable[[int], str]


@dataclass
class Positions:
    """All positions of one aligned model's answers in one base context, one array after another."""

    answers: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)

    def add(self, answer: Answer, context: str) -> None:
        columns, n = answer.contexts[context], len(answer.ids)
        status = columns["status"]
        end = np.zeros(n, bool)
        end[-1:] = answer.end_token
        values = {
            "position": np.arange(n, dtype=np.int32),
            "relative": ((np.arange(n) * RELATIVE_BINS) // max(n, 1)).astype(np.int8),
            "id": answer.ids,
            "end": end,
            "status": status,
            "class": classes(status, columns["base_rank"]),
            "rank": columns["base_rank"],
            "same_top": same_top(answer, context),
            "jaccard": jaccard(answer, context).astype(np.float32),
            # A token of probability zero has a rank, but no logarithm that JSON could hold.
            "prob": np.nan_to_num(np.exp(columns["base_logprob"])).astype(np.float32),
            "aligned_entropy": answer.aligned_columns["aligned_entropy"].astype(np.float32),
        }
        for name in ("kl_base_aligned", "kl_aligned_base", "js", "base_entropy"):
            values[name] = columns[name].astype(np.float32)
        self.answers.append((answer.id, answer.tags, values))

    def joined(self) -> tuple[dict[str, Any], list[Any]]:
        """The arrays and each answer's tags, by id: the order of writing changes nothing."""
        answers = sorted(self.answers, key=lambda a: a[0])
        arrays = {
            name: np.concatenate([values[name] for _, _, values in answers])
            for name in answers[0][2]
        }
        lengths = [len(values["id"]) for _, _, values in answers]
        arrays["answer"] = np.repeat(np.arange(len(answers), dtype=np.int32), lengths)
        return arrays, [tags for _, tags, _ in answers]


def summarise(
    answers: Iterable[Answer], texts: Mapping[str, Sequence[str]], reference: str = REFERENCE
) -> dict[str, Any]:
    """The summary of each aligned model's answers, by its name, ready for JSON.

    `texts`: for each aligned model what its token ids stand for.
    """
    collected: dict[str, dict[str, Positions]] = {}
    noise: dict[str, list[Any]] = {}
    shaped: dict[str, list[Answer]] = {}
    counts: dict[str, dict[str, int]] = {}
    for answer in answers:
        contexts = collected.setdefault(answer.aligned, {})
        for name in answer.contexts:
            contexts.setdefault(name, Positions()).add(answer, name)
        if answer.noise is not None:
            noise.setdefault(answer.aligned, []).append((answer, answer.noise))
        if answer.batch_shape is not None:
            shaped.setdefault(answer.aligned, []).append(answer)
        count = counts.setdefault(answer.aligned, {"answers": 0, "positions": 0, "ended": 0})
        count["answers"] += 1
        count["positions"] += len(answer.ids)
        count["ended"] += answer.ended
    found: dict[str, Any] = {}
    for aligned, contexts in collected.items():
        base = reference if reference in contexts else next(iter(contexts))
        text = texts[aligned].__getitem__
        joined = {name: positions.joined() for name, positions in contexts.items()}
        found[aligned] = {
            **counts[aligned],
            "reference": base,
            "contexts": {
                name: {
                    **_context(p, tags, text),
                    "repairs": _repairs(joined[base][0], p, text) if name != base else None,
                }
                for name, (p, tags) in joined.items()
            },
            "noise_floor": quantisation(noise[aligned]) if aligned in noise else None,
            "batch_shape": batch_shape(shaped[aligned]) if aligned in shaped else None,
        }
    return found


def _context(p: dict[str, Any], tags: list[Any], text: Text) -> dict[str, Any]:
    n_answers = len(tags)
    stylistic = np.array([is_stylistic(text(int(i))) for i in np.unique(p["id"])], bool)
    style = stylistic[np.unique(p["id"], return_inverse=True)[1]]
    # Without two distributions a position enters nothing; with an infinite KL, no mean of a KL.
    sound = (p["status"] & (NOT_FINITE | INFINITE)) == 0
    ranked = p["class"] >= 0
    found: dict[str, Any] = {
        "positions": len(p["id"]),
        "classes": _shares(p, ranked, n_answers),
        "classes_without_end": _shares(p, ranked & ~p["end"], n_answers),
        "classes_of_end": _shares(p, ranked & p["end"], n_answers),
        "unsound": {
            "base_not_finite": int(np.sum(p["status"] & BASE_NOT_FINITE > 0)),
            "aligned_not_finite": int(np.sum(p["status"] & ALIGNED_NOT_FINITE > 0)),
            "infinite_divergence": int(np.sum(p["status"] & INFINITE > 0)),
        },
    }
    for name, mask, scale in (
        ("kl_base_aligned", sound, POSITIVE),
        ("kl_aligned_base", sound, POSITIVE),
        ("js", ranked, UP_TO_LN_2),
    ):
        found[name] = {
            **distribution(p[name][mask]),
            **_mean_interval(p[name], p["answer"], mask, n_answers, scale),
        }
    known = ranked & (p["status"] & NOT_IN_BASE == 0)
    found["base_rank"] = distribution(p["rank"][known])
    found["base_prob"] = distribution(p["prob"][known])
    found["base_entropy"] = distribution(p["base_entropy"][ranked])
    found["aligned_entropy"] = distribution(p["aligned_entropy"][ranked])
    found["top1_agreement"] = _share(p["same_top"], ranked)
    found["jaccard"] = _share(p["jaccard"], ranked)
    found["curves"] = _curves(p, sound, known, ranked)
    found["style"] = {
        name: _shares(p, ranked & ~p["end"] & mask, n_answers)
        for name, mask in (("stylistic", style), ("content", ~style))
    }
    found["tokens"] = _tokens(p, ranked, text)
    found["tags"] = _tags(p, tags, ranked, sound)
    return found


def _share(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> float | None:
    chosen = values[mask].astype(np.float64)
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else None


def _shares(p: dict[str, Any], mask: npt.NDArray[np.bool_], n_answers: int) -> dict[str, Any]:
    """Counts and shares of the classes over the positions of a mask, with 95 % intervals."""
    per_answer = np.stack(
        [
            np.bincount(p["answer"][mask & (p["class"] == c)], minlength=n_answers)
            for c in range(len(CLASSES))
        ],
        axis=1,
    ).astype(np.float64)
    total = per_answer.sum(1, keepdims=True)
    low, high = ratio_intervals(per_answer, np.repeat(total, len(CLASSES), 1))
    n = int(total.sum())
    counts = per_answer.sum(0)
    found: dict[str, Any] = {"positions": n}
    for c, name in enumerate(CLASSES):
        share, low_c, high_c = plain(np.array([counts[c] / n if n else np.nan, low[c], high[c]]))
        found[name] = {"count": int(counts[c]), "share": share, "low": low_c, "high": high_c}
    return found


def _mean_interval(
    values: npt.NDArray[np.float32],
    answer: npt.NDArray[np.int32],
    mask: npt.NDArray[np.bool_],
    n_answers: int,
    scale: Scale,
) -> dict[str, float | None]:
    """The 95 % interval of a mean over positions; answers are the units."""
    total = np.bincount(answer[mask], values[mask], minlength=n_answers)[:, None]
    count = np.bincount(answer[mask], minlength=n_answers)[:, None]
    low, high = ratio_intervals(total.astype(np.float64), count.astype(np.float64), scale)
    return {"mean_low": plain(low)[0], "mean_high": plain(high)[0]}


def _curves(
    p: dict[str, Any],
    sound: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    ranked: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    edges = position_edges(int(p["position"].max(initial=-1)) + 1)
    n_bins = max(len(edges) - 1, 0)
    bins = np.searchsorted(edges, p["position"], side="right") - 1
    answers, relative = p["answer"].astype(np.int64), p["relative"].astype(np.int64)

    def along(
        values: npt.NDArray[Any], mask: npt.NDArray[np.bool_], scale: Scale | None
    ) -> dict[str, Any]:
        return curve(values[mask].astype(np.float64), bins[mask], answers[mask], n_bins, scale)

    shifted = (p["class"] >= 2).astype(np.float64)
    return {
        "from": edges[:-1].tolist(),
        "to": (edges[1:] - 1).tolist(),
        "kl_base_aligned": along(p["kl_base_aligned"], sound, POSITIVE),
        # Ranks have tails too heavy for the band of a mean: no method held its level.
        "base_rank": along(p["rank"], known, None),
        "base_rank_median": quartiles(p["rank"][known].astype(np.float64), bins[known], n_bins),
        "base_prob": along(p["prob"], known, SHARE),
        "shifted": along(shifted, ranked, SHARE),
        "relative_shifted": curve(
            shifted[ranked], relative[ranked], answers[ranked], RELATIVE_BINS, SHARE
        ),
    }


def _tokens(p: dict[str, Any], ranked: npt.NDArray[np.bool_], text: Text) -> dict[str, Any]:
    """Tokens by how often they are shifted, and by the share of their occurrences that are."""
    ids, inverse = np.unique(p["id"][ranked], return_inverse=True)
    count = np.bincount(inverse, minlength=len(ids))
    shifted = np.bincount(inverse, p["class"][ranked] >= 2, minlength=len(ids)).astype(int)

    def listed(order: npt.NDArray[Any]) -> list[dict[str, Any]]:
        return [
            {
                "id": int(ids[i]),
                "text": text(int(ids[i])),
                "count": int(count[i]),
                "shifted": int(shifted[i]),
                "stylistic": is_stylistic(text(int(ids[i]))),
            }
            for i in order[:LISTED]
            if shifted[i]
        ]

    ratio = shifted / np.maximum(count, 1)
    often = np.flatnonzero(count >= MIN_COUNT)
    return {
        "min_count": MIN_COUNT,
        "by_count": listed(np.lexsort((ids, -ratio, -shifted))),
        "by_ratio": listed(often[np.lexsort((ids[often], -shifted[often], -ratio[often]))]),
    }


def _tags(
    p: dict[str, Any],
    tags: list[Any],
    ranked: npt.NDArray[np.bool_],
    sound: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """Shares and mean KL of the answers that carry a tag; an answer counts in each of its tags."""
    n = len(tags)
    shifted = np.bincount(p["answer"][ranked & (p["class"] >= 2)], minlength=n).astype(np.float64)
    positions = np.bincount(p["answer"][ranked], minlength=n).astype(np.float64)
    kl = np.bincount(p["answer"][sound], p["kl_base_aligned"][sound], minlength=n)
    n_kl = np.bincount(p["answer"][sound], minlength=n)
    pairs = sorted({(kind, value) for t in tags for kind, values in t.items() for value in values})
    if not pairs:
        return {}
    member = np.array([[value in t.get(kind, ()) for kind, value in pairs] for t in tags], float)
    low, high = ratio_intervals(member * shifted[:, None], member * positions[:, None])
    found: dict[str, Any] = {}
    for j, (kind, value) in enumerate(pairs):
        own = member[:, j]
        share, mean, low_j, high_j = plain(
            np.array(
                [
                    np.divide(own @ shifted, own @ positions),
                    np.divide(own @ kl, own @ n_kl),
                    low[j],
                    high[j],
                ]
            )
        )
        found.setdefault(kind, {})[value] = {
            "answers": int(own.sum()),
            "positions": int(own @ positions),
            "shifted": {"share": share, "low": low_j, "high": high_j},
            "kl_base_aligned": mean,
        }
    return found


def _repairs(before: dict[str, Any], after: dict[str, Any], text: Text) -> dict[str, Any]:
    """Positions shifted in the reference context that are not in this one, and the reverse.

    repaired / shifted there is the share that the context repairs; the end token is left out, since
    every frame ends its answers in its own way.
    """
    both = (before["class"] >= 0) & (after["class"] >= 0) & ~before["end"]
    was, is_now = before["class"] == 2, after["class"] == 2
    repaired, damaged, shifted = both & was & ~is_now, both & ~was & is_now, both & was
    n = int(before["answer"].max(initial=-1)) + 1
    answer = before["answer"]
    total = np.bincount(answer[shifted], minlength=n).astype(np.float64)[:, None]
    mended = np.bincount(answer[repaired], minlength=n).astype(np.float64)[:, None]
    low, high = ratio_intervals(mended, total)

    def most(mask: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
        ids, count = np.unique(before["id"][mask], return_counts=True)
        order = np.lexsort((ids, -count))[:LISTED]
        return [
            {
                "id": int(ids[i]),
                "text": text(int(ids[i])),
                "count": int(count[i]),
                "of": int(np.sum(shifted & (before["id"] == ids[i]))),
            }
            for i in order
        ]

    n_shifted, n_repaired = int(shifted.sum()), int(repaired.sum())
    return {
        "shifted_there": n_shifted,
        "repaired": n_repaired,
        "share": n_repaired / n_shifted if n_shifted else None,
        "low": plain(low)[0],
        "high": plain(high)[0],
        "damaged": int(damaged.sum()),
        "tokens": most(repaired),
        "tokens_damaged": most(damaged),
    }
