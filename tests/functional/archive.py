"""Small APT archives on this machine. APT reads them in milliseconds, and Debian's in seconds."""

import collections.abc
import contextlib
import hashlib
import os
import pathlib
import subprocess
import unittest.mock


def create(folder: pathlib.Path) -> str:
    """Make an archive of the .deb files in a folder, and return its line for sources.list."""
    stanzas = ""
    for deb in folder.glob("*.deb"):
        command = ["dpkg-deb", "--field", str(deb)]
        control = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        stanzas += f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
        stanzas += f"SHA256: {digest}\n\n"
    (folder / "Packages").write_text(stanzas)
    return f"deb [trusted=yes] file:{folder} ./\n"


@contextlib.contextmanager
def used(sources: str, folder: pathlib.Path) -> collections.abc.Generator[None]:
    """Make APT use only the archive of a line for sources.list, and preferences in a folder."""
    (folder / "sources.list").write_text(sources)
    (folder / "lists").mkdir()
    (folder / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::Etc::preferences "{folder}/preferences";\n'
        f'Dir::State::lists "{folder}/lists";\n'
        'Acquire::Retries "0";\n'
        'APT::Sandbox::User "root";\n'
    )
    with unittest.mock.patch.dict(os.environ, APT_CONFIG=str(folder / "apt.conf")):
        yield
