"""The low-level API of llama-cpp-python, checked before anything depends on it.

Structures and functions of this API change between releases, and a mismatch shows as a crash or as
wrong numbers rather than as an exception. So the release must be one that the tests passed on.
"""

from __future__ import annotations

import ctypes
import os
from importlib import metadata
from typing import Any

from urial_local.base.errors import UrialError
from urial_local.runtime.native import native
from urial_local.runtime.threads import set_waiting

TESTED_VERSIONS = ("0.3.36",)
# What makes the loader, or llama-cpp-python, take another library than the one that is installed.
ELSEWHERE = ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES",
             "LLAMA_CPP_LIB_PATH")  # fmt: skip
INSTALL = f"pip install 'llama-cpp-python=={TESTED_VERSIONS[-1]}'"
NEEDED = (
    "LLAMA_TOKEN_ATTR_BYTE",
    "LLAMA_TOKEN_ATTR_CONTROL",
    "LLAMA_TOKEN_ATTR_LSTRIP",
    "LLAMA_TOKEN_ATTR_NORMAL",
    "LLAMA_TOKEN_ATTR_RSTRIP",
    "LLAMA_TOKEN_ATTR_UNKNOWN",
    "LLAMA_TOKEN_ATTR_UNUSED",
    "LLAMA_TOKEN_ATTR_USER_DEFINED",
    "LLAMA_VOCAB_TYPE_BPE",
    "LLAMA_VOCAB_TYPE_RWKV",
    "LLAMA_VOCAB_TYPE_SPM",
    "LLAMA_VOCAB_TYPE_UGM",
    "LLAMA_VOCAB_TYPE_WPM",
    "ggml_abort_callback",
    "llama_adapter_lora_free",
    "llama_adapter_lora_init",
    "llama_adapter_lora_p_ctypes",
    "llama_backend_init",
    "llama_batch",
    "llama_batch_get_one",
    "llama_context_default_params",
    "llama_decode",
    "llama_free",
    "llama_get_embeddings_seq",
    "llama_get_logits",
    "llama_get_memory",
    "llama_init_from_model",
    "llama_log_callback",
    "llama_log_set",
    "llama_memory_clear",
    "llama_memory_seq_cp",
    "llama_memory_seq_pos_max",
    "llama_memory_seq_pos_min",
    "llama_memory_seq_rm",
    "llama_model_default_params",
    "llama_model_desc",
    "llama_model_free",
    "llama_model_get_vocab",
    "llama_model_has_decoder",
    "llama_model_has_encoder",
    "llama_model_is_hybrid",
    "llama_model_is_recurrent",
    "llama_model_load_from_file",
    "llama_model_n_ctx_train",
    "llama_model_n_embd",
    "llama_model_n_layer",
    "llama_model_n_params",
    "llama_model_n_swa",
    "llama_n_batch",
    "llama_n_ctx",
    "llama_pooling_type",
    "llama_print_system_info",
    "llama_set_abort_callback",
    "llama_set_adapter_cvec",
    "llama_set_adapters_lora",
    "llama_set_n_threads",
    "llama_state_seq_get_data",
    "llama_state_seq_get_size",
    "llama_state_seq_set_data",
    "llama_supports_gpu_offload",
    "llama_token",
    "llama_token_to_piece",
    "llama_tokenize",
    "llama_vocab_bos",
    "llama_vocab_eos",
    "llama_vocab_eot",
    "llama_vocab_get_add_bos",
    "llama_vocab_get_attr",
    "llama_vocab_get_text",
    "llama_vocab_is_control",
    "llama_vocab_is_eog",
    "llama_vocab_n_tokens",
    "llama_vocab_type",
)


def check_version(version: str) -> None:
    """Raises UrialError unless this release of llama-cpp-python was tested."""
    if version not in TESTED_VERSIONS:
        raise UrialError(
            f"llama-cpp-python {version} is installed; this release of urial-local was tested with"
            f" {', '.join(TESTED_VERSIONS)} only, and other releases lay out memory differently.",
            INSTALL,
        )


def check_symbols(module: Any) -> None:
    """Raises UrialError when a function that the runtime calls is missing."""
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise UrialError(
            f"The installed llama-cpp-python lacks {', '.join(missing)}.",
            remedy(f"Reinstall it: {INSTALL}"),
        )


def remedy(otherwise: str) -> str:
    """What to do where the library is not right: the installed one may be, and not be found."""
    names = [name for name in ELSEWHERE if os.environ.get(name)]
    if not names:
        return otherwise
    return (
        f"{' and '.join(names)} may name a folder with another llama.cpp (libllama, libggml), which"
        f" is taken first: unset {'it' if len(names) == 1 else 'them'}, as in"
        f" `env {' '.join(f'-u {name}' for name in names)} urial-local …`.\nIf it still fails:"
        f" {otherwise}"
    )


def _load() -> Any:
    set_waiting()
    try:
        check_version(metadata.version("llama-cpp-python"))
        import llama_cpp
    except metadata.PackageNotFoundError:
        raise UrialError("llama-cpp-python is not installed.", INSTALL) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise UrialError(f"llama.cpp's library does not load: {error}.", remedy(INSTALL)) from None
    check_symbols(llama_cpp)
    return llama_cpp


lib: Any = _load()

# llama.cpp writes pages to stderr; its errors are kept, to be told when a call fails.
lib.llama_log_set(ctypes.cast(native.log_callback(), lib.llama_log_callback), ctypes.c_void_p(0))
lib.llama_backend_init()


def last_errors() -> str:
    """What llama.cpp said of its latest failure, as one line; forgotten once asked."""
    lines = [line.decode("utf-8", "replace").strip() for line in native.take_log()]
    return "; ".join(dict.fromkeys(filter(None, lines)))


def clear_errors() -> None:
    native.take_log()


def gpu_offload() -> bool:
    """Whether this build of llama.cpp can put layers on a GPU that is present."""
    return bool(lib.llama_supports_gpu_offload())


def amx_built() -> bool:
    """Whether this build has code for Intel's AMX.

    GCC leaves out the stores that fill in its tile configuration (llama.cpp#26954), and the first
    tile instruction then ends the process with SIGILL. The Makefile builds without it.
    """
    return b"AMX_INT8 = 1" in lib.llama_print_system_info()


def build_id() -> str:
    """Identifies the build: cached states are read by the build that wrote them only."""
    info = lib.llama_print_system_info()
    return f"{metadata.version('llama-cpp-python')} {info.decode('utf-8', 'replace')}"
