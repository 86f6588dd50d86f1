"""Recordings → segments with embeddings: decode, find speech, identify the language, over-segment, embed.

What a file gives is one `SpeechOutput`, whoever does it and whatever is done beside it.
"""

import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.audio import Audio, Decoding, decode, release
from seamlessalign.config import QualityConfig
from seamlessalign.embedders import SpeechEmbedder, load_speech_embedder
from seamlessalign.errors import UnreadableError
from seamlessalign.lid import UNKNOWN, SpeechLid, load_speech_lid
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.inputs import InputFile
from seamlessalign.pipelines.ledger import Tally
from seamlessalign.pipelines.look_ahead import Turn
from seamlessalign.pipelines.recordings import channels_of, open_recording
from seamlessalign.pipelines.span_counts import fragment_settings, spans_of
from seamlessalign.pipelines.span_filters import quality_reasons, sound_models
from seamlessalign.pipelines.span_languages import parts_by_language, span_languages
from seamlessalign.pipelines.stretch_rows import StretchRows
from seamlessalign.rows import SAMPLE_RATE, Recording, Segment, recording_id, segment_id
from seamlessalign.segmentation.dnsmos import MODEL as DNSMOS
from seamlessalign.segmentation.dnsmos import Dnsmos
from seamlessalign.segmentation.kept_scores import to_row
from seamlessalign.segmentation.quality import Quality, measure_fragments
from seamlessalign.segmentation.spans import Spans
from seamlessalign.segmentation.vad import FrameScores, fragments_of, speech_scores, vad_fingerprint
from seamlessalign.uncollected_imports import uncollected

STAGE = "speech"
STRETCH_SECONDS = 1200.0  # of audio, of which embeddings are kept by themselves
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass
class SpeechOutput:
    """What recordings gave: rows, what was dropped, and what that took."""

    recordings: list[Recording] = field(default_factory=list)
    segments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # rows by language
    embeddings: dict[str, list[Float32]] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)  # rows of `told_languages`
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    recordings_tally: Tally = field(default_factory=Tally)
    segments_tally: Tally = field(default_factory=Tally)
    bytes_read: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)

    def add(self, other: "SpeechOutput") -> None:
        """Add what later recordings gave."""
        self.recordings += other.recordings
        for lang, rows in other.segments.items():
            self.segments.setdefault(lang, []).extend(rows)
        for lang, embedded in other.embeddings.items():
            self.embeddings.setdefault(lang, []).extend(embedded)
        self.frames += other.frames
        self.told += other.told
        self.quarantine += other.quarantine
        self.recordings_tally.add(other.recordings_tally)
        self.segments_tally.add(other.segments_tally)
        self.bytes_read += other.bytes_read
        self.watch.add(other.watch.seconds)


class SpeechModels:
    """The models of a shard. Shards of a process share what is in memory, and so do its threads."""

    _loading = threading.Lock()

    def __init__(self, context: Context) -> None:
        """Nothing is loaded yet."""
        self._context = context
        self._lid: SpeechLid | None = None
        self._embedder: SpeechEmbedder | None = None

    def load(self) -> tuple[SpeechLid | None, SpeechEmbedder]:
        """The language identifier, None where the configuration states the language, and the embedder."""
        with self._loading, uncollected():
            if self._embedder is None:
                self._lid = _load_lid(self._context)
                self._embedder = _load_embedder(self._context)
            return self._lid, self._embedder

    def fingerprints(self) -> dict[str, str]:
        """Name and SHA-256 of every model that touches a segment."""
        lid, embedder = self.load()
        vad, vad_sha256 = vad_fingerprint(self._context.config.speech.vad.engine)
        models = {vad: vad_sha256, **({lid.name: lid.sha256} if lid else {}), **embedder.models}
        return models | sound_models(self._context.config)


def _load_lid(context: Context) -> SpeechLid | None:
    speech = context.config.speech
    if not speech.hears_languages:
        return None
    directory = context.model_directory(speech.lid.model)
    return load_speech_lid(speech.lid.model, directory, context.device, speech.lid.calibration)


