"""smelt runs large language models on the machine in front of you.

    import smelt

    with smelt.Model.open("models/demo-5m") as model:
        print(model.chat([{"role": "user", "content": "What is 12 + 30?"}], temperature=0).text)

The package is a thin layer over smelt_c.h, whose comments say more about each option. Models may be used by any number
of threads; answers that are asked for at the same time are computed together. Calls release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, Union

from . import _library as _c

if TYPE_CHECKING:  # annotations stay text when a program runs
    from typing_extensions import Unpack

__all__ = [
    "Answer",
    "BusyError",
    "Error",
    "FailedError",
    "Generation",
    "InvalidArgumentError",
    "Message",
    "Model",
    "OpenError",
    "OutOfMemoryError",
    "Piece",
    "Prompt",
    "SamplingOptions",
    "Token",
    "Usage",
    "__version__",
]

_lib = _c.load()
__version__: str = _lib.smelt_version().decode()


class Error(RuntimeError):
    """A call failed; the text names the thing, what was expected and what was found."""


class InvalidArgumentError(Error, ValueError):
    """An option, a prompt or a grammar is wrong: the same call would fail again."""


class OpenError(Error, OSError):
    """No such file or device, a damaged file, a model that smelt cannot run."""


class BusyError(Error):
    """max_queue requests wait already; the same call may work later."""


class OutOfMemoryError(Error, MemoryError):
    """Memory is short."""


class FailedError(Error):
    """The device failed during a step, or the model produced NaN or infinity."""


_ERRORS: dict[int, type[Error]] = {
    1: InvalidArgumentError,
    2: OpenError,
    3: BusyError,
    4: OutOfMemoryError,
    5: FailedError,
}


def _check(status: int) -> None:
    if status != 0:
        raise _ERRORS.get(status, Error)(_lib.smelt_last_error().decode(errors="replace"))


class _Words(TypedDict):
    role: str
    content: str


class Message(_Words, total=False):
    pictures: Sequence[bytes | str | os.PathLike[str]]
    """Files that the model sees before the content: their bytes, or their paths."""


class SamplingOptions(TypedDict, total=False):
    """How an answer is made; what is left out is as the model's file recommends."""

    max_tokens: int
    temperature: float  # 0: always the likeliest token
    top_k: int  # 0: all
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int  # the same seed gives the same answer
    stop: Union[str, Sequence[str]]  # the answer ends before the first of these
    json_schema: Union[str, Mapping[str, Any]]  # of these three one may be given
    regex: str
    gbnf: str
    logprobs: int  # this many likeliest tokens, each with its log-probability; 0: of the drawn token alone
    thinking_budget: int  # tokens, after which thinking is ended
    priority: int  # -100 to 100; higher ones are computed first


@dataclass(frozen=True)
class Token:
    id: int
    logprob: float | None  # natural logarithm, where `logprobs` was given
    top: tuple[tuple[int, float], ...]  # ids and log-probabilities of the likeliest, best first


@dataclass(frozen=True)
class Piece:
    """What came since the piece before. Text may come later than its tokens."""

    text: str
    thinking: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Usage:
    n_prompt: int  # tokens of the prompt
    n_cached: int  # of them, those that an earlier request had computed
    n_generated: int
    queued: float  # seconds to the first step
    prefill: float  # from there to the first token
    decode: float  # from there to the end


@dataclass(frozen=True)
class Answer:
    text: str
    thinking: str  # what the model thought before
    finish_reason: str  # "stop", "length" or "cancelled"
    tokens: tuple[Token, ...]
    usage: Usage


_FINISH = {1: "stop", 2: "length", 3: "cancelled"}


def _text(pointer: int | None, length: int) -> str:
    return ctypes.string_at(pointer, length).decode() if pointer and length else ""


def _tokens(pointer: Any, n: int, with_logprob: bool) -> tuple[Token, ...]:
    return tuple(
        Token(t.id, t.logprob if with_logprob else None, tuple((t.top[j].id, t.top[j].logprob) for j in range(t.n_top)))
        for t in (pointer[i] for i in range(n))
    )


