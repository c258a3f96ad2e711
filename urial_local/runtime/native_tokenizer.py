"""llama.cpp's tokeniser, called so that no text can crash it, block it or make it deaf to Ctrl-C.

Two things of it hurt on long texts. Most pre-tokenisers of BPE vocabularies are run by std::regex,
which recurses once for each character of a match: a run of some 20,000 dashes or letters overflows
an ordinary stack, which ends the process. And the time to set apart the tokens that a vocabulary
defines as whole pieces (newlines in Gemma's) grows with the square of their number in the text.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, TypeVar

from urial_local.base.errors import ContextOverflow, TokenizeError
from urial_local.runtime.llama_api import lib

SLICE = 4096  # characters; a run of so many needs 2 MB of stack at most
STACK_PER_CHARACTER = 2048  # bytes; the worst pre-tokeniser of this release needs 340
STACK = 8 << 20  # bytes for everything else
LONGEST_RUN = 500_000  # characters, for which 1 GB of addresses is set aside
BORDER_TOKENS = 8  # more than a cut through a text can add to its tokens

T = TypeVar("T")
_RUN = re.compile(r"\s+|\S+")
_stack_size = threading.Lock()  # a setting of the whole process


class NativeTokenizer:
    """Text to ids over an open vocabulary; neither BOS nor control tokens."""

    def __init__(self, handle: Any, texts: Callable[[int], str]) -> None:
        """`texts` gives a token's text as the vocabulary writes it."""
        self._handle, self._texts = handle, texts

    def ids(self, text: str, most: int | None = None) -> list[int]:
        """Token ids of a text of valid Unicode. `most`: tokens that there is room for.

        Raises ContextOverflow for a text that surely has more than `most`, before it is tokenised
        as a whole, and TokenizeError for a run of characters that is longer than any stack.
        """
        if len(text) <= SLICE:
            return self._ids(text)
        if most is not None and len(text) > 4 * most:  # others are counted soon enough
            self._refuse_long(text, most)
        run = max(m.end() - m.start() for m in _RUN.finditer(text))
        if run > LONGEST_RUN:
            raise TokenizeError(
                f"The text has {run:,} characters without a space between them; a tokeniser takes"
                f" {LONGEST_RUN:,}.",
                "Break it into lines, or shorten it.",
            )
        ids: list[int] = []
        for piece in self._pieces(text):
            # Back in Python after each piece, where Ctrl-C is heard.
            ids += _on_stack(STACK + run * STACK_PER_CHARACTER, partial(self._ids, piece))
        return ids

    def _refuse_long(self, text: str, most: int) -> None:
        """Counts slice by slice, each fast whatever is in it, and stops once it is clear."""
        count = 0
        for at in range(0, len(text), SLICE):
            piece = text[at : at + SLICE]
            found = _on_stack(STACK + SLICE * STACK_PER_CHARACTER, partial(self._ids, piece))
            count += max(0, len(found) - BORDER_TOKENS)
            if count > most:
                raise ContextOverflow(
                    f"The text has {len(text):,} characters, more than the context's {most:,}"
                    " tokens hold.",
                    "Use a shorter text or a larger `ctx_size`.",
                )

    def _pieces(self, text: str) -> list[str]:
        """The text cut behind tokens that stand for themselves wherever they are, so that the
        pieces have the tokens of the whole."""
        pieces, start = [], 0
        for border in self._borders(text):
            if border - start >= SLICE:
                pieces.append(text[start:border])
                start = border
        if start < len(text):
            pieces.append(text[start:])
        return pieces

    def _borders(self, text: str) -> list[int]:
        """Where llama.cpp sets such tokens apart: the longest first, each from left to right."""
        raw, borders = [(0, len(text))], []
        for name in self._whole:
            if name not in text:
                continue
            rest = []
            for at, end in raw:
                while (found := text.find(name, at, end)) >= 0:
                    if found > at:
                        rest.append((at, found))
                    at = found + len(name)
                    borders.append(at)
                if at < end:
                    rest.append((at, end))
            raw = rest
        return sorted(borders)

    @cached_property
    def _whole(self) -> list[str]:
        """The texts of such tokens. None where one takes the blanks beside it along, since then a
        cut would change what it takes."""
        names = []
        for token in range(lib.llama_vocab_n_tokens(self._handle)):
            attributes = lib.llama_vocab_get_attr(self._handle, token)
            if attributes & lib.LLAMA_TOKEN_ATTR_USER_DEFINED and not (
                attributes & lib.LLAMA_TOKEN_ATTR_CONTROL
            ):
                if attributes & (lib.LLAMA_TOKEN_ATTR_LSTRIP | lib.LLAMA_TOKEN_ATTR_RSTRIP):
                    return []
                names.append(self._texts(token))
        return sorted(filter(None, names), key=lambda name: -len(name.encode()))

    def _ids(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        size = len(data) + 16
        ids = (lib.llama_token * size)()
        n = lib.llama_tokenize(self._handle, data, len(data), ids, size, False, False)
        if n < 0:
            ids = (lib.llama_token * -n)()
            n = lib.llama_tokenize(self._handle, data, len(data), ids, -n, False, False)
        if n < 0:
            raise TokenizeError("llama.cpp could not tokenise the text.")
        return list(ids[:n])


BEGINS = 1.0  # seconds after which a thread that has not begun was never started


def _on_stack(size: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises, run on a stack of its own of `size` bytes."""
    outcome: list[T] = []
    failure: list[BaseException] = []
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    with _stack_size:
        before = threading.stack_size(-(-size // 65536) * 65536)  # whole pages, of any size
        try:
            threading.Thread(target=run).start()
        except RuntimeError:
            raise TokenizeError(
                "There is not enough memory to tokenise a text this long.", "Shorten it."
            ) from None
        except BaseException:  # an interruption while it was waited for to begin
            if begun.wait(BEGINS):
                _wait(ended)
            raise
        finally:
            threading.stack_size(before)
    _wait(ended)
    if failure:
        raise failure[0]
    return outcome[0]


def _wait(ended: threading.Event) -> None:
    """Until the work has ended. An interruption waits for it, since what is interrupted closes the
    vocabulary next. Not by joining the thread: Python takes one for ended whose join was
    interrupted."""
    interruption: BaseException | None = None
    while not ended.is_set():
        try:
            ended.wait()
        except BaseException as error:
            interruption = error
    if interruption is not None:
        raise interruption
