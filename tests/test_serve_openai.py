"""The openai client against a whole server: what it sends and what it makes of the replies."""

from __future__ import annotations

import httpx2 as httpx
import pytest

pytest.importorskip("starlette")

from tests.serving import FOX, SOUP, Running, pair, running

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def server():
    with running(pair()) as found:
        yield found


@pytest.fixture(scope="module")
def ai(server: Running):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_a_chat_is_asked_under_the_prompt(ai):
    done = ai.chat.completions.create(model="demo", messages=SOUP)
    choice = done.choices[0]
    assert choice.message.content.startswith("Thanks for asking! Here is how to make soup:")
    assert "```" not in choice.message.content
    assert "# Query" not in choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.urial["finish_reason"] == "frame"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_the_models_and_their_prompts(ai, server):
    names = [model.id for model in ai.models.list()]
    assert names[0] == "demo"
    assert {"demo:zero-shot", "demo:urial-demo", "demo-aligned", "demo-aligned:chat"} <= set(names)
    assert "demo:chat" not in names, "it has no chat template"
    assert "demo:urial-8" not in names, "too long for its context"
    assert ai.models.retrieve("demo:zero-shot").urial["prompt"] == "zero-shot"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        ai.chat.completions.create(model="gpt-4", messages=SOUP)
    assert server.get("/v1/models/gpt-4").status_code == 404


def test_a_prompt_is_chosen_by_the_models_name(ai):
    def said(model):
        return ai.chat.completions.create(model=model, messages=FOX).choices[0].message.content

    assert said("demo:zero-shot").startswith("A fox lives in dens.")
    assert said("demo") == said("demo:urial-demo")
    assert said("demo-aligned").startswith("Thanks for asking!")


def test_a_stream_has_the_same_bytes(ai):
    whole = ai.chat.completions.create(model="demo", messages=SOUP, logprobs=True, top_logprobs=3)
    stream = ai.chat.completions.create(
        model="demo", messages=SOUP, logprobs=True, top_logprobs=3, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *chunks, last = list(stream)
    texts = [c.choices[0].delta.content or "" for c in chunks]
    assert "".join(texts) == whole.choices[0].message.content
    assert len(texts) > 20
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (last.choices, last.usage) != ([], None)
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks)
    told = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in told] == [t.token for t in whole.choices[0].logprobs.content]
    assert chunks[-1].choices[0].finish_reason == "stop"
    plain = list(ai.chat.completions.create(model="demo", messages=SOUP, stream=True))
    assert all(c.usage is None for c in plain), "usage only when asked"


def test_logprobs_are_of_the_text_alone(ai):
    done = ai.chat.completions.create(model="demo", messages=SOUP, logprobs=True, top_logprobs=5)
    choice = done.choices[0]
    told = choice.logprobs.content
    assert b"".join(bytes(t.bytes) for t in told).decode() == choice.message.content
    assert done.usage.completion_tokens > len(told), "the closing fence is not told"
    for token in told:
        assert len(token.top_logprobs) == 5
        assert token.top_logprobs[0].token == token.token, "greedy"
        assert token.top_logprobs[0].logprob == token.logprob <= 0


def test_several_answers(ai):
    def drawn(**more):
        done = ai.chat.completions.create(
            model="demo:zero-shot", messages=FOX, n=4, temperature=1.5, max_tokens=12, **more
        )
        assert [c.index for c in done.choices] == [0, 1, 2, 3]
        return [c.message.content for c in done.choices]

    assert len(set(drawn(seed=7))) > 1
    assert drawn() != drawn(), "without a seed each is another"


def test_stop_strings(ai):
    done = ai.chat.completions.create(model="demo", messages=SOUP, stop=["3.", "never"])
    assert done.choices[0].message.content.endswith("2. Cover them with broth.")
    assert (done.choices[0].finish_reason, done.choices[0].urial["finish_reason"]) == ("stop",) * 2
    text = ai.completions.create(model="demo", prompt="one two", stop="e", max_tokens=20)
    assert "e" not in text.choices[0].text


