"""Files written by `torch.save`: a zip archive of one pickle and the values of the tensors."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_langcore.exchange.pickled import read_pickle
from hf_langcore.exchange.stored import Stored, damaged

_PICKLE = "data.pkl"
_ORDER = "byteorder"
_LITTLE = b"little"
_LARGEST_PICKLE = 1 << 26
_MOST_MEMBERS = 1 << 17
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 1


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, as plain data; see `read_pickle`. The values of tensors are read when they are asked for.

    Raises:
        CoreMaskFormatError: It is no such file, is damaged, or asks for anything but tensors and plain data.
    """
    archive = _Archive.open(path)
    return read_pickle(archive.read(f"{archive.prefix}{_PICKLE}"), path, archive.storage)


@dataclass(frozen=True, slots=True)
class _Archive:
    """The members of an archive, each of which lies in the file as it is.

    Attributes:
        path: The file.
        prefix: What all names begin with.
        members: Name -> where it lies.
        last: The member that was read last: thousands of tensors may be parts of one.
    """

    path: Path
    prefix: str
    members: dict[str, zipfile.ZipInfo]
    last: dict[str, bytearray] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> _Archive:
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            damaged(path, error)
        members = {info.filename: info for info in infos}
        if len(members) != len(infos) or len(infos) > _MOST_MEMBERS:
            damaged(path, f"it has {len(infos):,} members of {len(members):,} names")
        pickles = [name for name in members if name.count("/") == 1 and name.endswith(f"/{_PICKLE}")]
        if len(pickles) != 1:
            damaged(path, f"it was not written by torch.save (expected one {_PICKLE}, found {len(pickles)})")
        cls._require_plain(path, members)
        if members[pickles[0]].file_size > _LARGEST_PICKLE:
            damaged(path, f"its pickle is larger than {_LARGEST_PICKLE >> 20} MiB")
        prefix = pickles[0].removesuffix(_PICKLE)
        opened = cls(path, prefix, members)
        order = f"{prefix}{_ORDER}"
        if order in members and opened.read(order) != _LITTLE:
            damaged(path, "it was written by a big-endian machine; save it again on another one")
        return opened

    @staticmethod
    def _require_plain(path: Path, members: dict[str, zipfile.ZipInfo]) -> None:
        """Compressed members could be of any size; torch.save writes none."""
        length = path.stat().st_size
        for name, info in members.items():
            is_plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
            if not is_plain or info.flag_bits & _ENCRYPTED or info.header_offset + info.file_size > length:
                damaged(path, f"its member {name!r} is compressed, encrypted or larger than the file")

    def read(self, name: str) -> bytearray:
        """The bytes of a member, checked."""
        if name in self.last:
            return self.last[name]
        info = self.members[name]
        content = bytearray(info.file_size)
        try:
            with self.path.open("rb") as file:
                file.seek(info.header_offset)
                magic, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                file.seek(name_length + extra_length, 1)
                count = file.readinto(content)
        except (OSError, struct.error) as error:
            damaged(self.path, error)
        if magic != _LOCAL_MAGIC or count != len(content) or zlib.crc32(content) != info.CRC:
            damaged(self.path, f"its member {name!r} was truncated or altered")
        self.last.clear()
        self.last[name] = content
        return content

    def storage(self, dtype: torch.dtype, key: str, numel: int) -> _Storage:
        """The values with a key, after checking that they are there and as many as the pickle says."""
        name = f"{self.prefix}data/{key}"
        if name not in self.members:
            damaged(self.path, f"the values {key!r} of a tensor are missing")
        if self.members[name].file_size != numel * dtype.itemsize:
            damaged(self.path, f"a tensor declares {numel:,} values and the file holds another number of them")
        return _Storage(self, name, dtype, numel)


@dataclass(frozen=True, slots=True)
class _Storage:
    archive: _Archive
    name: str
    dtype: torch.dtype
    numel: int

    def view(self, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Stored:
        def load() -> torch.Tensor:
            if not self.numel:
                return torch.empty(shape, dtype=self.dtype)
            values = torch.frombuffer(self.archive.read(self.name), dtype=self.dtype)
            return values.as_strided(shape, stride, offset)

        return Stored(shape, self.dtype, load)
