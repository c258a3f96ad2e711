"""The child process in which strangers' templates are rendered; started by sandbox.py as a script.

Reads one JSON request a line, writes one JSON reply a line. Imports nothing of this project, so
that it starts fast and has nothing worth reaching.
"""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_MEMORY = 512 << 20  # bytes of address space
MAX_TEXT = 1_000_000  # characters of one rendering


def limit_memory() -> None:
    # macOS accepts the limit and does not keep it; there the limits on time and output remain.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def refuse(message: str) -> NoReturn:
    """`raise_exception` in chat templates."""
    raise TemplateError(message)


class Generation(Extension):
    """`{% generation %}` marks what an assistant wrote, for those who train; here, its text."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    # The settings and functions that Hugging Face's transformers gives to chat templates.
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    env.filters["tojson"] = lambda value, indent=None, **_: json.dumps(
        value, indent=indent, ensure_ascii=False
    )
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda fmt: datetime.now().strftime(fmt)
    return env


def frame_environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(trim_blocks=True, keep_trailing_newline=True)


def render(request: dict[str, Any]) -> dict[str, str]:
    block = request["block"]
    try:
        template = (frame_environment() if block else environment()).from_string(request["source"])
        if block and block not in template.blocks:
            return {"error": f"it has no block {block!r}"}
        chunks = (
            template.blocks[block](template.new_context(request["context"]))
            if block
            else template.generate(request["context"])
        )
        text, size = [], 0
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_TEXT:
                return {"error": f"it writes more than {MAX_TEXT:,} characters"}
            text.append(chunk)
        return {"text": "".join(text)}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except RecursionError:
        return {"error": "it recurses without end"}
    except Exception as error:  # whatever a stranger's template raises is the answer
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}


def main() -> None:
    limit_memory()
    print('{"text": "ready"}', flush=True)
    for line in sys.stdin:
        print(json.dumps(render(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
