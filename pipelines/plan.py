"""What a run would do: shown by `--dry-run`."""

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.local import share_out
from seamlessalign.pipelines.run import plan_inputs


def plan_text(config: RunConfig) -> str:
    """Inputs, shards, languages, directions and workers, for people."""
    recordings, texts = plan_inputs(config)
    workers = share_out(config.resources)
    return "\n".join(
        [
            f"run        {config.name} → {config.output or '(give --output)'}",
            f"recordings {_described(recordings)}",
            f"texts      {_described(texts)}",
            f"languages  audio {', '.join(config.speech_languages())}; text {', '.join(config.text_languages())}",
            f"directions {', '.join(config.directions)}",
            f"mining     k {config.mining.k}, margin {config.mining.margin}, strategy {config.mining.strategy}, "
            f"threshold {config.mining.threshold}",
            f"workers    {workers.processes} processes of {workers.threads} threads on {workers.device}",
        ]
    )


def _described(shards: list[Shard]) -> str:
    files = {file.uri: file for shard in shards for file in shard.files}.values()
    good = [file for file in files if file.problem is None]
    size = sum(storage.size(file.uri) for file in good)
    missing = f", {len(files) - len(good)} cannot be found" if len(good) < len(files) else ""
    return f"{len(good)} files, {size / 2**20:.1f} MiB, in {len(shards)} shards{missing}"
