"""The status of a run for people: text of 80 columns, drawn again and again in a terminal while the run goes on."""

import os
import re
import shutil
import sys
import textwrap
import time
from typing import Any, TextIO

from seamlessalign.pipelines.progress import clock
from seamlessalign.pipelines.status import StatusReader

WIDTH = 80
LOOK_SECONDS = 2.0
_MOST = 5  # shards of one kind that are shown
_SLOWEST = 3
_COLOURS = {"done": "32", "running": "36", "failed": "31", "stopped": "33", "waiting": "33"}
_HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR, _HIDE, _SHOW = "\x1b[2J", "\x1b[?25l", "\x1b[?25h"


def status_text(status: dict[str, Any], *, colours: bool = False) -> str:
    """The status for people, in lines of 80 columns where names allow it."""
    lines = [_headline(status, colours=colours)]
    if status["stages"]:
        lines.append(
            f"{'stage':<7} {'shards':>13} {'at work':>7} {'failed':>6} {'hours in':>9} {'kept':>9} {'shards/h':>9} "
            f"{'left':>9}"
        )
    lines += [_stage_line(stage, numbers) for stage, numbers in status["stages"].items()]
    for numbers in status["stages"].values():
        for table, counts in numbers["tables"].items():
            lines += _rows_lines(table, counts)
    lines += _shard_lines(status, "running", "at work")
    lines += _shard_lines(status, "failed", "failed")
    lines += _shard_lines(status, "lost", "begun and not ended")
    lines += _slowest_lines(status)
    lines += _error_lines(status)
    lines += _ends(status)
    return "\n".join(lines)


def watch(root: str, out: TextIO = sys.stdout) -> None:
    """Show the status anew every two seconds until the run ends or Ctrl-C; where nobody draws, when it is another."""
    reader, shown = StatusReader(root), ""
    is_screen = out.isatty()
    if is_screen:
        out.write(_CLEAR + _HIDE)
    try:
        while True:
            begun = time.monotonic()
            status = reader.read()
            if is_screen:  # the end of a long address tells more than its beginning
                status["run"] = root if len(root) <= WIDTH // 2 else f"…{root[1 - WIDTH // 2 :]}"
            text = status_text(status, colours=is_screen and has_colours())
            if is_screen:
                out.write(_drawn(text))
            elif text != shown:
                out.write(f"{text}\n\n")
            out.flush()
            shown = text
            if status["state"] not in ("running", "waiting"):
                return
            time.sleep(max(LOOK_SECONDS - (time.monotonic() - begun), 0.1))
    except KeyboardInterrupt:
        return
    finally:
        if is_screen:
            out.write(f"\n{_SHOW}")
            out.flush()


