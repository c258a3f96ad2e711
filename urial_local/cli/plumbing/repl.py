"""The chat loop: reads lines, runs slash commands, shows answers as they arrive."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import Interrupted, UrialError, UsageError, near
from urial_local.base.files import replacing
from urial_local.base.paths import state_dir
from urial_local.base.terminal import printable
from urial_local.cli.plumbing.guiding import tell_about_guide
from urial_local.cli.plumbing.session import SAMPLING, Session
from urial_local.cli.plumbing.terminal import complain, emit, note, say
from urial_local.prompting.history import history_json, read_history, was_saved
from urial_local.prompting.library import load_prompt, prompt_files
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
/save FILE         keep the conversation as JSON;  /load FILE  continues one
/bye               quit (as does Ctrl-D)
\"\"\"                alone on a line, begins and ends a question of several lines
//text             a question that begins with a slash"""
QUOTES = '"""'


class Repl:
    """One session at the terminal, or one pipe.

    The lines of a pipe may be somebody else's dataset, so that they neither read nor write files
    unless `file_commands` says so.
    """

    def __init__(
        self, session: Session, conversation: Conversation, file_commands: bool = False
    ) -> None:
        self.session, self.conversation = session, conversation
        self._file_commands = file_commands
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

        from urial_local.cli.plumbing.chat_history import TypedLines

        self._interactive = True
        history = TypedLines(state_dir() / "chat_history")
        reader: PromptSession[str] = PromptSession(history=history, bottom_toolbar=self.status)
        asker = self.session.asker
        name = self.session.assistant.model.name
        note(f"{name}, prompt {asker.prompt.name!r}. /help lists commands.")
        while True:
            if trouble := history.trouble():
                note(trouble)
            try:
                line = reader.prompt("> ")
                while not closed(line.split("\n")):
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
            pieces = [data.rstrip(b"\r\n")]
            while not closed([pieces[0].decode("latin-1"), *_last(pieces)]):
                more = next(lines, None)
                if more is None:
                    complain('The question that begins with """ has no end.', f"See line {first}.")
                    return False
                number += 1
                pieces.append(more.rstrip(b"\r\n"))
            block = b"\n".join(pieces)
            try:
                line = block.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = first + block[: error.start].count(b"\n")
                complain(f"Line {bad} of standard input is not valid UTF-8; it is left out.")
                ok = False
                continue
            if "\0" in line:
                complain(f"Line {first} of standard input holds a NUL; it is left out.")
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
                emit(text, self.session.show_guide and talk.guided)
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
        if talk.last is not None and (guide := self.session.assistant.guide):
            tell_about_guide(talk.last.guidance, guide.plan)
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
        if not self._interactive and not self._file_commands and _touches_files(name, rest.strip()):
            raise UsageError(
                f"Lines of a pipe read and write no files, so /{name} was left out.",
                "--file-commands allows it; // at the start of the line asks it as a question.",
            )
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
            self.session.use(load_prompt(name, self.session.frame))
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
        asker, session = self.session.asker, self.session
        field = SAMPLING.get(key.replace("-", "_"), "max_tokens")
        if field != "max_tokens":
            asker.sampling = replace(asker.sampling, **{field: value})
        elif value == 0 or not -1 <= value <= limits.TOKENS:
            raise UsageError(
                f"/set max-tokens takes a number from 1 to {limits.TOKENS:,}, or -1 for no limit."
            )
        else:
            asker.max_tokens = value
        session.chosen = session.chosen.changed(**{field: value})  # also for a later prompt

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
        about = {
            "model": self.session.assistant.model.name,
            "prompt": self.session.asker.prompt.name,
        }
        path = _path(name, "/save")
        if os.path.isfile(path) and not was_saved(path) and not self._may_replace(path):
            raise UrialError(
                f"{path} is not a saved conversation, so it was left as it is.",
                "Choose another name, or remove it first.",
            )
        write_whole(path, history_json(self.conversation.turns, **about))
        note(f"Saved {len(self.conversation.turns)} turns to {name}.")

    def _may_replace(self, path: Path) -> bool:
        """Ask the person at the terminal; nobody is there to be asked in a pipe."""
        if not self._interactive:
            return False
        try:
            return click.confirm(
                f"{printable(str(path))} is not a saved conversation. Replace it?", err=True
            )
        except click.Abort:  # Ctrl-C or Ctrl-D
            return False

    def load(self, name: str) -> None:
        turns = read_history(_path(name, "/load"))
        self.conversation.clear()
        self.conversation.turns = turns
        note(f"Loaded {len(turns)} turns from {name}.")


def _path(name: str, command: str) -> Path:
    if not name:
        raise UsageError(f"{command} needs a file name.", f"For instance: {command} talk.json")
    try:
        path = Path(name).expanduser()
        if path.is_symlink() and not path.exists():
            raise UsageError(f"{name} is a link that leads to no file.")
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name!r} is not a file name: {error}.") from None


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises UrialError, and leaves what was there."""
    try:
        with replacing(path) as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UrialError(
            f"{path} could not be written: {reason}.", "Choose another place with /save FILE."
        ) from None


def _touches_files(command: str, rest: str) -> bool:
    """Whether a slash command reads or writes a file that its line names."""
    if command == "prompt":
        return rest not in prompt_files() and ("/" in rest or os.path.lexists(rest))
    return command in ("save", "load")


def closed(lines: Sequence[str]) -> bool:
    '''Whether a question, of which the first and the last line are looked at, is whole.

    One that begins with """ alone on its line ends with such a line, since code has docstrings;
    one that begins with """ and text ends with the first line that ends with """.
    '''
    first, last = lines[0], lines[-1].rstrip()
    if not first.startswith(QUOTES):
        return True
    if first.rstrip() == QUOTES:
        return len(lines) > 1 and last == QUOTES
    return last.endswith(QUOTES) and (len(lines) > 1 or len(last) >= 2 * len(QUOTES))


def _last(pieces: Sequence[bytes]) -> list[str]:
    """The last line, where there is more than the first."""
    return [piece.decode("latin-1") for piece in pieces[1:][-1:]]


def unquote(line: str) -> str:
    '''The question without the """ that held its lines together.'''
    if line.startswith(QUOTES) and closed(line.split("\n")):
        inside = line.rstrip()[len(QUOTES) : -len(QUOTES)]
        first, _, rest = inside.partition("\n")
        return (rest if not first.strip() else inside).strip("\n")
    return line
