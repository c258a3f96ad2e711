"""The chat loop: reads lines, runs slash commands, shows answers as they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from urial_local.base import limits
from urial_local.base.errors import Interrupted, UrialError, UsageError, near
from urial_local.base.paths import state_dir
from urial_local.cli.session import SAMPLING, Session
from urial_local.cli.terminal import complain, emit, note, say
from urial_local.prompting.history import history_json, read_history
from urial_local.prompting.library import load_prompt
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.chat import Conversation

SETTINGS: dict[str, Callable[[str], Any]] = {  # what /set knows, and how to read it
    "temp": float,
    "top-k": int,
    "top-p": float,
    "min-p": float,
    "repeat-penalty": float,
    "penalty-scope": str,
    "seed": int,
    "max-tokens": int,
}
HELP = """\
/help              this list
/clear             forget the conversation
/undo              take back the last turn
/retry             answer the last question again (with the next seed)
/prompt NAME       switch to another prompt; /prompt alone names the present one
/set KEY VALUE     temp, top-k, top-p, min-p, repeat-penalty, penalty-scope, seed, max-tokens
/show [prompt|settings|history]
/raw [TEXT]        exactly what the model would see for TEXT
/save FILE         keep the conversation as JSON;  /load FILE  goes on with one
/bye               quit (as does Ctrl-D)
\"\"\"                begins and ends a question of several lines
//text             a question that begins with a slash"""
QUOTES = '"""'