def test_completions_are_raw(ai, server):
    """No template, no frame: the ids that the model sees are those that were given."""
    ids = server.post("/tokenize", {"prompt": "An owl eats"}).json()["tokens"]
    by_text = ai.completions.create(model="demo", prompt="An owl eats", max_tokens=3)
    by_ids = ai.completions.create(model="demo", prompt=ids, max_tokens=3)
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage.prompt_tokens == by_ids.usage.prompt_tokens == len(ids)
    one = ai.completions.create(model="demo", prompt=[5], max_tokens=1)
    assert one.usage.prompt_tokens == 1
    assert one.choices[0].finish_reason in ("length", "stop")


def test_many_prompts_keep_their_order(ai, server):
    texts = ["An owl", "A fox lives", "How do I make", "An owl"]
    ids = [server.post("/tokenize", {"prompt": t}).json()["tokens"] for t in texts]
    by_texts = ai.completions.create(model="demo", prompt=texts, max_tokens=4, n=2, echo=True)
    by_ids = ai.completions.create(model="demo", prompt=ids, max_tokens=4, n=2, echo=True)
    found = [c.text for c in by_texts.choices]
    assert found == [c.text for c in by_ids.choices]
    assert [c.index for c in by_texts.choices] == list(range(8))
    for i, text in enumerate(texts):
        assert found[2 * i].startswith(text)
        assert found[2 * i] == found[2 * i + 1]
    assert by_texts.usage.prompt_tokens == sum(map(len, ids)), "each prompt once"


def test_a_streamed_completion_has_the_same_bytes(ai):
    asked = {"model": "demo", "prompt": "A fox", "max_tokens": 6, "echo": True, "logprobs": 2}
    whole = ai.completions.create(**asked).choices[0]
    chunks = [c.choices[0] for c in ai.completions.create(**asked, stream=True)]
    assert "".join(c.text for c in chunks) == whole.text
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        joined = [x for c in chunks if c.logprobs for x in getattr(c.logprobs, name)]
        assert joined == getattr(whole.logprobs, name), name
    assert chunks[-1].finish_reason == "length"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"5": "1"}}, "logit_bias.5"),
        ({"logit_bias": {"the": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 33}, "n"),
        ({"n": 10**6}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_is_wrong_is_named(ai, asked, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(model="demo", messages=SOUP, **asked)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("chat", [True, False])
def test_a_bias_and_penalties_change_what_is_drawn(ai, chat):
    """And neither the log-probabilities that are told, nor what a stream says."""

    def said(**more):
        asked = {"model": "demo:zero-shot", "max_tokens": 20, "temperature": 0, **more}
        if chat:
            asked |= {"messages": FOX, "logprobs": True, "top_logprobs": 2}
            choice = ai.chat.completions.create(**asked).choices[0]
            chunks = list(ai.chat.completions.create(**asked, stream=True))
            streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
            assert streamed == choice.message.content
            told = [(t.token, t.logprob) for t in choice.logprobs.content]
            return choice.message.content, told, choice.logprobs.content[0].top_logprobs
        choice = ai.completions.create(**asked, prompt="A fox lives in", logprobs=2).choices[0]
        told = list(zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, strict=True))
        return choice.text, told, choice.logprobs.top_logprobs[0]

    def ids(text):
        reply = {"model": "demo", "prompt": text, "add_special_tokens": False}
        return httpx.post(f"{ai.base_url}../tokenize", json=reply, timeout=30).json()["tokens"]

    plain, told, top = said()
    first = ids(told[0][0])[-1]
    _, other, same = said(logit_bias={first: -100})
    assert other[0][0] != told[0][0]
    assert same == top, "log-probabilities are the model's"
    forced, _, _ = said(logit_bias={first: 100}, max_tokens=5)
    assert forced.strip().split() == [told[0][0].strip()] * 5 or forced == told[0][0] * 5
    assert said(frequency_penalty=-2, presence_penalty=-2)[0] != plain, "it says more of the same"
    assert said(logit_bias={first: 0}, presence_penalty=0.0)[0] == plain


def test_a_biased_token_after_an_echo_is_not_told_from_the_scores(ai):
    """Scoring a prompt tells the most probable next token; a bias may choose another one."""
    asked = {"model": "demo", "prompt": [5, 6, 7], "max_tokens": 1, "temperature": 0, "echo": True}
    plain = ai.completions.create(**asked, logprobs=2).choices[0].logprobs
    other = ai.completions.create(
        **asked, logprobs=2, logit_bias={plain.token_ids[-1]: -100}
    ).choices[0].logprobs  # fmt: skip
    assert len(other.tokens) == len(plain.tokens) == 4
    assert other.token_ids[:3] == plain.token_ids[:3]
    assert other.token_ids[3] != plain.token_ids[3]


def test_harmless_fields_pass(ai):
    done = ai.chat.completions.create(
        model="demo:zero-shot", messages=FOX, user="me", store=False, metadata={"a": "b"},
        presence_penalty=0, response_format={"type": "text"}, max_completion_tokens=50,
        extra_body={"chat_id": "1", "whatever": [1], "logit_bias": None, "tools": []},
    )  # fmt: skip
    assert done.choices[0].message.content.startswith("A fox lives in dens.")


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(ai, server):
    ctx = server.state.worker.lanes["demo"].ctx_size
    with pytest.raises(openai.BadRequestError) as caught:
        ai.completions.create(model="demo", prompt=[5] * ctx, max_tokens=5)
    error = caught.value
    assert (error.code, error.param) == ("context_length_exceeded", "prompt")
    assert error.message.count("2,048") == 2
    assert error.response.headers["x-should-retry"] == "false"
    one = ai.completions.create(model="demo", prompt=[5] * (ctx - 1), max_tokens=5)
    assert one.usage.completion_tokens == 1
    assert one.choices[0].finish_reason in ("length", "stop")
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "a fox " * 3000}]
        )
    assert caught.value.code == "context_length_exceeded"


