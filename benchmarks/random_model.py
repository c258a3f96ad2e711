"""A model of realistic size with random weights: speed does not depend on what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

VOCAB, CONTEXT = 32000, 4096
SPECIALS = 259  # unknown, BOS, EOS and the bytes
CHAT = (
    "{{ bos_token }}{% for m in messages %}w1 {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %} w2{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama; with grouped-query attention, as models of these sizes have it."""

    name: str
    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int


HALF_BILLION = Shape("random-0.5b", 24, 1024, 4096, 16, 4)  # 24.6 KB of cache a token
SIXTY_MILLION = Shape("random-60m", 8, 512, 2048, 8, 4)


def write_random(path: Path, shape: Shape, seed: int = 0) -> Path:
    """A Llama with random weights in Q8_0; kept where it is, if it is there.

    Its output rows for special tokens are zero, so that greedy decoding never ends by itself.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    part = path.with_suffix(".part")
    w = gguf.GGUFWriter(part, "llama")
    _header(w, shape)
    _vocabulary(w)

    def q8_0(name: str, rows: int, columns: int, zero_rows: int = 0) -> None:
        blocks = rng.integers(-127, 128, (rows, columns // 32, 34), dtype=np.int8).view(np.uint8)
        scale = np.float16(0.02 / 73)  # int8 noise has a standard deviation of 73; weights of 0.02
        blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
        blocks[:zero_rows] = 0
        data = blocks.reshape(rows, columns // 32 * 34)
        w.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    q8_0("token_embd.weight", VOCAB, shape.width)
    q8_0("output.weight", VOCAB, shape.width, zero_rows=SPECIALS)
    w.add_tensor("output_norm.weight", np.ones(shape.width, np.float32))
    for i in range(shape.layers):
        w.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(shape.width, np.float32))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(shape.width, np.float32))
        kv_width = shape.width // shape.heads * shape.kv_heads
        q8_0(f"blk.{i}.attn_q.weight", shape.width, shape.width)
        q8_0(f"blk.{i}.attn_k.weight", kv_width, shape.width)
        q8_0(f"blk.{i}.attn_v.weight", kv_width, shape.width)
        q8_0(f"blk.{i}.attn_output.weight", shape.width, shape.width)
        q8_0(f"blk.{i}.ffn_gate.weight", shape.ffn, shape.width)
        q8_0(f"blk.{i}.ffn_up.weight", shape.ffn, shape.width)
        q8_0(f"blk.{i}.ffn_down.weight", shape.width, shape.ffn)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    part.replace(path)
    return path


def _header(w: gguf.GGUFWriter, shape: Shape) -> None:
    w.add_name(shape.name)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(shape.width)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.ffn)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(shape.width // shape.heads)
    w.add_vocab_size(VOCAB)
    w.add_chat_template(CHAT)
    w.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))


def _vocabulary(w: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{b:02X}>".encode() for b in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    words = ["▁", *map(chr, range(33, 127))]
    words += [f"▁w{i}" for i in range(VOCAB - len(tokens) - len(words))]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([*tokens, *(word.encode() for word in words)])
    w.add_token_scores([float(-i) for i in range(VOCAB)])
    w.add_token_types([*map(int, types), *[int(kinds.NORMAL)] * len(words)])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