class Repl:
    """One session at the terminal, or one pipe."""

    def __init__(self, session: Session, conversation: Conversation) -> None:
        self.session, self.conversation = session, conversation
        self._last_question = ""
        self._interactive = False
        self._commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: say(HELP),
            "clear": lambda _: conversation.clear(),
            "undo": self.undo,
            "retry": self.retry,
            "prompt": self.prompt,
            "set": self.set,
            "show": self.show,
            "raw": self.raw,
            "save": self.save,
            "load": self.load,
        }

    # --- the two ways of reading ---------------------------------------------------------------

    def interact(self) -> bool:
        """Read from the terminal until /bye or Ctrl-D."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        self._interactive = True
        try:
            state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
            history: FileHistory | InMemoryHistory = FileHistory(str(state_dir() / "chat_history"))
        except OSError:
            history = InMemoryHistory()
        reader: PromptSession[str] = PromptSession(history=history, bottom_toolbar=self.status)
        asker = self.session.asker
        note(f"{self.session.model.name}, prompt {asker.prompt.name!r}. /help lists commands.")
        while True:
            try:
                line = reader.prompt("> ")
                while line.startswith(QUOTES) and not _closed(line):
                    line += "\n" + reader.prompt(". ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return True
            if line.strip() in ("/bye", "/quit", "/exit"):
                return True
            self.handle(line)

    def pipe(self, source: Iterable[bytes]) -> bool:
        """Every line is a question or a command. False when one of them failed."""
        ok = True
        lines = iter(source)
        number = 0
        for data in lines:
            number, first = number + 1, number + 1
            # The quotes are looked for in bytes, so that a bad byte does not tear a block apart.
            block = data.rstrip(b"\r\n")
            while block.startswith(QUOTES.encode()) and not _closed(block.decode("latin-1")):
                more = next(lines, None)
                if more is None:
                    complain('The question that begins with """ has no end.', f"See line {first}.")
                    return False
                number += 1
                block += b"\n" + more.rstrip(b"\r\n")
            try:
                line = block.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = first + block[: error.start].count(b"\n")
                complain(f"Line {bad} of standard input is not valid UTF-8; it is left out.")
                ok = False
                continue
            if line.strip() in ("/bye", "/quit", "/exit"):
                break
            ok = self.handle(line) and ok
        return ok

    def handle(self, line: str) -> bool:
        """One line: a command or a question. False when it failed, which was told."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                self.command(line)
            else:
                question = unquote(line.removeprefix("/") if line.startswith("//") else line)
                if question.strip():
                    self.answer(question)
        except UrialError as error:
            if isinstance(error, Interrupted):
                raise
            complain(error.message, error.hint)
            return False
        return True

    def answer(self, question: str) -> None:
        """Ask, and show the answer while it arrives."""
        self._last_question = question
        talk, status = self.conversation, self.session.status
        start = talk.start
        status.begin()
        try:
            for text in talk.ask(question):
                status.clear()
                emit(text)
        except (Aborted, KeyboardInterrupt):
            status.clear()
            emit("\n")
            if not self._interactive:
                raise Interrupted("Stopped.") from None
            note("Stopped; this turn is not kept in the conversation.")
            return
        emit("\n")
        if talk.last is not None and talk.last.finish_reason == "error":
            raise UrialError(talk.last.error)
        if talk.last is not None and talk.last.finish_reason in ("length", "context"):
            note(f"(cut off: {talk.last.finish_reason}; see --max-tokens and --ctx-size)")
        if talk.start > start:
            note(f"The context is nearly full: the oldest {talk.start} turns are no longer sent.")

    def status(self) -> str:
        """The bottom line."""
        talk = self.conversation
        rate = talk.last.tokens_per_second if talk.last else 0.0
        return (
            f" {self.session.asker.prompt.name}   {rate:.1f} tokens/s   "
            f"context {talk.context_used:,} of {self.session.engine.ctx_size:,}"
        )

    # --- slash commands ------------------------------------------------------------------------

    def command(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        run = self._commands.get(name)
        if run is None:
            raise UsageError(f"There is no command /{name}.", near(name, [*self._commands, "bye"]))
        run(rest.strip())

    def undo(self, _: str) -> None:
        turn = self.conversation.undo()
        turns = self.conversation.turns
        self._last_question = turns[-1].query if turns else ""
        note(f"Took back: {turn.query}" if turn else "There is nothing to take back.")

    def retry(self, _: str) -> None:
        """Answer the last question again; the old answer goes only when the new one is there."""
        if not self._last_question:
            raise UsageError("There is no question to retry yet.")
        talk, asker = self.conversation, self.session.asker
        answered = bool(talk.turns) and talk.turns[-1].query == self._last_question
        before = (list(talk.turns), talk.start)
        if answered:
            talk.undo()
        asker.sampling = replace(asker.sampling, seed=asker.sampling.seed + 1)
        count = len(talk.turns)
        try:
            self.answer(self._last_question)
        finally:
            if len(talk.turns) == count:
                talk.turns, talk.start = before

    def prompt(self, name: str) -> None:
        if name:
            self.session.use(load_prompt(name, self.session.chosen.get("frame")))
        prompt = self.session.asker.prompt
        note(f"Prompt {prompt.name!r}: {prompt.description}")

    def set(self, rest: str) -> None:
        key, _, text = rest.partition(" ")
        if key not in SETTINGS:
            raise UsageError(f"/set does not know {key!r}.", near(key, list(SETTINGS)))
        try:
            value = SETTINGS[key](text.strip())
        except ValueError:
            raise UsageError(f"/set {key} takes a number, not {text[:20]!r}.") from None
        asker, option = self.session.asker, key.replace("-", "_")
        if option in SAMPLING:
            asker.sampling = replace(asker.sampling, **{SAMPLING[option]: value})
        elif value == 0 or not -1 <= value <= limits.TOKENS:
            raise UsageError(
                f"/set max-tokens takes a number from 1 to {limits.TOKENS:,}, or -1 for no limit."
            )
        else:
            asker.max_tokens = value
        self.session.chosen[option] = value  # also for a prompt that is chosen later

    def show(self, what: str) -> None:
        asker = self.session.asker
        if what == "history":
            for turn in self.conversation.turns:
                emit(f"> {turn.query}\n{turn.answer}\n")
        elif what == "settings":
            for key in SETTINGS:
                field = SAMPLING.get(key.replace("-", "_"))
                value = getattr(asker.sampling, field) if field else asker.max_tokens
                say(f"{key:<15} {value}")
        elif what in ("", "prompt"):
            emit(asker.prompt.prefix() + "\n")
        else:
            raise UsageError(f"/show does not know {what!r}.", "Known: prompt, settings, history.")

    def raw(self, text: str) -> None:
        """What the model would see for TEXT now; without TEXT, what it saw last."""
        talk = self.conversation
        shown = talk.pending(unquote(text)).text if text else talk.seen
        if not shown:
            raise UsageError("Nothing was asked yet.", "/raw TEXT shows what would be asked.")
        emit(shown + "\n")

    def save(self, name: str) -> None:
        about = {"model": self.session.model.name, "prompt": self.session.asker.prompt.name}
        write_whole(_path(name, "/save"), history_json(self.conversation.turns, **about))
        note(f"Saved {len(self.conversation.turns)} turns to {name}.")

    def load(self, name: str) -> None:
        turns = read_history(_path(name, "/load"))
        self.conversation.clear()
        self.conversation.turns = turns
        note(f"Loaded {len(turns)} turns from {name}.")


def _path(name: str, command: str) -> Path:
    if not name:
        raise UsageError(f"{command} needs a file's name.", f"For instance: {command} talk.json")
    try:
        return Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name!r} is no file's name: {error}.") from None


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises UrialError, and leaves what was there."""
    part = path.with_name(path.name + ".part") if path.name else path
    try:
        if path.exists() and not path.is_file():
            raise UrialError(f"{path} is no ordinary file, so nothing is written there.")
        part.write_text(text, "utf-8")
        part.replace(path)
    except (OSError, ValueError) as error:
        if part != path:
            with contextlib.suppress(OSError):
                part.unlink()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UrialError(
            f"{path} could not be written: {reason}.", "Choose another place with /save FILE."
        ) from None


def _closed(line: str) -> bool:
    return len(line) >= 2 * len(QUOTES) and line.rstrip().endswith(QUOTES)


def unquote(line: str) -> str:
    '''The question without the """ that held its lines together.'''
    if line.startswith(QUOTES) and _closed(line):
        return line.rstrip()[len(QUOTES) : -len(QUOTES)].strip("\n")
    return line
