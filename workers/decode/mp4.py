"""Fragmented MP4 for one H.264 track without B-frames: a header once, then one self-contained fragment for each block.

Written by hand because the usual muxers hold a fragment back until the next one begins, which would cost a block of
delay. Boxes are those of ISO/IEC 14496-12 (base media file format) and, for avc1 and avcC, ISO/IEC 14496-15.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from longtake.core.errors import InternalFault, InvalidField

# Ticks for each unit of fps.numerator: players dislike a clock of a few ticks a second.
_CLOCK_FACTOR = 1000
_U32 = 1 << 32
_TRACK = 1
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED_LANGUAGE = 0x55C4  # "und" in three packed letters of five bits

# Sample flags (14496-12, 8.8.3.1): depends on no other sample; or depends on others and is not a sync sample.
_KEY_SAMPLE = 0x02000000
_OTHER_SAMPLE = 0x01010000

_NAL_SLICE, _NAL_IDR, _NAL_SPS, _NAL_PPS = 1, 5, 7, 8
_PROFILES_WITHOUT_CHROMA_FIELDS = (66, 77, 88)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSets:
    """What a decoder must know before the first picture: sequence and picture parameter set, without start codes."""

    sps: bytes
    pps: bytes

    @property
    def codec(self) -> str:
        """The codec as a browser's Media Source Extensions ask for it, for example avc1.64000a (RFC 6381)."""
        return f"avc1.{self.sps[1:4].hex()}"


def nal_units(annex_b: bytes) -> list[bytes]:
    """Split an Annex B byte stream at its start codes (ISO/IEC 14496-10, annex B)."""
    # Zeros before a start code belong to the start code: no NAL unit ends in a zero byte.
    return [unit for part in re.split(b"\x00\x00\x01", annex_b) if (unit := part.rstrip(b"\x00"))]


def parameter_sets(extradata: bytes) -> ParameterSets:
    """The parameter sets an encoder announces. InternalFault unless there is one of each."""
    by_type: dict[int, list[bytes]] = {}
    for unit in nal_units(extradata):
        by_type.setdefault(unit[0] & 31, []).append(unit)
    sps, pps = by_type.get(_NAL_SPS, []), by_type.get(_NAL_PPS, [])
    if len(sps) != 1 or len(pps) != 1:
        raise InternalFault(f"H.264 encoder announced {len(sps)} SPS and {len(pps)} PPS, allowed: one of each")
    return ParameterSets(sps=sps[0], pps=pps[0])


def sample(annex_b: bytes) -> bytes:
    """One picture as an MP4 sample: its slices with lengths in front, without what the encoder says about itself."""
    slices = [unit for unit in nal_units(annex_b) if unit[0] & 31 in (_NAL_SLICE, _NAL_IDR)]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in slices)


def is_key(sample_bytes: bytes) -> bool:
    """Whether a sample starts with an IDR slice, so that decoding can begin there."""
    return len(sample_bytes) > 4 and sample_bytes[4] & 31 == _NAL_IDR


def check_rate(fps: Fraction) -> None:
    """Refuse a rate the 32-bit clock cannot hold (InvalidField)."""
    if fps <= 0 or max(fps.numerator, fps.denominator) * _CLOCK_FACTOR >= _U32:
        allowed = f"a positive fraction of integers below {_U32 // _CLOCK_FACTOR}"
        raise InvalidField("video.fps", str(fps), allowed)


def header(*, width: int, height: int, fps: Fraction, sets: ParameterSets) -> bytes:
    """The `ftyp` and `moov` boxes that a player needs once, before any fragment."""
    timescale = fps.numerator * _CLOCK_FACTOR
    ftyp = _box(b"ftyp", b"iso6", struct.pack(">I", 0), b"iso6", b"mp41")
    mvhd = _full_box(
        b"mvhd",
        struct.pack(">4I", 0, 0, timescale, 0),
        struct.pack(">IH10x", 0x10000, 0x100),
        _MATRIX,
        struct.pack(">24xI", _TRACK + 1),
    )
    trex = _full_box(b"trex", struct.pack(">5I", _TRACK, 1, fps.denominator * _CLOCK_FACTOR, 0, _OTHER_SAMPLE))
    trak = _track(width, height, timescale, sets)
    return ftyp + _box(b"moov", mvhd, trak, _box(b"mvex", trex))