def has_colours() -> bool:
    """Whether a terminal is to have colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _drawn(text: str) -> str:
    """A text over what the screen has, cut to its size."""
    columns, rows = shutil.get_terminal_size((WIDTH, 24))
    lines = text.split("\n")
    if len(lines) >= rows:
        lines = [*lines[: max(rows - 2, 1)], "…"]
    return _HOME + "\n".join(_cut(line, columns) + _TO_LINE_END for line in lines) + _TO_SCREEN_END


def _cut(line: str, columns: int) -> str:
    """A line of so many columns at most, in which control sequences take none."""
    parts, left = re.split("(\x1b[^m]*m)", line), columns
    if sum(map(len, parts[::2])) <= columns:
        return line
    for number in range(0, len(parts), 2):
        part = parts[number]
        parts[number] = part if len(part) < left else f"{part[: left - 1]}…" if left else ""
        left -= len(parts[number])
    return "".join(parts)


def _headline(status: dict[str, Any], *, colours: bool) -> str:
    state, now, driver = status["state"], status["now"], status["driver"]
    shown = f"\x1b[1;{_COLOURS[state]}m{state}\x1b[0m" if colours else state
    line = f"{status['run']}: {shown}"
    if driver is not None:
        waits = f", waits in the queue: {driver['reason']}" if state == "waiting" else ""
        return f"{line}, driven by job {driver['job']}{waits}"
    if state != "running" or not now.get("host"):
        return line
    heard = status["heard_seconds"]
    return f"{line} on {now['host']}" + (f", heard {clock(heard)} ago" if heard is not None else "")


def _stage_line(stage: str, numbers: dict[str, Any]) -> str:
    done = f"{numbers['done']}/{numbers['shards']}"
    hours = [f"{numbers[name]:.3f}" if numbers["hours_in"] else "" for name in ("hours_in", "hours_kept")]
    recent, overall = numbers["speed"]["recent"], numbers["speed"]["overall"]
    speed = (recent or overall)["shards_per_hour"] or overall["shards_per_hour"]
    left = numbers["eta_seconds"]
    return (
        f"{stage} {done:>{20 - len(stage)}} {len(numbers['running']) or '':>7} {len(numbers['failed']) or '':>6} "
        f"{hours[0]:>9} {hours[1]:>9} {f'{speed:.1f}' if speed else '':>9} {clock(left) if left else '':>9}"
    ).rstrip()


def _rows_lines(table: str, counts: dict[str, Any]) -> list[str]:
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts["dropped"].items())
    text = f"{table}: {counts['rows_in']} in, {counts['rows_kept']} kept" + (f"; dropped: {reasons}" if reasons else "")
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def _shard_lines(status: dict[str, Any], kind: str, title: str) -> list[str]:
    found = [(stage, shard) for stage, numbers in status["stages"].items() for shard in numbers[kind]]
    lines = [f"{title}:"] if found else []
    for stage, shard in found[:_MOST]:
        place = f"on {shard.get('host')}, process {shard.get('process')}"
        job = f", job {shard['job']}" if shard.get("job") else ""
        since = f", {clock(shard['seconds'])}" if shard.get("seconds") is not None else ""
        lines.append(f"  {stage} {shard['shard']} {place}{job}{since}")
    if len(found) > _MOST:
        lines.append(f"  and {len(found) - _MOST} more")
    return lines


def _slowest_lines(status: dict[str, Any]) -> list[str]:
    found = [(stage, shard) for stage, numbers in status["stages"].items() for shard in numbers["slowest"]]
    found.sort(key=lambda one: -one[1]["wall_seconds"])
    lines = ["slowest:"] if found else []
    for stage, shard in found[:_SLOWEST]:
        lines.append(f"  {stage} {shard['shard']} {clock(shard['wall_seconds'])} on {shard['host']}")
    return lines


def _error_lines(status: dict[str, Any]) -> list[str]:
    lines = ["last errors:"] if status["errors"] else []
    for error in status["errors"]:
        later = {"done": ", done since", "running": ", being done again"}.get(error["later"], "")
        lines.append(f"  {error['time']} {error['stage']} {error['shard']}{later}")
        text = " ".join(str(error["error"]).split())
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
        lines.append(f"    log: {error['log']}")
    return lines


def _ends(status: dict[str, Any]) -> list[str]:
    """What is to be known or done besides."""
    lines, now, eta = [], status["now"], status["eta"]
    if eta and eta["unknown"]:
        known = f"{clock(eta['known_seconds'])} and " if eta["known_seconds"] else ""
        lines += textwrap.wrap(f"left: {known}what these take: {', '.join(eta['unknown'])}", WIDTH,
                               subsequent_indent="  ")  # fmt: skip
    if status["state"] == "failed":
        stage = f"stage {now['stage']} failed" if now.get("stage") else "failed"
        lines.append(f"{stage}: {now['error']}")
    if status["state"] == "stopped":
        lines.append("the same command goes on from here")
    if status["quarantined"]:
        is_rebuilt = "assemble" in status["stages"]
        what = (
            "lines or pairs could not be had: see missing.tsv"
            if is_rebuilt
            else "inputs could not be read: see quarantine/"
        )
        lines.append(f"{status['quarantined']} {what}")
    lines += [f"does not balance: {sentence}" for sentence in status["unbalanced"]]
    return lines
