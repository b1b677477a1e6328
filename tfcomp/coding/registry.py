"""The codings there are.

A coding is a module with

    NAME, ID            what it is called, and its number in the file
    PARTS               dict from the name of each part to "stream" or "record", in file order
    encode(array, stats=None) -> Coded or None where it does not apply
    decode(coded) -> array, raising ValueError on anything that `encode` cannot have made
"""

from tfcomp.coding import bitmap, gaps, palette, raw, scaled

CODINGS = {coding.NAME: coding for coding in (raw, palette, bitmap, gaps, scaled)}
BY_ID = {coding.ID: coding for coding in CODINGS.values()}
