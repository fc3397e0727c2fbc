"""Texts of many requests in columns: one buffer for different texts, codes for few different words."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from inferometer.core.grouped_values import Bools, Ints, starts_of


class Texts(Sequence[str]):
    """Texts in one buffer of UTF-8, in which single surrogates may stand. `begins` and `sizes`: the first byte of each
    text, and its bytes. `source`: the buffer, or a function that reads it when somebody first looks at a text."""

    def __init__(self, source: "bytes | TextSource", begins: Ints, sizes: Ints) -> None:
        self.source = source
        self.begins = begins
        self.sizes = sizes

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        return cls.joined(b"".join(parts), np.fromiter(map(len, parts), np.int64, len(parts)))

    @classmethod
    def joined(cls, source: "bytes | TextSource", sizes: Ints) -> "Texts":
        """Texts that follow each other in the buffer."""
        return cls(source, starts_of(sizes)[:-1], sizes)

    @property
    def data(self) -> bytes:
        """The whole buffer."""
        return self.source if isinstance(self.source, bytes) else self.source.data

    def raw(self, position: int) -> bytes:
        """The bytes of one text."""
        begin = self.begins[position]
        return self.data[begin : begin + self.sizes[position]]

    def heads(self, size: int) -> NDArray[np.uint8]:
        """The first bytes of each text, one row a text; zeros after its end."""
        data = np.frombuffer(self.data or b"\0", np.uint8)
        places = np.arange(size)
        found = data[np.minimum(self.begins[:, None] + places, len(data) - 1)]
        found[places >= self.sizes[:, None]] = 0
        return found

    def chosen(self, positions: "Ints | slice") -> "Texts":
        return Texts(self.source, self.begins[positions], self.sizes[positions])

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self.raw(range(len(self))[index]).decode("utf-8", "surrogatepass")


class TextSource:
    """A buffer of texts that is read at its first use, and kept."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read

    @cached_property
    def data(self) -> bytes:
        return self._read()


class Words(Sequence[str | None]):
    """A column of few different texts: `codes` are positions in `words`."""

    def __init__(self, codes: NDArray[np.uint32], words: tuple[str | None, ...]) -> None:
        self.codes = codes
        self.words = words

    @classmethod
    def of(cls, values: Iterable[str | None]) -> "Words":
        values = tuple(values)
        known = {value: code for code, value in enumerate(dict.fromkeys(values))}
        codes = np.zeros(len(values), np.uint32)
        if len(known) > 1:
            codes[:] = [known[value] for value in values]
        return cls(codes, tuple(known))

    def chosen(self, positions: "Ints | slice") -> "Words":
        return Words(self.codes[positions], self.words)

    def counted(self, wanted: Bools) -> dict[str | None, int]:
        """How often each text occurs among the `wanted` rows; in the order of their first occurrence."""
        codes = self.codes[wanted]
        counts = np.bincount(codes, minlength=len(self.words)).tolist()
        first = np.full(len(self.words), len(codes), np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        order: list[int] = np.argsort(first, kind="stable").tolist()
        return {self.words[code]: counts[code] for code in order if counts[code]}

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str | None: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str | None]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str | None] | None:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self.words[int(self.codes[index])]


def joined_texts(columns: Sequence[Texts]) -> Texts:
    """The texts of all columns, in one buffer."""
    offsets = starts_of([len(one.data) for one in columns])[:-1].tolist()
    begins = [one.begins + offset for one, offset in zip(columns, offsets, strict=True)]
    return Texts(
        b"".join(one.data for one in columns), np.concatenate(begins), np.concatenate([one.sizes for one in columns])
    )


def joined_words(columns: Sequence[Words]) -> Words:
    """The words of all columns."""
    known: dict[str | None, int] = {}
    codes: list[NDArray[np.uint32]] = []
    for one in columns:
        places = np.array([known.setdefault(word, len(known)) for word in one.words], np.uint32)
        codes.append(places[one.codes])
    return Words(np.concatenate(codes), tuple(known))
