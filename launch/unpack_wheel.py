#!/usr/bin/env python3
"""unpack_wheel.py WHEEL DEST: lays what a wheel installs beside Python (NAME.data/data) out as a prefix: bin, lib, ...

pip install --target leaves that part of a wheel out, and links and modes are kept here."""
import pathlib
import stat
import sys
import zipfile


def unpack(wheel: str, prefix: pathlib.Path) -> int:
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            _, data, name = member.filename.partition(".data/data/")
            if not data or member.is_dir():
                continue
            path = prefix / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                path.symlink_to(archive.read(member).decode())
            else:
                path.write_bytes(archive.read(member))
                path.chmod(stat.S_IMODE(mode) | 0o644)
            count += 1
    return count


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if unpack(sys.argv[1], pathlib.Path(sys.argv[2])) == 0:
        sys.exit(f"{sys.argv[1]}: holds nothing to lay out")