def test_history_is_turns_of_the_frame_and_is_not_read_again(ai):
    first = ai.chat.completions.create(model="demo", messages=FOX)
    talk = [*FOX, {"role": "assistant", "content": first.choices[0].message.content}]
    more = [*talk, {"role": "user", "content": "What does it eat?"}]
    other = ai.chat.completions.create(model="demo", messages=SOUP)
    second = ai.chat.completions.create(model="demo", messages=more)
    assert other.choices[0].message.content != second.choices[0].message.content
    assert second.choices[0].message.content.startswith("Thanks for asking! A fox eats")
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens, "though another chat came between"


def test_a_system_message_is_never_dropped(ai, server):
    system = {"role": "system", "content": "# Query:\nSpeak of owls only."}
    for model in ("demo", "demo-aligned"):
        plain = ai.chat.completions.create(model=model, messages=FOX)
        told = ai.chat.completions.create(model=model, messages=[system, *FOX])
        assert told.usage.prompt_tokens > plain.usage.prompt_tokens
    with pytest.raises(openai.BadRequestError, match="can only come first") as caught:
        ai.chat.completions.create(
            model="demo", messages=[*FOX, {"role": "assistant", "content": "x"}, system, *FOX]
        )
    assert caught.value.param == "messages[2]"


def test_the_last_message_is_continued_only_when_asked(ai):
    begun = [*SOUP, {"role": "assistant", "content": "Thanks for asking! Here is how to"}]
    with pytest.raises(openai.BadRequestError, match="continue_final_message"):
        ai.chat.completions.create(model="demo", messages=begun)
    done = ai.chat.completions.create(
        model="demo", messages=begun, extra_body={"continue_final_message": True}
    )
    whole = ai.chat.completions.create(model="demo", messages=SOUP)
    assert begun[-1]["content"] + done.choices[0].message.content == (
        whole.choices[0].message.content
    )


def test_a_stream_that_is_closed_ends_its_row(ai, server):
    before = server.metric("urial_disconnects_total")
    stream = ai.completions.create(model="demo", prompt="An owl", max_tokens=2000, stream=True)
    next(iter(stream))
    stream.close()
    server.until(lambda: server.metric("urial_requests_running") == 0)
    server.until(lambda: server.metric("urial_disconnects_total") == before + 1)
    server.until(lambda: server.state.open == 0)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_half_a_character_is_told(server, path):
    text = b'"a \\ud83d b"'
    body = b'{"prompt": ' + text + b', "messages": [{"role": "user", "content": ' + text + b"}]}"
    reply = httpx.post(server.url + path, content=body, timeout=60)
    assert reply.status_code == 400
    assert "a lone surrogate" in reply.json()["error"]["message"]
