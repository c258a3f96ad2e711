"""What the server counts, in Prometheus' text format. Labels are the model, the endpoint, how an
answer ended and why a request was refused: never a word of what was asked or answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from urial_local.runtime.rows import Completion

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One registry of our own: nothing of the process or of other servers in it."""

    def __init__(self) -> None:
        self._all = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, ["model"], buckets=buckets, registry=registry)

        self.requests = counter(
            "urial_requests", "Answers that ended", "model", "endpoint", "finish_reason"
        )
        self.rejected = counter("urial_requests_rejected", "Requests that were refused", "reason")
        self.disconnects = counter("urial_disconnects", "Clients that left before the end")
        self.prompt_tokens = counter("urial_prompt_tokens", "Tokens of prompts", "model")
        self.cached_tokens = counter(
            "urial_cached_tokens", "Tokens of prompts that were not decoded again", "model"
        )
        self.generated_tokens = counter(
            "urial_generated_tokens", "Tokens that were written", "model"
        )
        self.guide_tokens = counter(
            "urial_guide_tokens", "Tokens of those that the guide wrote", "model"
        )
        self.guide_decoded = counter(
            "urial_guide_decoded_tokens", "Tokens that guides decoded, read ones included", "model"
        )
        self.scored_tokens = counter(
            "urial_scored_tokens", "Tokens that were decoded to be scored", "model"
        )
        self.steps = counter("urial_decode_steps", "Batches that were decoded", "model")
        self.rows_per_step = histogram("urial_rows_per_step", "Rows in a batch", ROWS)
        self.first_token = histogram(
            "urial_time_to_first_token_seconds", "From the request to its first token", LONG
        )
        self.inter_token = histogram("urial_inter_token_seconds", "Between two tokens", SHORT)
        self.queue = histogram("urial_queue_seconds", "In the queue", LONG)
        self.prefill = histogram("urial_prefill_seconds", "Reading the prompt", LONG)
        self.whole = histogram("urial_request_seconds", "From the request to its end", LONG)
        self._running = Gauge(
            "urial_requests_running", "Answers being written", ["model"], registry=registry
        )
        self._waiting = Gauge(
            "urial_requests_waiting", "Answers and scores in the queue", ["model"],
            registry=registry,
        )  # fmt: skip
        self._cells = Gauge(
            "urial_kv_cells_used_ratio", "Cells of the cache that are taken", ["model"],
            registry=registry,
        )  # fmt: skip

    def watch(
        self,
        model: str,
        running: Callable[[], float],
        waiting: Callable[[], float],
        cells: Callable[[], float],
    ) -> None:
        """Read these at each scrape."""
        self._running.labels(model).set_function(running)
        self._waiting.labels(model).set_function(waiting)
        self._cells.labels(model).set_function(cells)

    def ended(self, model: str, endpoint: str, done: Completion) -> None:
        self.requests.labels(model, endpoint, done.finish_reason).inc()
        self.prompt_tokens.labels(model).inc(done.prompt_tokens)
        self.cached_tokens.labels(model).inc(done.cached_tokens)
        self.generated_tokens.labels(model).inc(written(done))
        self.prefill.labels(model).observe(done.prefill_seconds)
        if done.guidance is not None:
            self.guide_tokens.labels(model).inc(len(done.guidance.at))
            self.guide_decoded.labels(model).inc(done.guidance.decoded)

    def text(self) -> bytes:
        return generate_latest(self._all)


def written(done: Completion) -> int:
    """Tokens that the model wrote, the one that ended its answer among them."""
    return len(done.tokens) + (done.end_token is not None)
