"""What a parquet file's footer says of its columns' sizes, read without the parquet library.

The library ends the whole process where a column's entry is damaged, and only says so in Python once data are decoded.
A footer is one thrift struct in the compact protocol; a few numbers of it are all that is wanted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from simtune.wording import counted

_MAGIC = b"PAR1"
_LARGEST_FOOTER = 64 << 20
# Thrift's compact types.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_WHOLE = (4, 5, 6)


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group.

    Attributes:
        name: of the top-level column.
        kind: parquet's number of the physical type.
        num_values: those of a nested column counted one by one.
        num_bytes: of its pages without compression.
    """

    name: str
    kind: int
    num_values: int
    num_bytes: int


def column_chunks(file: BinaryIO) -> Iterator[ColumnChunk]:
    """The column chunks that a file's footer lists.

    Raises:
        ValueError: it is no footer.
    """
    try:
        # Field 4 of the file: row groups; 1 of a row group: columns; 3 of a column: its metadata.
        for row_group in _Compact(_footer(file)).struct()[4]:
            for column in row_group[1]:
                about = column[3]
                name = about[3][0].decode()
                yield ColumnChunk(name, int(about[1]), max(0, int(about[5])), max(0, int(about[6])))
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its footer is damaged ({type(error).__name__})") from None


def _footer(file: BinaryIO) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != _MAGIC or length > size - 8:
        raise ValueError("it has no footer")
    if length > _LARGEST_FOOTER:
        raise ValueError(f"its footer has {counted(length, 'byte')}, more than {_LARGEST_FOOTER:,}")
    file.seek(size - 8 - length)
    return file.read(length)


class _Compact:
    """Reads values of thrift's compact protocol; structs become fields by number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _WHOLE:
            return self._zigzag()
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            head = self._byte()
            length = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(length)]
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _MAP:
            length = self._varint()
            kinds = self._byte() if length else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(length)]
        raise TypeError(kind)

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _bytes(self, length: int) -> bytes:
        begin, self._place = self._place, self._place + length
        if self._place > len(self._data):
            raise IndexError(length)
        return self._data[begin : self._place]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise IndexError(shift)

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
