"""The sdist of a release is found and fetched by pip, and left as it is.

A program: `python -m zdpatch.cli.pip_sdist NAME VERSION FOLDER`. `pip download` would run the build
backend of an sdist to learn its metadata. So only pip's finder and its session are used, which know
its settings for indexes, proxies and passwords; where pip has moved them, nothing is fetched.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any, Final

from zdpatch.cli.archives import ARCHIVES

MAX_DOWNLOAD: Final = 128 << 20  # bytes
TIMEOUT_S: Final = 60
_CHUNK: Final = 1 << 16


def main(name: str, version: str, folder: Path) -> str:
    """Fetch the sdist into `folder`; what went wrong, "" when nothing did."""
    command = _pip("commands.download").DownloadCommand("download", "")
    options, _ = command.parse_args(
        [
            *("--no-deps", "--no-input", "--no-binary=:all:", "--disable-pip-version-check"),
            *("--quiet", f"{name}=={version}"),
        ]
    )
    specifier = importlib.import_module("pip._vendor.packaging.specifiers").SpecifierSet
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        best = finder.find_best_candidate(name, specifier(f"=={version}")).best_candidate
        if best is None or not best.link.filename.endswith(ARCHIVES):
            return f"there is no sdist of {name} {version} for this Python"
        return _fetch(session, best.link, folder)


def _fetch(session: Any, link: Any, folder: Path) -> str:  # noqa: ANN401 - pip's own
    """Write what `link` names. It is checked against the hash that the index gives, if any."""
    answer = session.get(
        link.url_without_fragment,
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=TIMEOUT_S,
    )
    answer.raise_for_status()
    data = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        data += chunk
        if len(data) > MAX_DOWNLOAD:
            return f"{link.filename} is larger than {MAX_DOWNLOAD >> 20} MiB"
    if link.hash_name and hashlib.new(link.hash_name, data).hexdigest() != link.hash:
        return f"{link.filename} does not match the hash of the index"
    (folder / Path(link.filename).name).write_bytes(data)
    return ""


def _pip(module: str) -> Any:  # noqa: ANN401
    return importlib.import_module(f"pip._internal.{module}")


if __name__ == "__main__":
    try:
        trouble = main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except Exception as error:  # noqa: BLE001 - whatever pip raises is said, in its last line
        trouble = f"{type(error).__name__}: {error}"
    sys.exit(trouble or None)