def fragment(*, samples: Sequence[bytes], first_picture: int, fps: Fraction) -> bytes:
    """The `moof` and `mdat` boxes of consecutive pictures, the first of them a key picture.

    Its time follows from the number of its first picture alone, and so does its sequence number, which grows from
    fragment to fragment (not by one: it is also the picture's number plus one).
    """
    duration = fps.denominator * _CLOCK_FACTOR
    mfhd = _full_box(b"mfhd", struct.pack(">I", (first_picture + 1) % _U32))
    tfhd_flags = 0x020000 | 0x000008 | 0x000020  # default-base-is-moof, default duration, default flags
    tfhd = _full_box(b"tfhd", struct.pack(">3I", _TRACK, duration, _OTHER_SAMPLE), flags=tfhd_flags)
    tfdt = _full_box(b"tfdt", struct.pack(">Q", first_picture * duration), version=1)
    sizes = struct.pack(f">{len(samples)}I", *(len(s) for s in samples))

    def moof(data_offset: int) -> bytes:
        run = struct.pack(">IiI", len(samples), data_offset, _KEY_SAMPLE) + sizes
        trun_flags = 0x000001 | 0x000004 | 0x000200  # data offset, first sample's flags, sample sizes
        return _box(b"moof", mfhd, _box(b"traf", tfhd, tfdt, _full_box(b"trun", run, flags=trun_flags)))

    # The offset counts from the start of moof to the first byte of data inside mdat.
    return moof(len(moof(0)) + 8) + _box(b"mdat", *samples)


def _track(width: int, height: int, timescale: int, sets: ParameterSets) -> bytes:
    tkhd = _full_box(
        b"tkhd",
        struct.pack(">5I8x4H", 0, 0, _TRACK, 0, 0, 0, 0, 0, 0),
        _MATRIX,
        struct.pack(">2I", width << 16, height << 16),
        flags=0x000003,  # enabled, in movie
    )
    mdhd = _full_box(b"mdhd", struct.pack(">4I2H", 0, 0, timescale, 0, _UNDETERMINED_LANGUAGE, 0))
    hdlr = _full_box(b"hdlr", struct.pack(">I4s12x", 0, b"vide"), b"video\x00")
    vmhd = _full_box(b"vmhd", bytes(8), flags=1)
    dinf = _box(b"dinf", _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1)))
    empty_tables = [
        _full_box(b"stts", bytes(4)),
        _full_box(b"stsc", bytes(4)),
        _full_box(b"stsz", bytes(8)),
        _full_box(b"stco", bytes(4)),
    ]
    stsd = _full_box(b"stsd", struct.pack(">I", 1), _avc1(width, height, sets))
    minf = _box(b"minf", vmhd, dinf, _box(b"stbl", stsd, *empty_tables))
    return _box(b"trak", tkhd, _box(b"mdia", mdhd, hdlr, minf))


def _avc1(width: int, height: int, sets: ParameterSets) -> bytes:
    sps, pps = sets.sps, sets.pps
    avcc = [
        bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1)),  # lengths of 4 bytes, one SPS
        struct.pack(">H", len(sps)) + sps + b"\x01" + struct.pack(">H", len(pps)) + pps,
    ]
    if sps[1] not in _PROFILES_WITHOUT_CHROMA_FIELDS:
        avcc.append(bytes((0xFC | 1, 0xF8, 0xF8, 0)))  # 4:2:0, 8 bits, no SPS extension
    visual = [
        struct.pack(">6xH16x2H", 1, width, height),
        struct.pack(">3IH", 0x480000, 0x480000, 0, 1),  # 72 dpi, one picture per sample
        struct.pack(">32xHh", 0x18, -1),
    ]
    return _box(b"avc1", *visual, _box(b"avcC", *avcc))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
