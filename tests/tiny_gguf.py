"""Writes tiny random-weight GGUF models, so that tests of the real runtime need no other files."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WORDS = 64  # tokens beyond bytes and specials
PLAIN_CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def _vocabulary(
    writer: gguf.GGUFWriter,
    special: dict[str, int] | None = None,
    extra: int = 0,
    swapped: tuple[int, int] | None = None,
    bpe: str = "",
) -> int:
    """A SentencePiece-like vocabulary: specials, all bytes, ASCII characters, some pairs.

    `special` tokens are control tokens unless another type is given. `bpe` is the pre-tokeniser of
    a vocabulary of merges. `extra` control tokens follow at the end, as in chat models; two ids
    may be `swapped`.
    """
    tokens: list[bytes] = [b"<unk>", b"<s>", b"</s>"]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    for name, kind in (special or {}).items():
        tokens.append(name.encode())
        types.append(gguf.TokenType(kind or gguf.TokenType.CONTROL))
    tokens += [f"<0x{b:02X}>".encode() for b in range(256)]
    types += [gguf.TokenType.BYTE] * 256
    pieces = ["▁", *(chr(c) for c in range(33, 127)), "\n"]
    pieces += [f"{a}{b}" for a in "thanei" for b in "theras"][:WORDS]
    pieces = [p for p in dict.fromkeys(pieces) if p not in (special or {})]
    tokens += [p.encode() for p in pieces]
    types += [gguf.TokenType.NORMAL] * len(pieces)
    while len(tokens) % 32:
        tokens.append(f"<pad{len(tokens)}>".encode())
        types.append(gguf.TokenType.UNUSED)
    for i in range(extra):
        tokens.append(f"<|extra{i}|>".encode())
        types.append(gguf.TokenType.CONTROL)
    if swapped:
        a, b = swapped
        tokens[a], tokens[b] = tokens[b], tokens[a]
    writer.add_tokenizer_model("gpt2" if bpe else "llama")
    writer.add_tokenizer_pre(bpe or "default")
    if bpe:
        writer.add_token_merges(["t h"])
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(len(tokens))])
    writer.add_token_types([int(t) for t in types])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    return len(tokens)


def _byte_pairs(writer: gguf.GGUFWriter) -> int:
    """A vocabulary as GPT-2's and Qwen's: all bytes, some pairs of them, one token that ends a
    text, and no BOS."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    space = letters[32]
    merges = ["t h", "i n", f"{space} th", f"{space} l", "e s", f"{space} f", "o w"]
    tokens = [letters[b] for b in range(256)]
    tokens += [pair.replace(" ", "") for pair in ["t h", "i n", f"{space} t", *merges[2:]]]
    merges.insert(2, f"{space} t")
    tokens = list(dict.fromkeys(tokens))
    types = [gguf.TokenType.NORMAL] * len(tokens)
    tokens.append("<|endoftext|>")
    types.append(gguf.TokenType.CONTROL)
    while len(tokens) % 32:
        tokens.append(f"<pad{len(tokens)}>")
        types.append(gguf.TokenType.UNUSED)
    end = tokens.index("<|endoftext|>")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_merges(merges)
    writer.add_token_list([t.encode() for t in tokens])
    writer.add_token_types([int(t) for t in types])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    return len(tokens)


def write_llama(
    path: Path,
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    context: int = 512,
    chat_template: str = "",
    special: dict[str, int] | None = None,
    endless: bool = False,
    extra: int = 0,
    swapped: tuple[int, int] | None = None,
    bpe: str = "",
    byte_pairs: bool = False,
    name: str = "tiny-random",
) -> Path:
    """A Llama with random weights in float32. An `endless` one never ends its text by itself, and
    writes visible characters only. `byte_pairs`: over bytes and merges of them, without BOS."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    if byte_pairs:
        n_vocab = _byte_pairs(writer)
    else:
        n_vocab = _vocabulary(writer, special, extra, swapped, bpe)
    ffn = 2 * width
    _add_shape(writer, context, width, layers, ffn)
    writer.add_vocab_size(n_vocab)
    if chat_template:
        writer.add_chat_template(chat_template)

    def tensor(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (rng.normal(size=shape) * scale).astype(np.float32))

    tensor("token_embd.weight", n_vocab, width, scale=1.0)
    head = (rng.normal(size=(n_vocab, width)) * 0.6).astype(np.float32)
    if endless:
        head[:259] = 0  # specials and bytes: a logit of 0 is never the largest of all
    writer.add_tensor("output.weight", head)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(width, np.float32))
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(width, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{i}.{name}.weight", width, width)
        tensor(f"blk.{i}.ffn_gate.weight", ffn, width)
        tensor(f"blk.{i}.ffn_up.weight", ffn, width)
        tensor(f"blk.{i}.ffn_down.weight", width, ffn)
    return _write(writer, path)


def _add_shape(writer: gguf.GGUFWriter, context: int, width: int, layers: int, ffn: int) -> None:
    heads = 4
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)


def write_mamba(path: Path, *, seed: int = 0, width: int = 64, layers: int = 2) -> Path:
    """A Mamba with random weights: a recurrent model, whose memory cannot be cut back."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("tiny-mamba")
    n_vocab = _vocabulary(writer)
    inner, state, conv, dt_rank = 2 * width, 16, 4, 8
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(layers)
    writer.add_ssm_conv_kernel(conv)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(dt_rank)
    writer.add_ssm_dt_b_c_rms(False)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_vocab)

    def tensor(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (rng.normal(size=shape) * scale).astype(np.float32))

    tensor("token_embd.weight", n_vocab, width, scale=1.0)
    tensor("output.weight", n_vocab, width, scale=0.6)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(width, np.float32))
        tensor(f"blk.{i}.ssm_in.weight", 2 * inner, width)
        tensor(f"blk.{i}.ssm_conv1d.weight", inner, conv)
        tensor(f"blk.{i}.ssm_conv1d.bias", inner)
        tensor(f"blk.{i}.ssm_x.weight", dt_rank + 2 * state, inner)
        tensor(f"blk.{i}.ssm_dt.weight", inner, dt_rank)
        tensor(f"blk.{i}.ssm_dt.bias", inner)
        writer.add_tensor(
            f"blk.{i}.ssm_a", -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1))
        )
        tensor(f"blk.{i}.ssm_d", inner)
        tensor(f"blk.{i}.ssm_out.weight", width, inner)
    return _write(writer, path)


