"""Numbers and bytes out of a record that may be damaged.

Varints are LEB128: seven bits a byte, lowest first, the high bit set on all but the last.
"""


def varint(value):
    """Returns the bytes of an integer of at least 0."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Reads from bytes, and never beyond their end.

    Args:
        data: Bytes.
        max_bytes: Refuse tensors that would be larger than this once decoded.

    Example:

    >>> from tfcomp.storage.reader import Reader, varint
    >>> reader = Reader(varint(300) + b"rest", max_bytes=1000)
    >>> reader.varint(), reader.take(4)
    (300, b'rest')
    """

    def __init__(self, data, max_bytes):
        self.data, self.at, self.max_bytes = memoryview(data), 0, max_bytes

    @property
    def left(self):
        """Number of bytes not yet read."""
        return len(self.data) - self.at

    def take(self, size):
        """The next so many bytes."""
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise ValueError(f"Damaged record: it ends {size - len(part)} bytes early.")
        self.at += size
        return bytes(part)

    def byte(self):
        """The next byte, as an integer."""
        return self.take(1)[0]

    def varint(self):
        """The next varint."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("Damaged record: a number of more than 63 bits.")

    def check_size(self, size):
        """Raises if a tensor of so many bytes is not wanted."""
        if size > self.max_bytes:
            raise ValueError(
                f"The record declares {size} bytes, more than the limit `max_bytes`="
                f"{self.max_bytes}."
            )
