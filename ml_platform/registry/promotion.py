"""The rules of promotion and rollback; the ledger only keeps what they decide.

Rules:
- A version becomes champion on the newest verdict on its own artifact digest, with the bundle still as it was judged.
- Every gate of the spec has to have passed in that verdict. To them come two gates of the ledger's own:
  `judged_against_champion` (the verdict compared with the champion that reigns now, not with an earlier one) and
  `not_rolled_back` (nobody took this very version back out of service), so that automation never undoes a rollback.
- A failed gate is passed only with a waiver that names it, a person, a reason and a last day, kept in the entry.
- Promoting the reigning champion changes nothing and says so.
- Rollback returns to the champion before; it needs a reason and no verdict, for that version has served already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import (
    Entry,
    ModelVersion,
    PromotionRefused,
    RecordedVerdict,
    RollbackRefused,
    Waiver,
)

JUDGED_AGAINST_CHAMPION = "judged_against_champion"
NOT_ROLLED_BACK = "not_rolled_back"

ReadDigest = Callable[[ModelVersion], str]
"""Opens the bundle at `version.bundle_uri`, verifies its files, and returns its digest."""


@dataclass(frozen=True)
class Outcome:
    """What was done. `entry` is the ledger entry now in force; `kept` means that the version already was champion."""

    action: Literal["promoted", "rolled_back", "kept"]
    champion: ModelVersion
    entry: Entry


def promote(
    ledger: Ledger,
    model: str,
    version: int,
    *,
    gates: Sequence[str],
    who: str,
    reason: str,
    today: date,
    read_digest: ReadDigest,
    waivers: Sequence[Waiver] = (),
) -> Outcome:
    """Makes a version champion if the rules allow it. `gates` are the names of the spec's gates.

    Raises PromotionRefused, PromotionConflict, UnknownVersion, and what `read_digest` raises for a damaged bundle.
    """
    candidate = ledger.version(model, version)
    history = ledger.history(model)
    if history and history[-1].to_version == version:
        return Outcome("kept", candidate, history[-1])
    _demand_attribution(candidate, who, reason)
    verdict = decide(candidate, ledger.verdict(model, version), history, gates, waivers, today)
    _demand_same_bundle(candidate, read_digest)
    entry = ledger.append(
        model,
        "promote",
        version,
        history[-1] if history else None,
        who=who,
        reason=reason,
        evidence_digest=verdict.digest,
        waivers=waivers,
    )
    return Outcome("promoted", candidate, entry)


def decide(
    candidate: ModelVersion,
    verdict: RecordedVerdict | None,
    history: Sequence[Entry],
    gates: Sequence[str],
    waivers: Sequence[Waiver],
    today: date,
) -> RecordedVerdict:
    """The verdict on which `candidate` may become champion. Raises PromotionRefused. Pure."""
    where = f"{candidate.model} version {candidate.version}"
    if verdict is None:
        raise PromotionRefused(
            "the version has no verdict", where=where, next_step=f"materialise models/{candidate.model}/evaluation"
        )
    if verdict.artifact_digest != candidate.bundle_digest:
        raise PromotionRefused(
            f"the verdict is of artifact {verdict.artifact_digest}, the version is {candidate.bundle_digest}",
            where=where,
            next_step=f"materialise models/{candidate.model}/evaluation for this version",
        )
    failed = failed_gates(candidate, verdict, history, gates)
    _demand_valid_waivers(waivers, failed, today, where)
    uncovered = tuple(gate for gate in failed if gate not in {waiver.gate for waiver in waivers})
    if uncovered:
        raise PromotionRefused(
            f"failed: {'; '.join(f'{gate} ({failed[gate]})' for gate in uncovered)}",
            where=where,
            next_step=_remedy(uncovered, candidate),
            gates=uncovered,
        )
    return verdict


def failed_gates(
    candidate: ModelVersion, verdict: RecordedVerdict, history: Sequence[Entry], gates: Sequence[str]
) -> dict[str, str]:
    """Each gate that stands in the way, with why: the spec's, those the verdict adds, and the ledger's own two."""
    failed: dict[str, str] = {}
    for gate in dict.fromkeys([*gates, *verdict.gates]):
        if gate not in verdict.gates:
            failed[gate] = "the verdict does not speak of it"
        elif not verdict.gates[gate]:
            failed[gate] = "refused by the verdict"
    champion = history[-1].to_version if history else None
    if verdict.champion_version != champion:
        judged = f"version {verdict.champion_version}" if verdict.champion_version else "no champion"
        failed[JUDGED_AGAINST_CHAMPION] = f"judged against {judged}, the champion is version {champion}"
    departures = [entry for entry in history if entry.from_version == candidate.version]
    if departures and departures[-1].action == "rollback":
        left = departures[-1]
        failed[NOT_ROLLED_BACK] = f"taken out of service by {left.who}: {left.reason}"
    return failed


def rollback(
    ledger: Ledger,
    model: str,
    *,
    who: str,
    reason: str,
    read_digest: ReadDigest,
    to_version: int | None = None,
) -> Outcome:
    """Makes the champion before the present one, or a named earlier champion, champion again.

    Raises RollbackRefused, PromotionConflict, and what `read_digest` raises for a damaged bundle.
    """
    history = ledger.history(model)
    target = ledger.version(model, _rollback_target(model, history, to_version))
    if target.version == history[-1].to_version:
        return Outcome("kept", target, history[-1])
    _demand_attribution(target, who, reason)
    _demand_same_bundle(target, read_digest)
    evidence = next(entry.evidence_digest for entry in reversed(history) if entry.to_version == target.version)
    entry = ledger.append(
        model, "rollback", target.version, history[-1], who=who, reason=reason, evidence_digest=evidence
    )
    return Outcome("rolled_back", target, entry)


def opponent(ledger: Ledger, candidate: ModelVersion) -> ModelVersion | None:
    """Whom a version is judged against: the champion; for the champion itself, the one before it in line, if any.

    So evaluating a champion again compares it as before, and never with itself, whom it cannot beat.
    """
    line = reigns(ledger.history(candidate.model))
    if line and line[-1] == candidate.version:
        line.pop()
    return ledger.version(candidate.model, line[-1]) if line else None


def reigns(history: Sequence[Entry]) -> list[int]:
    """The line of champions, the present one last: promotion adds to it, rollback cuts it back to its target.

    So a second rollback goes one further back, never forward to the version just taken out of service.
    """
    line: list[int] = []
    for entry in history:
        if entry.action == "rollback" and entry.to_version in line:
            while line[-1] != entry.to_version:
                line.pop()
        else:
            line.append(entry.to_version)
    return line


def previous_champion(model: str, history: Sequence[Entry]) -> int:
    """The version that a plain rollback returns to. Raises RollbackRefused when there is none."""
    line = reigns(history)
    if len(line) < 2:
        state = f"version {line[0]} is its first champion" if line else "it has no champion"
        raise RollbackRefused(
            f"{model} has nothing to roll back to: {state}",
            where=f"ledger of {model}",
            next_step="promote another version: `mlp promote`",
        )
    return line[-2]


def _rollback_target(model: str, history: Sequence[Entry], named: int | None) -> int:
    if named is None:
        return previous_champion(model, history)
    served = sorted({entry.to_version for entry in history})
    if named not in served:
        raise RollbackRefused(
            f"version {named} of {model} was never champion (those that were: {served or 'none'})",
            where=f"ledger of {model}",
            next_step=f"name one of those, or promote it: `mlp promote {model} {named}`",
        )
    return named


def _demand_attribution(version: ModelVersion, who: str, reason: str) -> None:
    if not who.strip() or not reason.strip():
        raise PromotionRefused(
            "a change of champion names who makes it and why",
            where=f"{version.model} version {version.version}",
            next_step="give a person's name and a reason",
        )


def _demand_same_bundle(version: ModelVersion, read_digest: ReadDigest) -> None:
    found = read_digest(version)
    if found != version.bundle_digest:
        raise PromotionRefused(
            f"the bundle there now has digest {found}, the version is {version.bundle_digest}",
            where=version.bundle_uri,
            next_step="restore the bundle from a backup, or train and evaluate again",
        )


def _demand_valid_waivers(waivers: Sequence[Waiver], failed: dict[str, str], today: date, where: str) -> None:
    """A waiver has to mean something: one failed gate, a person, a reason, and a last day that is not over."""
    seen: set[str] = set()
    for waiver in waivers:
        if waiver.gate not in failed:
            wrong = f"it names {waiver.gate!r}, which has not failed (failed: {', '.join(failed) or 'none'})"
        elif waiver.gate in seen:
            wrong = f"{waiver.gate!r} is waived twice"
        elif not waiver.person.strip() or not waiver.reason.strip():
            wrong = f"the one for {waiver.gate!r} lacks a person or a reason"
        elif waiver.until < today:
            wrong = f"the one for {waiver.gate!r} ended on {waiver.until}, today is {today}"
        else:
            seen.add(waiver.gate)
            continue
        raise PromotionRefused(
            f"a waiver is not valid: {wrong}", where=where, next_step="correct or leave out the waiver"
        )


def _remedy(uncovered: Sequence[str], candidate: ModelVersion) -> str:
    waive = f"mlp promote {candidate.model} {candidate.version} --waive {uncovered[0]} --reason … --until DATE"
    if list(uncovered) == [JUDGED_AGAINST_CHAMPION]:
        return f"materialise models/{candidate.model}/evaluation again for this version, or go on record: {waive}"
    return f"train a better version, or promote past the gate on record: {waive}"
