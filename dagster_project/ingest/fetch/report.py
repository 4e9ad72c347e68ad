"""What a fetch tells about itself: per stream and as a whole, in success and in failure."""

from __future__ import annotations

from dataclasses import dataclass, field

from dagster_project.ingest.errors import SourceError, TransientSourceError


@dataclass(slots=True)
class StreamFetch:
    """What one stream's fetch did."""

    objects: int = 0
    """Rows landed by this fetch."""
    bytes: int = 0
    """Of the landed objects, as received."""
    records: int = 0
    """As far as the fetcher counts them."""
    requests: int = 0
    """Sent, tries and redirects included."""
    retries: int = 0
    not_found: int = 0
    unchanged: int = 0
    """Objects that the source says, or their hash shows, are what they were."""
    seconds: float = 0.0
    resumed: bool = False
    """Whether it went on where an interrupted fetch stopped."""
    sealed: bool = False
    batch_id: int | None = None
    left: int = 0
    """Batches that wait for their load, for which the source wasn't asked."""
    error: str | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class FetchReport:
    """What one fetch of a source did."""

    source: str
    streams: dict[str, StreamFetch] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> dict[str, str]:
        """The streams that failed, with the reason."""
        return {name: stream.error for name, stream in self.streams.items() if stream.error is not None}

    @property
    def objects(self) -> int:
        """Rows landed, over all streams."""
        return sum(stream.objects for stream in self.streams.values())


class FetchFailed(SourceError):
    """Streams of a source failed for good; the others are landed and sealed."""

    def __init__(self, report: FetchReport) -> None:
        self.report = report
        super().__init__(_what_failed(report))


class FetchInterrupted(TransientSourceError):
    """Streams of a source failed in a way that may pass: the next fetch goes on where they stopped."""

    def __init__(self, report: FetchReport) -> None:
        self.report = report
        super().__init__(_what_failed(report))


def _what_failed(report: FetchReport) -> str:
    failed = report.failed
    others = [name for name in report.streams if name not in failed]
    lines = [f"{report.source}.{name}: {error}" for name, error in failed.items()]
    if others:
        lines.append(f"(fetched: {', '.join(others)})")
    return "\n".join(lines)