def write_windowed(
    path: Path,
    *,
    seed: int = 0,
    width: int = 64,
    window: int = 32,
    layers: int = 6,
    kv_heads: int = 4,
    any_gains: bool = False,
) -> Path:
    """A Gemma 3 with random weights: all layers but each sixth attend to `window` tokens back.
    `any_gains`: those of norms are random, too, and the global layers turn by another base."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("tiny-windowed")
    n_vocab = _vocabulary(writer)
    heads, ffn = 4, 2 * width
    head_dim = width // heads
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_sliding_window(window)
    if any_gains:
        writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(n_vocab)

    def tensor(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (rng.normal(size=shape) * scale).astype(np.float32))

    def gain(name: str, n: int) -> None:
        values = rng.uniform(0.5, 1.5, n) if any_gains else np.ones(n)
        writer.add_tensor(name, values.astype(np.float32))

    tensor("token_embd.weight", n_vocab, width, scale=0.6)
    gain("output_norm.weight", width)
    for i in range(layers):
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            gain(f"blk.{i}.{name}.weight", width)
        for name in ("attn_q_norm", "attn_k_norm"):
            gain(f"blk.{i}.{name}.weight", head_dim)
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads), ("output", heads)):
            tensor(f"blk.{i}.attn_{name}.weight", rows * head_dim, width)
        tensor(f"blk.{i}.ffn_gate.weight", ffn, width)
        tensor(f"blk.{i}.ffn_up.weight", ffn, width)
        tensor(f"blk.{i}.ffn_down.weight", width, ffn)
    return _write(writer, path)


def write_hybrid(path: Path, *, seed: int = 0, width: int = 64) -> Path:
    """An LFM2 with random weights: a short convolution, whose state cannot be cut back, and a
    layer of attention."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "lfm2")
    writer.add_name("tiny-hybrid")
    n_vocab = _vocabulary(writer)
    heads, kv_heads, ffn = 4, [0, 2], 2 * width
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_uint32("lfm2.shortconv.l_cache", 3)
    writer.add_vocab_size(n_vocab)

    def tensor(name: str, *shape: int, scale: float = 0.3) -> None:
        writer.add_tensor(name, (rng.normal(size=shape) * scale).astype(np.float32))

    def ones(name: str, n: int) -> None:
        writer.add_tensor(name, np.ones(n, np.float32))

    tensor("token_embd.weight", n_vocab, width, scale=1.0)
    ones("token_embd_norm.weight", width)
    for i in range(2):
        ones(f"blk.{i}.attn_norm.weight", width)
        ones(f"blk.{i}.ffn_norm.weight", width)
        tensor(f"blk.{i}.ffn_gate.weight", ffn, width)
        tensor(f"blk.{i}.ffn_up.weight", ffn, width)
        tensor(f"blk.{i}.ffn_down.weight", width, ffn)
    tensor("blk.0.shortconv.conv.weight", width, 3)
    tensor("blk.0.shortconv.in_proj.weight", 3 * width, width)
    tensor("blk.0.shortconv.out_proj.weight", width, width)
    head_dim = width // heads
    ones("blk.1.attn_q_norm.weight", head_dim)
    ones("blk.1.attn_k_norm.weight", head_dim)
    tensor("blk.1.attn_q.weight", width, width)
    tensor("blk.1.attn_k.weight", kv_heads[1] * head_dim, width)
    tensor("blk.1.attn_v.weight", kv_heads[1] * head_dim, width)
    tensor("blk.1.attn_output.weight", width, width)
    return _write(writer, path)


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
