"""A notebook as a script: each part between two `# %%` is a cell.

It uses the bundled 8 MB demo pair. Name a model of your own in MODEL, ALIGNED and JUDGE.
"""

# %% A model, plainly and under a prompt
import urial_local as ul

MODEL, ALIGNED, JUDGE = "demo", "demo-aligned", "demo-aligned"
QUESTIONS = ["Where can I find a fox?", "How do I make soup?", "Why do birds sing?"]

assistant = ul.load(MODEL, parallel=3)
plain = assistant.using("zero-shot", max_tokens=60)
print("plainly:     ", plain.complete(QUESTIONS[0]).text.replace("\n", " ")[:60])
print("under URIAL: ", assistant.complete(QUESTIONS[0]).text.replace("\n", " ")[:60])

# %% What the model saw
print(assistant.render(QUESTIONS[0]).text[-120:])

# %% Several questions at once, over one shared prefix
for question, answer in zip(QUESTIONS, assistant.map(QUESTIONS), strict=True):
    print(f"{question:<26} {len(answer.tokens):>3} tokens, {answer.finish_reason}")

# %% What else was likely
done = assistant.complete(QUESTIONS[0], top_logprobs=3)
vocab = assistant.model.vocab
for top in done.top[:3]:
    others = ", ".join(
        f"{vocab.label(i)!r} {p:.2f}" for i, p in zip(top.ids, top.logprobs, strict=True)
    )
    print(f"{vocab.label(top.token)!r}: {others}")
assistant.close()

# %% How far base and aligned model are apart
shift = ul.shift(QUESTIONS, base=MODEL, aligned=ALIGNED)
for context in shift.contexts:
    found = shift[context]
    print(f"{context:<12} shifted {found.shifted.share:.1%}, mean KL {found.kl.mean:.3f} nats")

# %% Judged by a model (the demo judge is a stand-in: it has not learnt to judge)
run = ul.generate(QUESTIONS, MODEL, parallel=3)
scores = ul.judge(run, by=JUDGE)
for aspect, mean in scores.mean.items():
    print(f"{aspect:<12} {mean:.2f}")
