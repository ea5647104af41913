"""The sizes of a parquet file's columns as its footer states them, read without the parquet library.

If a column's entry is damaged, the library aborts the whole process, and it raises a Python error only once data are
decoded. A footer is one Thrift struct in the compact protocol, of which only a few numbers are needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from simtune.wording import counted

_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 64 << 20
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group.

    Attributes:
        name: of the top-level column.
        physical_type: parquet's number of the type.
        num_values: in a nested column every inner value counts.
        num_bytes: of its pages without compression.
    """

    name: str
    physical_type: int
    num_values: int
    num_bytes: int


def column_chunks(file: BinaryIO) -> Iterator[ColumnChunk]:
    """The column chunks that a file's footer lists.

    Raises:
        ValueError: the file has no valid footer.
    """
    try:
        # Field 4 of the file: row groups; 1 of a row group: columns; 3 of a column: its metadata.
        for row_group in _CompactReader(_footer(file)).struct()[4]:
            for column in row_group[1]:
                metadata = column[3]
                name = metadata[3][0].decode()
                yield ColumnChunk(name, int(metadata[1]), max(0, int(metadata[5])), max(0, int(metadata[6])))
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its footer is damaged ({type(error).__name__})") from None


def _footer(file: BinaryIO) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != _MAGIC or length > size - 8:
        raise ValueError("it has no footer")
    if length > _MAX_FOOTER_BYTES:
        raise ValueError(f"its footer has {counted(length, 'byte')}, more than {_MAX_FOOTER_BYTES:,}")
    file.seek(size - 8 - length)
    return file.read(length)


class _CompactReader:
    """Reads values of Thrift's compact protocol; structs become dictionaries of fields by number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            type_ = head & 15
            fields[number] = type_ == _TRUE if type_ in (_TRUE, _FALSE) else self._value(type_)
        return fields

    def _value(self, type_: int) -> object:
        if type_ in _INTEGERS:
            return self._zigzag()
        if type_ == _STRUCT:
            return self.struct()
        if type_ in (_LIST, _SET):
            head = self._byte()
            length = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(length)]
        if type_ == _BINARY:
            return self._bytes(self._varint())
        if type_ in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if type_ == _DOUBLE:
            return self._bytes(8)
        if type_ == _MAP:
            length = self._varint()
            types = self._byte() if length else 0
            return [(self._value(types >> 4), self._value(types & 15)) for _ in range(length)]
        raise TypeError(type_)

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _bytes(self, length: int) -> bytes:
        begin, self._position = self._position, self._position + length
        if self._position > len(self._data):
            raise IndexError(length)
        return self._data[begin : self._position]

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