def _load_embedder(context: Context) -> SpeechEmbedder:
    config = context.config
    return load_speech_embedder(
        config.speech.embedder, config.models, context.device, context.threads, config.speech.frames
    )


def _load_dnsmos(context: Context) -> Dnsmos | None:
    """DNSMOS; None where the configuration does not ask for it. Its network stays in memory when it is loaded."""
    if not context.config.speech.quality.rated:
        return None
    return Dnsmos(context.model_directory(DNSMOS), context.threads)


@dataclass(frozen=True)
class Recordings:
    """The recordings of a file, being done."""

    context: Context
    models: SpeechModels
    turn: Turn
    output: SpeechOutput
    stretches: StretchRows

    def do(self, file: InputFile) -> SpeechOutput:
        """Do a file; one that cannot be read is set aside. Raises what is not the file's fault, and Stopped."""
        config, output = self.context.config.speech.decode, self.output
        try:
            if file.problem is not None:
                raise UnreadableError(file.reason, file.problem)
            with _reading(file.uri), ExitStack() as stack:
                with output.watch.step("read"):
                    path, decoding = stack.enter_context(open_recording(file.uri, config, self.context.config.root))
                    size = path.stat().st_size
                    sha256 = storage.sha256_of(path)
                output.bytes_read += size
                with output.watch.step("decode"):
                    channels = channels_of(file.uri, path, decoding, config)
                for uri, channel in channels:
                    self.turn.check()
                    one, how = replace(file, uri=uri), replace(decoding, channel=channel)
                    self._do_recording(one, path, (sha256, recording_id(sha256, channel)), how)
        except UnreadableError as error:
            self._set_aside(file.uri, error)
        return output

    def _set_aside(self, uri: str, error: UnreadableError) -> None:
        self.output.recordings_tally.drop(error.reason, quarantined=True)
        self.output.quarantine.append({"uri": uri, "reason": error.reason, "detail": error.detail})

    def _do_recording(self, file: InputFile, path: Path, identity: tuple[str, str], decoding: Decoding) -> None:
        """One recording, of which `identity` is (SHA-256, id); a channel that cannot be read is set aside by itself."""
        output = self.output
        try:
            with _reading(file.uri), output.watch.step("decode"):
                audio = decode(path, decoding)
        except UnreadableError as error:
            self._set_aside(file.uri, error)
            return
        self.turn.holds(audio.samples.nbytes)
        try:
            recording = self._do_audio(audio, file, identity)
        finally:
            release(audio.samples)
        output.recordings.append(recording)
        if recording.drop_reason is None:
            output.recordings_tally.keep(samples=recording.num_samples)
        else:
            output.recordings_tally.drop(recording.drop_reason, samples=recording.num_samples)

    def _do_audio(self, audio: Audio, file: InputFile, identity: tuple[str, str]) -> Recording:
        """Segment one decoded recording; what it says of itself is returned, its segments go into the output."""
        context, output = self.context, self.output
        speech = context.config.speech
        with output.watch.step("vad"):
            scores = speech_scores(audio.samples, engine=speech.vad.engine, num_threads=context.threads)
            fragments = fragments_of(scores, **fragment_settings(speech.vad))
        if speech.vad.keep_probabilities:
            output.frames.append(to_row(identity[1], file.uri, scores))
        recording = Recording(
            recording_id=identity[1],
            uri=file.uri,
            sha256=identity[0],
            num_samples=len(audio.samples),
            original_sample_rate=audio.original_sample_rate,
            channels=audio.channels,
            lang=None,
            lang_prob=None,
            speech_samples=int((fragments[:, 1] - fragments[:, 0]).sum()),
            license=file.license,
            source=file.source,
            drop_reason=None,
        )
        return self._do_speech(recording, audio.samples, scores, fragments, file.lang)

    def _do_speech(
        self, recording: Recording, samples: Float32, scores: FrameScores, fragments: Int64, stated: str | None
    ) -> Recording:
        """What the models say: language, spans, embeddings. `stated`: the language that the input has it in."""
        context, output = self.context, self.output
        speech, watch = context.config.speech, output.watch
        with self.turn.second_part():
            with watch.step("load models"):
                lid, embedder = self.models.load()
            with watch.step("lid"):
                recording = _with_language(recording, samples, fragments, stated, context, lid)
                if speech.lid.check_stated and lid is not None and (stated or speech.lang) is not None:
                    output.told += _told(recording, samples, fragments, context, lid)
        if recording.drop_reason is not None:
            advance(STAGE, len(samples) / SAMPLE_RATE)
            return recording
        spans = spans_of(fragments, speech.spans)
        if not len(spans.spans):
            advance(STAGE, len(samples) / SAMPLE_RATE)
            return replace(recording, drop_reason="no_span")
        parts = [(recording, spans)]
        if speech.lid.per_segment and lid is not None and stated is None:
            with self.turn.second_part(), watch.step("lid"):
                parts = _spoken_parts(recording, spans, samples, fragments, context, lid, output)
        sums = None
        if speech.quality.wanted:
            with watch.step("quality"):
                sums = measure_fragments(samples, fragments, spans, scores, _load_dnsmos(context))
        for spoken, spans in parts:
            quality = None
            if sums is not None:
                spans, quality = _good_spans(spans, sums.of(spans), speech.quality, output)
                if not len(spans.spans):
                    advance(STAGE, len(samples) / SAMPLE_RATE)
                    continue
            with self.turn.second_part(), watch.step("embed"):
                rows = self._embed(samples, spans.spans, fragments, spoken, embedder)
            _add_segments(spoken, spans, fragments, rows, quality, output)
        return recording

    def _embed(
        self, samples: Float32, spans: Int64, fragments: Int64, recording: Recording, embedder: SpeechEmbedder
    ) -> Float32:
        """Embed in stretches that share no fragment, so that memory is bounded, and a kill costs one of them.

        Progress is told in seconds of audio.
        """
        lang, rows, cuts = str(recording.lang), [], _stretches(spans)
        lengths = fragments[:, 1] - fragments[:, 0]
        share = len(samples) / float(lengths.sum())

        def progress(seconds: float) -> None:
            self.turn.check()
            advance(STAGE, seconds * share)

        for first, last in cuts:
            these = spans[first:last]
            done = self.stretches.get(recording.recording_id, lang, these) if len(cuts) > 1 else None
            if done is None:
                done = embedder.embed(samples, these, lang, fragments, progress)
                if len(cuts) > 1:
                    self.stretches.put(recording.recording_id, lang, these, done)
            else:
                inside = (fragments[:, 0] >= these[:, 0].min()) & (fragments[:, 1] <= these[:, 1].max())
                progress(float(lengths[inside].sum()) / SAMPLE_RATE)
            rows.append(done)
            release(samples)
        return np.concatenate(rows)