def _ids(tokens: Sequence[int]) -> Any:
    try:
        return (ctypes.c_int32 * len(tokens))(*tokens)
    except TypeError as e:
        raise InvalidArgumentError(f"tokens: expected whole numbers, {e}") from None


class _Options:
    """The C struct of SamplingOptions, and what its pointers need to stay alive."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = set(options) - set(SamplingOptions.__annotations__)
        if unknown:
            raise TypeError(f"unknown option {sorted(unknown)[0]!r}; known are {', '.join(SamplingOptions.__annotations__)}")
        c = self.c = _c.GenerateOptions()
        _lib.smelt_generate_options_init_sized(c, ctypes.sizeof(c))
        for name, value in options.items():
            if value is None:
                continue
            if name == "stop":
                texts = [value] if isinstance(value, str) else list(value)
                self.stop = (ctypes.c_char_p * len(texts))(*[_bytes(t, "stop") for t in texts])
                c.stop, c.n_stop = self.stop, len(texts)
            elif name == "json_schema":
                c.json_schema = _bytes(value if isinstance(value, str) else json.dumps(value), name)
            elif name in ("regex", "gbnf"):
                setattr(c, name, _bytes(value, name))
            elif name == "seed":
                if not 0 <= value < 2**64:
                    raise InvalidArgumentError(f"seed: expected 0 to {2**64 - 1}, found {value}")
                c.seed, c.has_seed = value, 1
            else:
                field = "n_logprobs" if name == "logprobs" else name
                try:
                    setattr(c, field, value)
                except TypeError:
                    raise InvalidArgumentError(f"{name}: expected a number, found {value!r}") from None
                if isinstance(value, int) and getattr(c, field) != value and isinstance(getattr(c, field), int):
                    raise InvalidArgumentError(f"{name}: {value} is out of range")
        self.with_logprob = c.n_logprobs >= 0


def _bytes(text: str, what: str) -> bytes:
    data = text.encode()
    if b"\0" in data:
        raise InvalidArgumentError(f"{what}: has a zero byte")
    return data


def _picture(source: bytes | str | os.PathLike[str]) -> bytes:
    return source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()


class Prompt:
    """What a model reads. Made by Model.chat_prompt(), text_prompt() and token_prompt()."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def __del__(self) -> None:
        _lib.smelt_prompt_free(self._handle)

    @property
    def text(self) -> str:
        """Empty for a prompt of token ids."""
        n = ctypes.c_size_t()
        pointer = _lib.smelt_prompt_get_text(self._handle, n)
        return _text(pointer, n.value)

    @property
    def tokens(self) -> list[int]:
        n = ctypes.c_size_t()
        pointer = _lib.smelt_prompt_get_tokens(self._handle, n)
        return list(pointer[: n.value])


class Generation:
    """An answer on its way: an iterator over its pieces. Belongs to one thread, but for cancel()."""

    def __init__(self, handle: ctypes.c_void_p, options: _Options) -> None:
        self._handle, self._options = handle, options

    def __del__(self) -> None:
        _lib.smelt_generation_free(self._handle)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        pointer = ctypes.POINTER(_c.Piece)()
        _check(_lib.smelt_generation_next(self._handle, pointer))
        if not pointer:
            raise StopIteration
        p = pointer[0]
        return Piece(
            _text(p.text, p.text_length),
            _text(p.thinking, p.thinking_length),
            _tokens(p.tokens, p.n_tokens, self._options.with_logprob),
        )

    def cancel(self) -> None:
        """From any thread: the answer ends within a step."""
        _lib.smelt_generation_cancel(self._handle)

    def finish(self) -> Answer:
        """Reads what is left and gives the whole. Call it once."""
        answer = ctypes.c_void_p()
        _check(_lib.smelt_generation_finish(self._handle, answer))
        return _take_answer(answer, self._options)


