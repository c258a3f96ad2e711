"""The chat loop: reads lines, runs slash commands, shows answers as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import click

from urial_local.base.errors import Interrupted, PromptError, UrialError, UsageError, near
from urial_local.base.paths import state_dir
from urial_local.cli.session import Session, emit, note
from urial_local.prompting.history import history_json, read_history
from urial_local.prompting.library import load_prompt
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.chat import Conversation

SETTINGS = {  # what /set knows: the field of Sampling and how to read it
    "temp": ("temperature", float),
    "top-k": ("top_k", int),
    "top-p": ("top_p", float),
    "min-p": ("min_p", float),
    "repeat-penalty": ("repeat_penalty", float),
    "penalty-scope": ("penalty_scope", str),
    "seed": ("seed", int),
    "max-tokens": ("", int),
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
            "help": lambda _: click.echo(HELP),
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
        for number, data in enumerate(lines, 1):
            try:
                line = data.decode("utf-8").rstrip("\r\n")
                while line.startswith(QUOTES) and not _closed(line):
                    more = next(lines, None)
                    if more is None:
                        raise UsageError('The question that begins with """ has no end.')
                    line += "\n" + more.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                self.complain(UsageError(f"Line {number} of standard input is not valid UTF-8."))
                ok = False
                continue
            except UsageError as error:
                self.complain(error)
                return False
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
            self.complain(error)
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

    def complain(self, error: UrialError) -> None:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)

    # --- slash commands ------------------------------------------------------------------------

    def command(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        run = self._commands.get(name)
        if run is None:
            raise UsageError(f"There is no command /{name}.", near(name, [*self._commands, "bye"]))
        run(rest.strip())

    def undo(self, _: str) -> None:
        turn = self.conversation.undo()
        note(f"Took back: {turn.query}" if turn else "There is nothing to take back.")

    def retry(self, _: str) -> None:
        turn = self.conversation.undo()
        question = turn.query if turn else self._last_question
        if not question:
            raise UsageError("There is no question to retry yet.")
        asker = self.session.asker
        asker.sampling = replace(asker.sampling, seed=asker.sampling.seed + 1)
        self.answer(question)

    def prompt(self, name: str) -> None:
        asker = self.session.asker
        if name:
            asker.prompt = load_prompt(name)
        note(f"Prompt {asker.prompt.name!r}: {asker.prompt.description}")

    def set(self, rest: str) -> None:
        key, _, text = rest.partition(" ")
        if key not in SETTINGS:
            raise UsageError(f"/set does not know {key!r}.", near(key, list(SETTINGS)))
        field, kind = SETTINGS[key]
        try:
            value = kind(text.strip())
        except ValueError:
            raise UsageError(f"/set {key} takes a number, not {text!r}.") from None
        asker = self.session.asker
        if field:
            asker.sampling = replace(asker.sampling, **{field: value})
        else:
            asker.max_tokens = int(value)

    def show(self, what: str) -> None:
        asker = self.session.asker
        if what == "history":
            for turn in self.conversation.turns:
                emit(f"> {turn.query}\n{turn.answer}\n")
        elif what == "settings":
            for key, (field, _) in SETTINGS.items():
                value = getattr(asker.sampling, field) if field else asker.max_tokens
                click.echo(f"{key:<15} {value}")
        elif what in ("", "prompt"):
            emit(asker.prompt.prefix() + "\n")
        else:
            raise UsageError(f"/show does not know {what!r}.", "Known: prompt, settings, history.")

    def raw(self, text: str) -> None:
        emit(self.conversation.pending(unquote(text) or self._last_question or "…").text + "\n")

    def save(self, name: str) -> None:
        if not name:
            raise UsageError("/save needs a file's name.")
        about = {"model": self.session.model.name, "prompt": self.session.asker.prompt.name}
        path = Path(name).expanduser()
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(history_json(self.conversation.turns, **about), "utf-8")
            part.replace(path)
        except OSError as error:
            raise UrialError(f"{name} could not be written: {error.strerror}.") from None
        note(f"Saved {len(self.conversation.turns)} turns to {name}.")

    def load(self, name: str) -> None:
        if not name:
            raise PromptError("/load needs a file's name.")
        self.conversation.clear()
        self.conversation.turns = read_history(Path(name).expanduser())
        note(f"Loaded {len(self.conversation.turns)} turns from {name}.")


def _closed(line: str) -> bool:
    return len(line) >= 2 * len(QUOTES) and line.rstrip().endswith(QUOTES)


def unquote(line: str) -> str:
    '''The question without the """ that held its lines together.'''
    if line.startswith(QUOTES) and _closed(line):
        return line.rstrip()[len(QUOTES) : -len(QUOTES)].strip("\n")
    return line
