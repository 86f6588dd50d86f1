"""Run the blocks of documents, page by page, in a folder where what they speak of is there; one process for all.

    python -m tests.pipelines.documents.run_blocks FOLDER RESULTS.json PAGE …

RESULTS.json has for each block what it said, why it failed if it did, and the processor seconds that it took.
"""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.pipelines.documents import world
from tests.pipelines.documents.blocks import Block, arguments_of, blocks_of


def main(folder: str, results: str, *pages: str) -> None:
    """Run all blocks of some pages."""
    os.chdir(folder)
    done: dict[str, dict[str, Any]] = {}
    for page in map(Path, pages):
        names: dict[str, Any] = {}
        if prepare := world.PREPARED.get(page.name):
            names = prepare(Path(folder)) or {}
        blocks = blocks_of(page)
        write_files(blocks)
        for block in blocks:
            begun = time.process_time()
            if (told := run_block(block, names)) is not None:
                done[str(block)] = {**told, "seconds": time.process_time() - begun}
                Path(results).write_text(json.dumps(done, indent=1))


def write_files(blocks: list[Block]) -> None:
    """Write the files that blocks show: those whose first line is a comment with the name of one."""
    for block in blocks:
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)


def run_block(block: Block, names: dict[str, Any]) -> dict[str, Any] | None:
    """Run one block; None where it is none to be run. `names`: what Python blocks of the page know of."""
    if block.not_run is not None:
        return None
    if block.language not in ("sh", "python"):
        return None
    said = io.StringIO()
    failed = None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), names)
            else:
                for command in block.commands:
                    run_command(command, block.run_with)
        except BaseException:  # noqa: BLE001 - SystemExit too: all is told by the test
            failed = traceback.format_exc()
    return {"said": said.getvalue(), "failed": failed}


def run_command(command: str, more: list[str]) -> None:
    """Run one line of shell. Raises RuntimeError where it fails."""
    if re.match(r"(pip|apt|apt-get) ", command):
        return  # that there are such extras is a test of its own
    if not command.startswith("seamlessalign ") or re.search(r"&&|[|><;]", command):
        done = subprocess.run(["bash", "-ec", command], env=world.environment(), capture_output=True, text=True)
        print(done.stdout, done.stderr)
        if done.returncode:
            raise RuntimeError(f"{command}: status {done.returncode}")
        return
    from seamlessalign.cli import main as program

    for arguments in arguments_of(_expanded(command)):
        arguments = _smaller(arguments, more)
        status = program(arguments)
        if status:
            raise RuntimeError(f"seamlessalign {shlex.join(arguments)}: status {status}")


def _smaller(arguments: list[str], more: list[str]) -> list[str]:
    """A command with keys that make it small; what is behind `--` stays there."""
    if arguments[0] == "filter" and "--min-precision" in arguments:
        return [*arguments, *world.SMALL_FILTER]
    if arguments[0] not in ("run", "train", "evaluate"):
        return arguments
    at = arguments.index("--") if "--" in arguments else len(arguments)
    keys = [*(world.SMALL_RUN if arguments[0] == "run" else []), *more]
    return [*arguments[:at], *keys, *arguments[at:]]


def _expanded(command: str) -> str:
    """With the names of files in place of patterns that no quotes protect, as a shell has it."""

    def names(pattern: re.Match[str]) -> str:
        return shlex.join(sorted(map(str, Path().glob(pattern[0])))) or pattern[0]

    return re.sub(r"(?<![^\s])[^\s'\"=]*\*[^\s'\"=]*(?![^\s])", names, command)


if __name__ == "__main__":
    main(*sys.argv[1:])
