"""Writing a trained model as a GGUF file in Q8_0."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm
from torch import Tensor

from tools.demo_pair.model import Llama
from tools.demo_pair.tokenizer import BOS, EOS, UNKNOWN

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### User:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Assistant:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)

_BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "forward_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def tensor_name(name: str) -> str:
    """The name that llama.cpp has for one of the model's weights."""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, number, part, _ = name.split(".")
    return f"blk.{number}.{_BLOCK_NAMES[part]}.weight"


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: spm.SentencePieceProcessor) -> None:
    pieces, scores, types = [], [], []
    for i in range(tokenizer.vocab_size()):
        pieces.append(tokenizer.id_to_piece(i).encode("utf-8"))
        scores.append(tokenizer.get_score(i))
        if tokenizer.is_unknown(i):
            types.append(gguf.TokenType.UNKNOWN)
        elif tokenizer.is_control(i):
            types.append(gguf.TokenType.CONTROL)
        elif tokenizer.is_byte(i):
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _add_weight(writer: gguf.GGUFWriter, name: str, weight: Tensor) -> None:
    values = weight.detach().float().cpu().numpy().astype(np.float32)
    if values.ndim == 1:
        writer.add_tensor(tensor_name(name), values)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quants.quantize(values, kind)
    writer.add_tensor(tensor_name(name), packed, raw_dtype=kind)


def write_gguf(
    model: Llama,
    tokenizer: spm.SentencePieceProcessor,
    path: Path,
    *,
    title: str,
    description: str,
    template: str | None = None,
) -> None:
    """Write the file beside its place and move it there once it is whole."""
    shape = model.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    writer = gguf.GGUFWriter(str(fresh), "llama")
    writer.add_name(title)
    writer.add_description(description)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    _write_tokenizer(writer, tokenizer)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in model.named_parameters():
        _add_weight(writer, name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(fresh, path)


def differing_texts(
    path: Path, tokenizer: spm.SentencePieceProcessor, texts: list[str]
) -> list[str]:
    """The texts that llama.cpp cuts differently from SentencePiece (there should be none)."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    different = []
    for text in texts:
        ids = model.tokenize(text.encode("utf-8"), add_bos=False, special=False)
        if ids != tokenizer.encode(text):
            different.append(text)
    return different
