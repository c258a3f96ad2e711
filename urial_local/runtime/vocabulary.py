"""A model's vocabulary: text to token ids and back, as llama.cpp does it, made safe to call."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import TokenizeError
from urial_local.base.placeholders import Names, restore
from urial_local.runtime.llama_api import lib
from urial_local.runtime.native_tokenizer import NativeTokenizer

Ids = npt.NDArray[np.int32]
_BLANKS = " \t\n\v\f\r"  # what llama.cpp's tokens strip beside them, and nothing else
_KINDS: int = (
    lib.LLAMA_TOKEN_ATTR_UNKNOWN
    | lib.LLAMA_TOKEN_ATTR_UNUSED
    | lib.LLAMA_TOKEN_ATTR_NORMAL
    | lib.LLAMA_TOKEN_ATTR_CONTROL
    | lib.LLAMA_TOKEN_ATTR_USER_DEFINED
    | lib.LLAMA_TOKEN_ATTR_BYTE
)


class Vocabulary:
    """Belongs to an open model and is valid as long as it is."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.size: int = lib.llama_vocab_n_tokens(handle)
        self.type: int = lib.llama_vocab_type(handle)
        self.bos: int = lib.llama_vocab_bos(handle)
        self.eos: int = lib.llama_vocab_eos(handle)
        eot: int = lib.llama_vocab_eot(handle)
        self.end_of_turn = eot if eot >= 0 else self.eos  # what closes an answer in a chat
        self.add_bos = bool(lib.llama_vocab_get_add_bos(handle)) and self.bos >= 0
        # Tokens that a text may have at most, where it is known: longer ones are refused early.
        self.most: int | None = None
        self._pieces: dict[int, bytes] = {}
        self._native = NativeTokenizer(handle, self.text)

    def text(self, token: int) -> str:
        """The token as the vocabulary writes it, or an empty string for no token (-1)."""
        if not 0 <= token < self.size:
            return ""
        raw: bytes = lib.llama_vocab_get_text(self._handle, token)
        return raw.decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for in a text; none for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(512)
            n = lib.llama_token_to_piece(self._handle, token, buffer, 512, 0, False)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = lib.llama_token_to_piece(self._handle, token, buffer, -n, 0, False)
            piece = self._pieces[token] = buffer.raw[: max(n, 0)]
        return piece

    def count(self, text: str) -> int:
        """Tokens of a text. Raises TokenizeError, or ContextOverflow for one that is too long."""
        return len(self.tokenize(text))

    def is_end(self, token: int) -> bool:
        """Whether the model ends its text with this token: EOS, end of turn, or BOS, since a base
        model that begins its next document has ended this one."""
        return token == self.bos or bool(lib.llama_vocab_is_eog(self._handle, token))

    def kind(self, token: int) -> int:
        """The token's type, as llama.cpp's attributes have it."""
        return int(lib.llama_vocab_get_attr(self._handle, token)) & _KINDS

    def is_special(self, token: int) -> bool:
        """Whether no text is made of this token: neither normal nor a byte, or an end."""
        plain = lib.LLAMA_TOKEN_ATTR_NORMAL | lib.LLAMA_TOKEN_ATTR_BYTE
        return not self.kind(token) & int(plain) or self.is_end(token)

    @cached_property
    def controls(self) -> dict[int, str]:
        """All control tokens with their texts."""
        return {
            t: self.text(t)
            for t in range(self.size)
            if lib.llama_vocab_is_control(self._handle, t)
            or lib.llama_vocab_is_eog(self._handle, t)
        }

    @cached_property
    def _names(self) -> Names:
        return Names(self.controls.values())

    def detokenize(self, tokens: Ids | list[int]) -> str:
        return b"".join(self.piece(int(t)) for t in tokens).decode("utf-8", "replace")

    def tokenize(
        self,
        text: str,
        *,
        parse_special: bool = False,
        literals: Mapping[str, str] | None = None,
        any_length: bool = False,
    ) -> Ids:
        """Token ids of a whole prompt, int32 [n], with BOS exactly once where the model wants it.

        Text never becomes control tokens unless `parse_special`; then the texts of control tokens
        do, except where `literals` maps a placeholder in `text` to what really stands there.
        Raises TokenizeError for a character that the vocabulary cannot express, and
        ContextOverflow for a text that cannot have as few as `most` tokens, unless `any_length`.
        """
        ids: list[int] = []
        for token, fragment in self._fragments(text) if parse_special else [(None, text)]:
            if token is not None:
                ids.append(token)
                continue
            most = None if any_length else self.most
            ids += self._plain(restore(fragment, literals or {}), most)
        if self.add_bos and ids[:1] != [self.bos]:
            ids.insert(0, self.bos)
        return np.asarray(ids, np.int32)

    def continuation(
        self,
        prompt: str,
        answer: str,
        *,
        parse_special: bool = False,
        literals: Mapping[str, str] | None = None,
    ) -> Ids:
        """Token ids of an answer as it stands after a prompt, int32 [n]. Text in the answer never
        becomes control tokens; for the prompt, the options are those of `tokenize`.

        The two are tokenised together and the prompt's own tokens taken off, so that the answer's
        first word gets the token it has in a text. Where the border falls inside a token, the
        answer is tokenised alone.
        """
        known = dict(literals or {})
        hidden = self._names.hide(answer, known) if parse_special else answer
        alone = self.tokenize(prompt, parse_special=parse_special, literals=known)
        whole = self.tokenize(prompt + hidden, parse_special=parse_special, literals=known)
        if len(whole) >= len(alone) and (whole[: len(alone)] == alone).all():
            return whole[len(alone) :]
        ids = self.tokenize(answer)
        return ids[1:] if self.add_bos else ids

    def label(self, token: int) -> str:
        """A token for a reader: its text, the name of a control token, or its bytes in hex."""
        piece = self.piece(token)
        if not piece:
            return self.text(token)
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError:
            return f"<{piece.hex(' ').upper()}>"

    def _fragments(self, text: str) -> list[tuple[int | None, str]]:
        """Splits at control tokens the way llama.cpp's own tokeniser does before it tokenises."""
        named = {name: token for token, name in self.controls.items() if name}
        parts: list[tuple[int | None, str]] = []
        at = 0
        strip = False
        for start, name in self._names.find(text):
            token = named[name]
            attributes = lib.llama_vocab_get_attr(self._handle, token)
            before = text[at:start]
            before = before.lstrip(_BLANKS) if strip else before
            if attributes & lib.LLAMA_TOKEN_ATTR_LSTRIP:
                before = before.rstrip(_BLANKS)
            if before:
                parts.append((None, before))
            parts.append((token, name))
            at, strip = start + len(name), bool(attributes & lib.LLAMA_TOKEN_ATTR_RSTRIP)
        rest = text[at:].lstrip(_BLANKS) if strip else text[at:]
        return [*parts, (None, rest)] if rest else parts

    def _plain(self, text: str, most: int | None) -> list[int]:
        if not text:
            return []
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizeError(
                f"The text holds a lone surrogate (at {error.start:,}), which is not valid Unicode."
            ) from None
        self._refuse_unknown(text)
        return self._native.ids(text, most)

    def _refuse_unknown(self, text: str) -> None:
        # Without byte tokens, llama.cpp throws a C++ exception that ends the process.
        if self._single_characters is None:
            return
        unknown = sorted(set(text.replace(" ", "▁")) - self._single_characters)
        if unknown:
            shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5])
            raise TokenizeError(
                f"This model's vocabulary cannot express {shown}, and it has no byte tokens to"
                " spell it with.",
                "Rephrase without it, or use a model whose vocabulary has byte fallback.",
            )

    @cached_property
    def _single_characters(self) -> frozenset[str] | None:
        """Characters that a vocabulary without byte tokens knows; None where every text is fine."""
        if self.type not in (lib.LLAMA_VOCAB_TYPE_SPM, lib.LLAMA_VOCAB_TYPE_UGM):
            return None
        texts = {self.text(t) for t in range(self.size)}
        if all(f"<0x{byte:02X}>" in texts for byte in range(256)):
            return None
        # What byte tokens there are spell ASCII; beyond it a character needs several.
        ascii_bytes = {chr(b) for b in range(128) if f"<0x{b:02X}>" in texts}
        return frozenset({t for t in texts if len(t) == 1} | ascii_bytes)
