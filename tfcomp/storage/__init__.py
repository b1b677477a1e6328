"""Storage: a tensor as few bytes, and back, bit for bit; a model in one file.

    forms/       which symbols a tensor becomes: positions of non-zeros, palette, scales per channel
    coders/      which bits the symbols become: DEFLATE, ANS, Huffman
    choose.py    the smallest form of a tensor for a coder
    record.py    a tensor in a form under a coder as bytes
    packed.py    a tensor under DEFLATE as streams that TensorFlow decodes, and how small it is
    estimate.py  how small it is about, from a part of it
    archive/     one file for a whole model: what `tfcomp.save` writes and `tfcomp.load` reads
    replace.py   a file or folder that is replaced as a whole or not at all

Every form works under every coder. `tfcomp.export` takes those under DEFLATE that TensorFlow's ops
decode when a SavedModel is loaded; the archive takes ANS or Huffman codes. Below all of that are
patterns.py (elements as unsigned integers), distinct.py (which values there are), stream.py
(integers under zlib) and reader.py (bytes that may be damaged).
"""

from tfcomp.storage.packed import Description, describe, streams
from tfcomp.storage.record import decode, encode

__all__ = ["Description", "decode", "describe", "encode", "streams"]
