"""A row that fills in a form: its logits are masked, and fixed text follows what it chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from urial_local.runtime.choices import FinishReason
from urial_local.runtime.forms import Field, Filling, Form
from urial_local.runtime.rows import Request, Row


class FormRow(Row):
    """The form's own limit stands in place of max_tokens, and its end in place of an end token."""

    def __init__(
        self, index: int, request: Request, piece: Callable[[int], bytes], ctx_size: int, form: Form
    ) -> None:
        self._form = form
        super().__init__(index, request, piece, ctx_size)
        self._filling = Filling(form)

    def _longest(self) -> int:
        return self._form.max_tokens

    def _view(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._filling.masked(super()._view(logits))

    def _take(
        self, token: int, logprob: float | None, is_end: bool
    ) -> tuple[str, FinishReason | None]:
        """The token and the fixed text that follows it; the next step decodes them at once."""
        appended = self._filling.take(token)
        self.tokens += appended
        if logprob is not None:
            self._logprobs.append(logprob)
        text = "".join(self._text.feed(t) for t in appended)
        return text, "form" if self._filling.done else self._full()

    def _fields(self) -> tuple[Field, ...]:
        return tuple(self._filling.fields)


def row_of(index: int, request: Request, piece: Callable[[int], bytes], ctx_size: int) -> Row:
    """The row that a request asks for."""
    if request.form is None:
        return Row(index, request, piece, ctx_size)
    return FormRow(index, request, piece, ctx_size, request.form)