def _spoken_parts(
    recording: Recording,
    spans: Spans,
    samples: Float32,
    fragments: Int64,
    context: Context,
    lid: SpeechLid,
    output: SpeechOutput,
) -> list[tuple[Recording, Spans]]:
    """The spans of a recording by language; those without one that is sure and wanted are counted as dropped."""
    config = context.config.speech.lid
    found = lid.stretches(samples, fragments, window_seconds=config.window_seconds, min_prob=config.min_prob)
    languages = span_languages(found, spans.fragments, context.config.speech_languages())
    for (start, end), language in zip(spans.spans.tolist(), languages, strict=True):
        if language.reason is not None:
            output.segments_tally.drop(language.reason, samples=end - start)
    return parts_by_language(recording, spans, languages)


def _good_spans(spans: Spans, quality: Quality, config: QualityConfig, output: SpeechOutput) -> tuple[Spans, Quality]:
    """The spans that are good enough, and what was measured of them; the others are counted as dropped."""
    reasons = quality_reasons(quality, config)
    for (start, end), reason in zip(spans.spans.tolist(), reasons, strict=True):
        if reason is not None:
            output.segments_tally.drop(reason, samples=end - start)
    good = np.array([reason is None for reason in reasons], np.bool_)
    return Spans(spans.spans[good], spans.fragments[good]), quality[good]


