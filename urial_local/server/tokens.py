"""Text to ids and back, as llama-server and vLLM spell it, and what lm-evaluation-harness asks of a
tokenizer. A text's control tokens are read as such: who sends one means it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from urial_local.base.errors import UrialError
from urial_local.runtime.vocabulary import Vocabulary
from urial_local.server.body import fields_of
from urial_local.server.errors import told, wrong
from urial_local.server.fields import Fields
from urial_local.server.responses import Json
from urial_local.server.state import State

MAX_IDS = 1 << 22  # more than a body can hold


class Tokens:
    """The handlers, over one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/tokenizer_info", self.info),
        ]

    async def tokenize(self, request: Request) -> Response:
        return await self._reply(request, self._tokenized)

    async def detokenize(self, request: Request) -> Response:
        return await self._reply(request, self._detokenized)

    async def info(self, request: Request) -> Response:
        self._state.check_ready()
        lane, _ = self._state.named(request.query_params.get("model", ""))
        vocab = lane.model.vocab
        return Json(
            {
                "eos_token": vocab.text(vocab.eos) or None,
                "bos_token": vocab.text(vocab.bos) or None,
                "pad_token": None,
                "chat_template": lane.model.chat_template or None,
                "add_bos_token": vocab.add_bos,
                "vocab_size": vocab.size,
                "model_max_length": lane.ctx_size,
                "tokenizer_class": "GGUF",
            }
        )

    async def _reply(self, request: Request, make: Callable[[Fields], dict[str, Any]]) -> Response:
        fields = await fields_of(request)
        self._state.check_ready()
        return Json(await self._state.prepared(lambda: make(fields)))

    def _tokenized(self, fields: Fields) -> dict[str, Any]:
        lane, _ = self._state.named(fields.text("model"))
        name = next((name for name in ("prompt", "content") if fields.has(name)), None)
        if name is None:
            raise wrong("The text to tokenise is missing: prompt, or content.", "prompt")
        # vLLM adds BOS unless told otherwise, llama-server if told so.
        special = fields.get("add_special_tokens" if name == "prompt" else "add_special")
        adds = special if isinstance(special, bool) else name == "prompt"
        if fields.has("add_special_tokens"):
            adds = fields.flag("add_special_tokens")
        try:
            tokens = ids_of(lane.model.vocab, fields.text(name), adds)
        except UrialError as error:
            raise told(error, name) from None
        return {"tokens": tokens, "count": len(tokens), "max_model_len": lane.ctx_size}

    def _detokenized(self, fields: Fields) -> dict[str, Any]:
        lane, _ = self._state.named(fields.text("model"))
        vocab = lane.model.vocab
        ids = fields.ids("tokens", MAX_IDS, vocab.size)
        pieces = [vocab.piece(token) or vocab.text(token).encode() for token in ids]
        text = b"".join(pieces).decode("utf-8", "replace")
        return {"prompt": text, "content": text}


def ids_of(vocab: Vocabulary, text: str, add_bos: bool) -> list[int]:
    """The ids of a text of any length. `add_bos`: as the model wants it."""
    ids: list[int] = vocab.tokenize(text, parse_special=True, any_length=True).tolist()
    added = vocab.add_bos and not text.startswith(vocab.text(vocab.bos))
    return ids[1:] if added and not add_bos else ids
