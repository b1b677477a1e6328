"""Coders: which bits the symbols of a tensor become.

    deflate   zlib, which TensorFlow can undo; see `tfcomp.storage.stream`
    ans       asymmetric numeral systems: the entropy of the symbols
    huffman   whole bits, as Deep Compression has them

A coder is a module with

    NAME      what it is called
    WHOLE     whether it takes a tensor in one chunk and its elements as words. The others get
              chunks, and elements byte by byte
    LEAST     bits that a symbol takes at least, where there are two
    POSITIONS  bits that it takes to tell where elements are, besides their positions
    PALETTE   how many symbols there may be
    model(parts, widths) -> model
              what it has to know of a field of symbols: where to expect how many of which. `parts`
              is the field chunk by chunk; `widths` how many symbols share a frequency, `None` for
              words. `model.bits` is what the field will take, `model.to_bytes()` the model itself
    read(reader, widths) -> model
    encode([(symbols, model), ...]) -> bytes
    Decoder(bytes)
              `.take(model, count)` gives back symbols in the same order, `.finish()` raises
              `ValueError` unless that was all
"""

import importlib

from tfcomp.validation import invalid

CODERS = ("deflate", "ans", "huffman")


def named(name):
    """The coder of a name, imported when it is asked for: to export, `constriction` is not."""
    if name not in CODERS:
        raise invalid("coding", name, f"one of {list(CODERS)}")
    return importlib.import_module(f"tfcomp.storage.coders.{name}")
