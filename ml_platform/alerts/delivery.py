"""Empties the outbox into the sinks, so that a dead one loses nothing and holds up no other.

Concept: each sink has its own queue. A delivery tries what is due, in the order of events, and stops at the first sign
that the sink does not work; the next attempt waits, exponentially longer, with jitter. A message that a working sink
refuses waits alone, together with what comes later of the same alert.

Invariants:
- At least once: a message is marked after it was sent, so a sender killed in between sends it again, under the same
  dedup key. Two deliveries at the same time may both send; the receiver's key makes it one.
- More than STORM messages due to one sink at once are told as one digest.
- Nothing that a sink does raises: the report says it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.outbox import Outbox, Pending
from ml_platform.alerts.records import Notification, in_utc
from ml_platform.alerts.sinks import MessageRefused, Sink, SinkDown
from ml_platform.alerts.text import clean
from ml_platform.errors import ConfigurationError
from ml_platform.killpoints import kill_point

STORM = 20  # messages
FIRST_WAIT_SECONDS = 10
LONGEST_WAIT_SECONDS = 900


@dataclass(frozen=True)
class SinkReport:
    """What one sink took in a delivery, what still waits (counted in notifications), and why."""

    sink: str
    delivered: int
    pending: int
    cause: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True)
class DeliveryReport:
    """One report a sink, in the order they were given."""

    sinks: tuple[SinkReport, ...]

    @property
    def delivered(self) -> int:
        return sum(report.delivered for report in self.sinks)

    @property
    def pending(self) -> int:
        return sum(report.pending for report in self.sinks)

    @property
    def failures(self) -> dict[str, str]:
        """Sink to cause, for those that did not take all."""
        return {report.sink: report.cause for report in self.sinks if report.cause}


def deliver(book: AlertBook, sinks: Sequence[Sink], now: datetime) -> DeliveryReport:
    """Sends every sink what is due to it at `now` (an instant with a zone); never raises for a sink's failure."""
    now = in_utc(now, "delivery")
    names = [sink.name for sink in sinks]
    if len(set(names)) < len(names):
        raise ConfigurationError("two sinks have one name", where=", ".join(names), next_step="name each differently")
    book.outbox.join(names)
    return DeliveryReport(tuple(_deliver_to(book.outbox, sink, now) for sink in sinks))


def _deliver_to(outbox: Outbox, sink: Sink, now: datetime) -> SinkReport:
    state = outbox.states()[sink.name]
    if not _due(state.next_attempt_at, now):
        return SinkReport(sink.name, 0, outbox.count(sink.name), state.cause, state.next_attempt_at)
    delivered, cause, next_attempt_at, waiting = 0, None, None, set()
    for pending in _messages(outbox, sink.name, now):
        if pending.alert_ids & waiting or not _due(pending.next_attempt_at, now):
            waiting |= pending.alert_ids
            continue
        try:
            sink.send(pending.message)
        except MessageRefused as refusal:
            cause, next_attempt_at = clean(str(refusal)), now + _wait(pending.attempts)
            outbox.refused(sink.name, pending, cause, next_attempt_at)
            waiting |= pending.alert_ids
        except (
            Exception
        ) as failure:  # a sink is another's code and another's service: whatever it does, the others go on
            cause, wait = _cause(failure), _wait(state.attempts, getattr(failure, "retry_after_seconds", None))
            next_attempt_at = now + wait
            outbox.down(sink.name, state.attempts + 1, cause, next_attempt_at)
            break
        else:
            kill_point("alerts.sent")
            outbox.delivered(sink.name, pending, now)
            kill_point("alerts.delivered")
            delivered += len(pending.notifications)
    return SinkReport(sink.name, delivered, outbox.count(sink.name), cause, next_attempt_at)


def _messages(outbox: Outbox, sink: str, now: datetime) -> list[Pending]:
    """What waits for a sink in the order of events, a storm of what is due folded into one digest."""
    pending, loose, waiting = outbox.pending(sink), [], set()
    for one in pending:
        if not _due(one.next_attempt_at, now):
            waiting |= one.alert_ids
        elif isinstance(one.message, Notification) and not one.alert_ids & waiting:
            loose.append(one)
    if len(loose) <= STORM:
        return pending
    digest = outbox.fold(sink, loose)
    folded = {one.message.dedup_key for one in loose}
    apart = [one for one in pending if one.message.dedup_key not in folded]
    return sorted([*apart, digest], key=lambda one: one.notifications[0].number)


def _due(next_attempt_at: datetime | None, now: datetime) -> bool:
    """An attempt further ahead than any wait was set by a clock that has moved back since: it is due too."""
    longest = timedelta(seconds=LONGEST_WAIT_SECONDS)
    return next_attempt_at is None or not now < next_attempt_at <= now + longest


def _wait(attempts: int, at_least_seconds: float | None = None) -> timedelta:
    """Twice as long after each failed attempt, up to a bound; the jitter keeps many senders from coming at once."""
    seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(attempts, 16)) * random.uniform(0.5, 1)
    return timedelta(seconds=min(LONGEST_WAIT_SECONDS, max(seconds, at_least_seconds or 0)))


def _cause(failure: Exception) -> str:
    return clean(failure.what if isinstance(failure, SinkDown) else f"{type(failure).__name__}: {failure}")
