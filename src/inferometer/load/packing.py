"""Packed answers: what was read of an answer in about a tenth of its bytes, without loss.

The reads of a stream differ only in their text and their times. The compiled part of a worker packs each answer when it
ends, so that it takes little room until the program has time for it, and little of a network between them.

Format: three numbers (bytes in all, reads, 1 with kernel stamps), then each read: its flags (1: its data are one whole
chunk, whose size and line ends are left out; 2: it has a kernel stamp); how many bytes at the beginning and at the end
are the same as in the data before; the size of the bytes between them, and these bytes; its time minus the time before;
and with a stamp its lag (its time minus the stamp, ns) minus the lag before. Numbers have 7 bits a byte, the lowest
first, and a set top bit in all bytes but the last; the last two are signed, with the sign as the lowest bit. Pure.
"""

import struct

import msgspec

from inferometer.load import compiled
from inferometer.load.wire import Exchange

_IS_CHUNK = 1
_IS_STAMPED = 2
_INVALID = "not a packed answer"
_MOST_NS = 1 << 62


def packed(exchange: Exchange) -> Exchange:
    """The exchange with its answer packed, if the compiled part can do so."""
    if compiled.pack is None or not exchange.raw:
        return exchange
    found = compiled.pack(exchange.raw, exchange.lengths, exchange.read_ns, exchange.kernel)
    if found is None:
        return exchange
    return msgspec.structs.replace(exchange, packed=found, raw=b"", lengths=b"", read_ns=b"", kernel=b"")


def unpacked(exchange: Exchange) -> Exchange:
    """The exchange with its answer as it was read. Raises ValueError for an answer that is not in the format."""
    if not exchange.packed:
        return exchange
    raw, lengths, read_ns, kernel = (compiled.unpack or unpack)(exchange.packed)
    return msgspec.structs.replace(exchange, packed=b"", raw=raw, lengths=lengths, read_ns=read_ns, kernel=kernel)


def unpack(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Bytes, lengths (u32), times (i64) and kernel stamps of a packed answer's reads. Raises ValueError."""
    reader = _Reader(data)
    size, count, has_kernel = reader.number(), reader.number(), reader.number() == 1
    reads: list[bytes] = []
    times: list[int] = []
    stamps: list[int] = []
    time_ns = lag_ns = total = 0
    before = b""
    for _ in range(count):
        flags = reader.number()
        before = reader.changed(before)
        reads.append(b"%x\r\n%b\r\n" % (len(before), before) if flags & _IS_CHUNK else before)
        total += len(reads[-1])
        if total > size:
            raise ValueError(_INVALID)
        time_ns = reader.sum(time_ns)
        times.append(time_ns)
        if flags & _IS_STAMPED:
            lag_ns = reader.sum(lag_ns)
            if time_ns < lag_ns:
                raise ValueError(_INVALID)
        stamps += divmod(time_ns - lag_ns, 1_000_000_000) if flags & _IS_STAMPED else (0, 0)
    if total != size or not reader.at_end:
        raise ValueError(_INVALID)
    kernel = struct.pack(f"={len(stamps)}q", *stamps) if has_kernel else b""
    lengths = struct.pack(f"={count}I", *map(len, reads))
    return b"".join(reads), lengths, struct.pack(f"={count}q", *times), kernel


class _Reader:
    """Reads `data` from its beginning. All methods raise ValueError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._data)

    def number(self) -> int:
        found = 0
        for shift in range(0, 64, 7):
            (byte,) = self._take(1)
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
        raise ValueError(_INVALID)

    def sum(self, before: int) -> int:
        """`before` and the signed number that comes next."""
        number = self.number()
        total = before + (number >> 1 ^ -(number & 1))
        if not -_MOST_NS <= total <= _MOST_NS:
            raise ValueError(_INVALID)
        return total

    def changed(self, before: bytes) -> bytes:
        """Data that begin and end as those before."""
        same, same_end = self.number(), self.number()
        if same + same_end > len(before):
            raise ValueError(_INVALID)
        return before[:same] + self._take(self.number()) + before[len(before) - same_end :]

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._place:
            raise ValueError(_INVALID)
        self._place += size
        return self._data[self._place - size : self._place]