def _with_language(
    recording: Recording,
    samples: Float32,
    fragments: Int64,
    stated: str | None,
    context: Context,
    lid: SpeechLid | None,
) -> Recording:
    speech = context.config.speech
    if recording.speech_samples < SAMPLE_RATE // 2:
        return replace(recording, drop_reason="no_speech")
    lang, probability = stated or speech.lang, 1.0
    decision = None
    if lang is None and lid is not None:
        decision = lid.decide(
            samples,
            fragments,
            window_seconds=speech.lid.window_seconds,
            max_windows=speech.lid.max_windows,
            min_prob=speech.lid.min_prob,
        )
        lang, probability = decision.lang, decision.score
    recording = replace(recording, lang=lang, lang_prob=probability)
    if decision is not None and decision.mixed and speech.lid.drop_mixed:
        return replace(recording, drop_reason="language_mixed")
    if decision is not None and speech.lid.per_segment:
        return recording
    if lang not in context.config.speech_languages():
        return replace(recording, drop_reason="language_not_wanted")
    if decision is not None and decision.answer == UNKNOWN:
        return replace(recording, drop_reason="language_uncertain")
    return recording


def _told(
    recording: Recording, samples: Float32, fragments: Int64, context: Context, lid: SpeechLid
) -> list[dict[str, Any]]:
    """What a recording of stated language is told to be in, as a row of `told_languages`; none without speech."""
    if recording.drop_reason == "no_speech":
        return []
    lid_config = context.config.speech.lid
    decision = lid.decide(
        samples,
        fragments,
        window_seconds=lid_config.window_seconds,
        max_windows=lid_config.max_windows,
        min_prob=lid_config.min_prob,
    )
    return [
        {
            "recording_id": recording.recording_id,
            "uri": recording.uri,
            "stated": recording.lang,
            "told": decision.lang,
            "prob": decision.score,
            "sure": decision.answer != UNKNOWN,
            "speech_samples": recording.speech_samples,
        }
    ]


def _stretches(spans: Int64) -> list[tuple[int, int]]:
    """Ranges of spans, cut where no span goes across, each about STRETCH_SECONDS of audio long or longer."""
    reach = np.maximum.accumulate(spans[:, 1])
    stretches, first = [], 0
    for i in range(1, len(spans)):
        apart = spans[i, 0] >= reach[i - 1]
        if apart and spans[i, 0] - spans[first, 0] >= STRETCH_SECONDS * SAMPLE_RATE:
            stretches.append((first, i))
            first = i
    return [*stretches, (first, len(spans))]


def _add_segments(
    recording: Recording, spans: Spans, fragments: Int64, rows: Float32, quality: Quality | None, output: SpeechOutput
) -> None:
    lang = str(recording.lang)
    heard: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    ratios = spans.speech_ratio(fragments)
    measures: list[dict[str, float]] = [{}] * len(spans) if quality is None else quality.rows()
    for i, (start, end) in enumerate(spans.spans.tolist()):
        if not heard[i]:
            output.segments_tally.drop("no_words", samples=end - start)
            continue
        output.segments_tally.keep(samples=end - start)
        segment = Segment(
            segment_id=segment_id(recording.recording_id, start, end),
            recording_id=recording.recording_id,
            uri=recording.uri,
            start=start,
            end=end,
            lang=lang,
            lang_prob=float(recording.lang_prob or 0.0),
            speech_ratio=float(ratios[i]),
            num_fragments=int(spans.num_fragments[i]),
        )
        output.segments.setdefault(lang, []).append({**asdict(segment), **measures[i]})
    output.embeddings.setdefault(lang, []).append(rows[heard])


class _reading:
    """Turns an error of the file system under one input into one that sets this input aside."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise UnreadableError("missing", f"it went away: {error}") from error
        if isinstance(error, OSError):
            raise UnreadableError("unreadable", str(error.strerror or error)) from error
