"""The models of a server: each with an engine, what scores prompts, and the prompts it is asked
under. A pair's two lanes are stepped by one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from urial_local.base.errors import PromptError, UrialError
from urial_local.prompting.library import load_prompt, prompt_files
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_scorer
from urial_local.runtime.prompt_scores import PromptScorer
from urial_local.tasks.guide import GuidePlan, GuidePrompts, opened_guide
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompt_choice import ANSWER_ROOM, PromptChoice
from urial_local.tasks.prompted import PromptedModel, answer_limit, recommended, try_prompt


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What is known of a lane before weights are loaded."""

    name: str
    file: ModelFile
    choice: PromptChoice
    runtime: RuntimeOptions
    exact: bool = False
    markers: MarkerPolicy = "escape"
    library: Mapping[str, Prompt] = field(default_factory=dict)
    guide: GuidePlan | None = None


def usable_prompts(file: ModelFile) -> dict[str, Prompt]:
    """The prompts of the library that this model can be asked under at all, by name."""
    found = {}
    for name in sorted(prompt_files()):
        try:
            prompt = load_prompt(name)
            try_prompt(prompt, file.chat_template)
        except PromptError:
            continue  # a file of the user's own may be wrong; `prompts lint` says how
        found[name] = prompt
    return found


class Lane:
    """One model, open."""

    guide: GuidePrompts | None = None  # what the engine's guide sees, where there is one

    def __init__(self, plan: LanePlan, model: Model, engine: Engine) -> None:
        self.name, self.plan, self.model, self.engine = plan.name, plan, model, engine
        count = model.vocab.count
        fitting = plan.choice.fitting(count, engine.ctx_size)
        (self.default,) = fitting.candidates
        self.remark = fitting.reason
        self.prompts = {name: prompt for name, prompt in plan.library.items() if self._fits(prompt)}
        self.prompts[self.default.name] = self.default
        self._askers: dict[str, PromptedModel] = {}
        self._scorer: PromptScorer | None = None
        self._close: Callable[[], None] = lambda: None
        self.opened = int(time.time())

    def _fits(self, prompt: Prompt) -> bool:
        try:
            used = self.model.vocab.count(prompt.prefix())
        except UrialError:
            return False
        return used + ANSWER_ROOM <= self.engine.ctx_size

    @property
    def ctx_size(self) -> int:
        return self.engine.ctx_size

    def asker(self, name: str = "") -> PromptedModel:
        """The model under a prompt that fits; its default without a name."""
        name = name or self.default.name
        if name not in self._askers:
            self._askers[name] = self.under(self.prompts[name])
        return self._askers[name]

    def under(
        self, prompt: Prompt, changed: Callable[[PromptedModel], Prompt] | None = None
    ) -> PromptedModel:
        """The model under any prompt. `changed`: see GuidePrompts.beside."""
        return PromptedModel(
            self.model,
            prompt,
            sampling=recommended(prompt, {}),
            max_tokens=answer_limit(prompt, None),
            markers=self.plan.markers,
            guide=self.guide.beside(prompt, changed) if self.guide else None,
        )

    def scorer(self) -> PromptScorer:
        """Opened when it is needed first: it takes memory of its own. Engine thread only."""
        if self._scorer is None:
            self._scorer, self._close = open_scorer(
                self.model, self.ctx_size, self.plan.runtime, self.plan.exact
            )
        return self._scorer

    def close(self) -> None:
        self._close()


@contextmanager
def open_lanes(plans: Sequence[LanePlan]) -> Iterator[list[Lane]]:
    """Load the weights of all. Raises ModelError, or UsageError for options out of range."""
    with ExitStack() as stack:
        lanes = []
        for plan in plans:
            model, engine = stack.enter_context(plan.file.open(plan.runtime))
            lane = Lane(plan, model, engine)
            stack.callback(lane.close)
            lane.guide = stack.enter_context(
                opened_guide(plan.guide, model, engine, lane.default, plan.runtime, plan.markers)
            )
            lanes.append(lane)
        yield lanes


def runtime_of(runtime: RuntimeOptions, parallel: int, exact: bool) -> RuntimeOptions:
    """One row at a time has no neighbours, so its numbers are always the same."""
    return replace(runtime, parallel=1 if exact else parallel)