def _take_answer(handle: Any, options: _Options) -> Answer:
    try:
        n, usage = ctypes.c_size_t(), _c.Usage(size=ctypes.sizeof(_c.Usage))
        text = _text(_lib.smelt_answer_text(handle, n), n.value)
        thinking = _text(_lib.smelt_answer_thinking(handle, n), n.value)
        tokens = _tokens(_lib.smelt_answer_tokens(handle, n), n.value, options.with_logprob)
        _check(_lib.smelt_answer_usage(handle, usage))
        return Answer(
            text,
            thinking,
            _FINISH[_lib.smelt_answer_finish_reason(handle)],
            tokens,
            Usage(usage.n_prompt, usage.n_cached, usage.n_generated, usage.queued, usage.prefill, usage.decode),
        )
    finally:
        _lib.smelt_answer_free(handle)


class Model:
    """A model that is loaded. Open one with Model.open(); `with` closes it."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._open: ctypes.c_void_p | None = handle

    @classmethod
    def open(
        cls,
        path: str,
        *,
        device: str = "auto",
        n_ctx: int = 0,
        n_threads: int = 0,
        kv_format: str = "f16",
        kv_tokens: int = 0,
        rope_scaling: str = "",
        tensor_parallel: int = 1,
        max_sequences: int = 32,
        max_queue: int = 256,
    ) -> Model:
        """Opens a Hugging Face folder, a GGUF file or a qwen3.c file.

        n_ctx: tokens of one prompt with its answer, 0 as trained or as many as fit. n_threads: of the CPU, 0 one a
        physical core. kv_tokens: tokens that the cache holds of all answers together, 0 for n_ctx.
        """
        c = _c.ModelOptions()
        _lib.smelt_model_options_init_sized(c, ctypes.sizeof(c))
        c.device, c.kv_format = _bytes(device, "device"), _bytes(kv_format, "kv_format")
        if rope_scaling:
            c.rope_scaling = _bytes(rope_scaling, "rope_scaling")
        c.kv_tokens, c.n_ctx, c.n_threads = kv_tokens, n_ctx, n_threads
        c.tensor_parallel, c.max_sequences, c.max_queue = tensor_parallel, max_sequences, max_queue
        handle = ctypes.c_void_p()
        _check(_lib.smelt_model_open(_bytes(str(path), "path"), c, handle))
        return cls(handle)

    def close(self) -> None:
        """Memory goes with the last of its generations."""
        handle, self._open = self._open, None
        if handle is not None:
            _lib.smelt_model_close(handle)

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def _handle(self) -> ctypes.c_void_p:
        if self._open is None:
            raise InvalidArgumentError("the model is closed")
        return self._open

    @property
    def n_ctx(self) -> int:
        return int(_lib.smelt_model_n_ctx(self._handle))

    @property
    def vocab_size(self) -> int:
        return int(_lib.smelt_model_vocab_size(self._handle))

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return int(_lib.smelt_model_dim(self._handle))

    @property
    def has_chat_template(self) -> bool:
        return bool(_lib.smelt_model_has_chat_template(self._handle))

    @property
    def takes_pictures(self) -> bool:
        return bool(_lib.smelt_model_takes_pictures(self._handle))

    # Prompts

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        template_variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """A conversation as the model's template writes it. thinking: None as the template does by itself."""
        c = _c.ChatOptions()
        _lib.smelt_chat_options_init_sized(c, ctypes.sizeof(c))
        if thinking is not None:
            c.thinking = int(thinking)
        if template_variables is not None:
            c.template_variables = _bytes(json.dumps(template_variables), "template_variables")
        c.add_generation_prompt = int(add_generation_prompt)
        array = (_c.Message * len(messages))(
            *[_c.Message(_bytes(m["role"], "role"), _bytes(m["content"], "content")) for m in messages]
        )
        shown = [(i, _picture(p)) for i, m in enumerate(messages) for p in m.get("pictures", ())]
        c.pictures = (_c.Picture * len(shown))(*[_c.Picture(file, len(file), i) for i, file in shown])
        c.n_pictures = len(shown)
        handle = ctypes.c_void_p()
        _check(_lib.smelt_prompt_chat(self._handle, array, len(messages), c, handle))
        return Prompt(handle)

    def text_prompt(self, text: str) -> Prompt:
        """Text that the model goes on with; control tokens in it are control tokens."""
        data, handle = text.encode(), ctypes.c_void_p()
        _check(_lib.smelt_prompt_text(self._handle, data, len(data), handle))
        return Prompt(handle)

    def token_prompt(self, tokens: Sequence[int]) -> Prompt:
        handle = ctypes.c_void_p()
        _check(_lib.smelt_prompt_tokens(_ids(tokens), len(tokens), handle))
        return Prompt(handle)

    def _prompt(self, prompt: Prompt | str | Sequence[int]) -> Prompt:
        if isinstance(prompt, Prompt):
            return prompt
        return self.text_prompt(prompt) if isinstance(prompt, str) else self.token_prompt(prompt)

    # Answers

    def start(self, prompt: Prompt | str | Sequence[int], **options: Unpack[SamplingOptions]) -> Generation:
        """Starts an answer and returns at once: `for piece in model.start("Once", max_tokens=9): ...`"""
        made, held, handle = _Options(options), self._prompt(prompt), ctypes.c_void_p()  # `held` lives until the call is over
        _check(_lib.smelt_generation_start(self._handle, held._handle, made.c, handle))
        return Generation(handle, made)

    def generate(self, prompt: Prompt | str | Sequence[int], **options: Unpack[SamplingOptions]) -> Answer:
        return self.start(prompt, **options).finish()

    def generate_all(
        self, prompts: Sequence[Prompt | str | Sequence[int]], **options: Unpack[SamplingOptions]
    ) -> list[Answer]:
        """One answer a prompt, computed together, any number of prompts."""
        made, held = _Options(options), [self._prompt(p) for p in prompts]
        handles = (ctypes.c_void_p * len(held))(*[p._handle for p in held])
        answers = (ctypes.c_void_p * len(held))()
        _check(_lib.smelt_generate_all(self._handle, handles, len(held), made.c, answers))
        return [_take_answer(a, made) for a in answers]

    def chat(self, messages: Sequence[Message], *, thinking: bool | None = None, **options: Unpack[SamplingOptions]) -> Answer:
        return self.generate(self.chat_prompt(messages, thinking=thinking), **options)

    # Embeddings and tokens

    def embed(
        self, texts: str | Sequence[str], *, pooling: str = "automatic", dimensions: int = 0, normalise: bool = True
    ) -> list[list[float]]:
        """A vector for each text. pooling: "automatic" as the model's file says, "last" or "mean"."""
        poolings = ("automatic", "last", "mean")
        if pooling not in poolings:
            raise InvalidArgumentError(f"pooling: expected one of {', '.join(poolings)}, found {pooling!r}")
        all_texts = [texts] if isinstance(texts, str) else list(texts)
        c = _c.EmbedOptions()
        _lib.smelt_embed_options_init_sized(c, ctypes.sizeof(c))
        c.pooling, c.dimensions, c.normalise = poolings.index(pooling), dimensions, int(normalise)
        row = dimensions if 0 < dimensions <= self.dim else self.dim
        array = (ctypes.c_char_p * len(all_texts))(*[_bytes(t, "text") for t in all_texts])
        vectors = (ctypes.c_float * (row * len(all_texts)))()
        _check(_lib.smelt_embed(self._handle, array, len(all_texts), c, vectors, len(vectors)))
        return [list(vectors[i * row : (i + 1) * row]) for i in range(len(all_texts))]

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """parse_special: "<|im_end|>" is one control token; else it is what people wrote."""
        data, n, capacity = text.encode(), ctypes.c_size_t(), len(text) + 8
        while True:
            ids = (ctypes.c_int32 * capacity)()
            _check(_lib.smelt_tokenize(self._handle, data, len(data), int(add_special), int(parse_special), ids, capacity, n))
            if n.value <= capacity:
                return list(ids[: n.value])
            capacity = n.value

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        ids, n, capacity = _ids(tokens), ctypes.c_size_t(), 8 * len(tokens) + 8
        while True:
            text = ctypes.create_string_buffer(capacity)
            _check(_lib.smelt_detokenize(self._handle, ids, len(tokens), int(skip_special), text, capacity, n))
            if n.value < capacity:
                return text.raw[: n.value].decode()
            capacity = n.value + 1
