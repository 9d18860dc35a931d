"""Finds libsmelt and declares the functions of smelt_c.h; names and members are those of the header. What Python
programs use is in __init__.py."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pathlib
import sys
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p


class ModelOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("device", c_char_p),
        ("kv_format", c_char_p),
        ("rope_scaling", c_char_p),
        ("kv_tokens", c_int64),
        ("n_ctx", c_int32),
        ("n_threads", c_int32),
        ("tensor_parallel", c_int32),
        ("max_sequences", c_int32),
        ("max_queue", c_int32),
    ]


class Message(Structure):
    _fields_ = [("role", c_char_p), ("content", c_char_p)]


class Picture(Structure):
    _fields_ = [("bytes", c_char_p), ("length", c_size_t), ("message", c_size_t)]


class ChatOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("template_variables", c_char_p),
        ("thinking", c_int32),
        ("add_generation_prompt", c_int32),
        ("pictures", POINTER(Picture)),
        ("n_pictures", c_size_t),
    ]


class GenerateOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("stop", POINTER(c_char_p)),
        ("n_stop", c_size_t),
        ("json_schema", c_char_p),
        ("regex", c_char_p),
        ("gbnf", c_char_p),
        ("seed", c_uint64),
        ("has_seed", c_int32),
        ("max_tokens", c_int32),
        ("temperature", c_float),
        ("top_k", c_int32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("repetition_penalty", c_float),
        ("presence_penalty", c_float),
        ("frequency_penalty", c_float),
        ("n_logprobs", c_int32),
        ("thinking_budget", c_int32),
        ("priority", c_int32),
    ]


class TokenLogprob(Structure):
    _fields_ = [("id", c_int32), ("logprob", c_float)]


class Token(Structure):
    _fields_ = [("id", c_int32), ("logprob", c_float), ("top", POINTER(TokenLogprob)), ("n_top", c_size_t)]


class Piece(Structure):
    # Texts may hold zero bytes: pointers, not c_char_p.
    _fields_ = [
        ("text", c_void_p),
        ("text_length", c_size_t),
        ("thinking", c_void_p),
        ("thinking_length", c_size_t),
        ("tokens", POINTER(Token)),
        ("n_tokens", c_size_t),
    ]


class Usage(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("queued", c_double),
        ("prefill", c_double),
        ("decode", c_double),
        ("n_prompt", c_int32),
        ("n_cached", c_int32),
        ("n_generated", c_int32),
    ]


class EmbedOptions(Structure):
    _fields_ = [("size", c_size_t), ("pooling", c_int32), ("dimensions", c_int32), ("normalise", c_int32)]


_FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "smelt_version": (c_char_p, []),
    "smelt_last_error": (c_char_p, []),
    "smelt_model_options_init_sized": (None, [POINTER(ModelOptions), c_size_t]),
    "smelt_model_open": (c_int, [c_char_p, POINTER(ModelOptions), POINTER(c_void_p)]),
    "smelt_model_close": (None, [c_void_p]),
    "smelt_model_n_ctx": (c_int32, [c_void_p]),
    "smelt_model_vocab_size": (c_int32, [c_void_p]),
    "smelt_model_dim": (c_int32, [c_void_p]),
    "smelt_model_has_chat_template": (c_int32, [c_void_p]),
    "smelt_model_takes_pictures": (c_int32, [c_void_p]),
    "smelt_chat_options_init_sized": (None, [POINTER(ChatOptions), c_size_t]),
    "smelt_prompt_chat": (c_int, [c_void_p, POINTER(Message), c_size_t, POINTER(ChatOptions), POINTER(c_void_p)]),
    "smelt_prompt_text": (c_int, [c_void_p, c_char_p, c_size_t, POINTER(c_void_p)]),
    "smelt_prompt_tokens": (c_int, [POINTER(c_int32), c_size_t, POINTER(c_void_p)]),
    "smelt_prompt_get_text": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "smelt_prompt_get_tokens": (POINTER(c_int32), [c_void_p, POINTER(c_size_t)]),
    "smelt_prompt_free": (None, [c_void_p]),
    "smelt_generate_options_init_sized": (None, [POINTER(GenerateOptions), c_size_t]),
    "smelt_generate_all": (c_int, [c_void_p, POINTER(c_void_p), c_size_t, POINTER(GenerateOptions), POINTER(c_void_p)]),
    "smelt_generation_start": (c_int, [c_void_p, c_void_p, POINTER(GenerateOptions), POINTER(c_void_p)]),
    "smelt_generation_next": (c_int, [c_void_p, POINTER(POINTER(Piece))]),
    "smelt_generation_cancel": (None, [c_void_p]),
    "smelt_generation_finish": (c_int, [c_void_p, POINTER(c_void_p)]),
    "smelt_generation_free": (None, [c_void_p]),
    "smelt_answer_text": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "smelt_answer_thinking": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "smelt_answer_finish_reason": (c_int, [c_void_p]),
    "smelt_answer_tokens": (POINTER(Token), [c_void_p, POINTER(c_size_t)]),
    "smelt_answer_usage": (c_int, [c_void_p, POINTER(Usage)]),
    "smelt_answer_free": (None, [c_void_p]),
    "smelt_embed_options_init_sized": (None, [POINTER(EmbedOptions), c_size_t]),
    "smelt_embed": (c_int, [c_void_p, POINTER(c_char_p), c_size_t, POINTER(EmbedOptions), POINTER(c_float), c_size_t]),
    "smelt_tokenize": (c_int, [c_void_p, c_char_p, c_size_t, c_int, c_int, POINTER(c_int32), c_size_t, POINTER(c_size_t)]),
    "smelt_detokenize": (c_int, [c_void_p, POINTER(c_int32), c_size_t, c_int, c_void_p, c_size_t, POINTER(c_size_t)]),
}


def _find() -> str:
    """Path of the library: from SMELT_LIBRARY if that is set, else next to this file, else wherever the system finds it."""
    named = os.environ.get("SMELT_LIBRARY")
    if named:
        return named
    name = "libsmelt.dylib" if sys.platform == "darwin" else "libsmelt.so"
    beside = pathlib.Path(__file__).with_name(name)
    if beside.exists():
        return str(beside)
    found = ctypes.util.find_library("smelt")
    if found is None:
        raise ImportError(
            f"cannot find {name}: it is not next to {__file__} and not installed on this system. Build it with "
            "`cmake --build build --target libsmelt_shared` and set SMELT_LIBRARY to its path"
        )
    return found


def load() -> ctypes.CDLL:
    # Calls through CDLL release the interpreter's lock.
    library = ctypes.CDLL(_find())
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
