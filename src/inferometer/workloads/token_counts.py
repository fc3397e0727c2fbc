"""Token counts of texts: by a Hugging Face tokenizer, a local one, or the server's own /tokenize."""

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from inferometer.base.errors import RequestWrong
from inferometer.core.endpoint import Endpoint
from inferometer.core.request import TokenCounter
from inferometer.net.http_client import HttpSession, server_at


class LocalTokenizer:
    """A tokenizer of the `tokenizers` library."""

    def __init__(self, name: str) -> None:
        """`name`: a folder with tokenizer.json, such a file, or a Hugging Face name. Raises RequestWrong."""
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingTypeStubs] # 50 ms, and only some need it

        self.name = name
        path = Path(name).expanduser()
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            self._tokenizer: Any = (  # the library has no complete types
                Tokenizer.from_file(str(file)) if file.exists() else Tokenizer.from_pretrained(name)
            )
        except Exception as error:  # the library raises bare Exception for every cause
            raise RequestWrong(
                f"no tokenizer {name!r}: {str(error).strip().splitlines()[0]}\n"
                "Give --tokenizer a folder that holds tokenizer.json, or a Hugging Face name while online, or "
                "--tokenizer server to ask the engine's own /tokenize, or --skip-tokenizer-init to count none."
            ) from error

    def count(self, text: str, special: bool) -> int:
        (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)  # without offsets: 40% faster
        return len(found)


class ServerTokenizer:
    """The /tokenize of a llama.cpp or vLLM server."""

    def __init__(self, endpoint: Endpoint) -> None:
        server = server_at(endpoint.base_url, endpoint.headers, endpoint.verify, endpoint.ca_file)
        self.name = "the server's /tokenize"
        self._model = endpoint.model
        self._conversation = HttpSession(server, timeout_s=60)
        self._is_vllm = False

    def count(self, text: str, special: bool) -> int:
        """Raises OSError or ValueError if the server has no /tokenize."""
        if not self._is_vllm:
            try:
                tokens = self._ask({"content": text, "add_special": special})["tokens"]
            except (ValueError, KeyError):
                tokens = None
            if isinstance(tokens, list):
                return len(cast("list[Any]", tokens))
            self._is_vllm = True  # vLLM requires `prompt` and answered with an error
        count = self._ask({"model": self._model, "prompt": text, "add_special_tokens": special})["count"]
        if not isinstance(count, int):
            raise ValueError("the server's token count is not a number")
        return count

    def close(self) -> None:
        self._conversation.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        answer = self._conversation.ask("/tokenize", question)
        counted = answer.json
        if answer.status != HTTPStatus.OK or not isinstance(counted, dict):
            raise ValueError(f"HTTP {answer.status}: {answer.shown}")
        return cast("dict[str, Any]", counted)


def server_counter(endpoint: Endpoint) -> ServerTokenizer | None:
    """The server's own tokenizer; None if it offers none. Raises nothing."""
    counter = ServerTokenizer(endpoint)
    try:
        usable = counter.count("one two", special=False) > 0
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        usable = False
    if not usable:
        counter.close()
        return None
    return counter


@contextmanager
def counter_for(name: str, endpoint: Endpoint) -> Iterator[TokenCounter | None]:
    """The counter that a spec's `tokenizer` names: `server`, `none`, or a tokenizer's name or path.

    None for a server without a tokenizer. Raises RequestWrong for a tokenizer that cannot be loaded.
    """
    if name == "none":
        yield None
    elif name != "server":
        yield LocalTokenizer(name)
    elif (counter := server_counter(endpoint)) is not None:
        with closing(counter):
            yield counter
    else:
        yield None
