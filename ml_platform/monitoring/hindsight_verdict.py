"""A year in figures: how each policy did on the same rows, and what that says of the platform.

The platform is as wanted where it beats never retraining, comes within a tenth of the way from weekly retraining
(counted from weekly's log loss towards never's, whichever of the two is lower), and needs at most a quarter of its
trainings. Where it is not, the words say by how much, and the facts that stand beside it; they guess at nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

Policy = Literal["platform", "never", "weekly", "shadowed", "best"]
POLICIES: tuple[Policy, ...] = ("platform", "never", "weekly", "shadowed", "best")
ALLOWED_SHARE_OF_WAY = 0.1
ALLOWED_SHARE_OF_TRAININGS = 0.25
SAME_SCORE = 1e-6
"""Scores are of float32 models: a difference below this is rounding."""
SHOWN_MONDAYS = 3
POLICY_WORDS: Mapping[Policy, str] = {
    "platform": "the platform",
    "never": "never retraining",
    "weekly": "weekly retraining",
    "shadowed": "weekly retraining after a shadow",
    "best": "best in hindsight",
}


@dataclass(frozen=True)
class PolicyResult:
    """A policy over all Mondays: mean log loss in nats, AUC over all rows (None: one class), and its trainings."""

    policy: Policy
    log_loss: float
    auc: float | None
    trainings: int


@dataclass(frozen=True)
class MondayResult:
    """One Monday: the log loss of each policy, and who scored: the platform's version, the others' cutoffs."""

    as_of: date
    rows: int
    positives: int
    log_loss: Mapping[Policy, float]
    version: int
    weekly_cutoff: date
    best_cutoff: date
    new_champion: bool
    drifted: bool

    def row(self) -> dict[str, object]:
        """For a table people read."""
        losses = {policy: self.log_loss[policy] for policy in POLICIES}
        stated = {name: value for name, value in vars(self).items() if name not in ("as_of", "log_loss")}
        return {"as_of": self.as_of, **losses, **stated}


@dataclass(frozen=True)
class Difference:
    """The platform's log loss minus another policy's on the same rows (below 0: the platform is better), with the
    interval of a bootstrap that draws households; None with too few of them."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.value:+.5f}" + ("" if self.low is None else f" [{self.low:+.5f}, {self.high:+.5f}]")


@dataclass(frozen=True)
class Hindsight:
    """A model's year, judged. `untrained`: cutoffs at which weekly retraining had nothing new, and why; `left_out`:
    those of them for which there was no earlier bundle either. `rescored`: the largest difference between a score that
    the first champion published and the one it gives now (0: features did not change since)."""

    model: str
    policies: Mapping[Policy, PolicyResult]
    mondays: tuple[MondayResult, ...]
    differences: Mapping[Policy, Difference]
    untrained: Mapping[date, str]
    left_out: tuple[date, ...]
    retired: int
    rescored: float

    def closeness(self, policy: Policy) -> float | None:
        """How much of the way from `never` to `policy` the platform came: 0 none, 1 all, more than 1 further, below 0
        the other way; None where that policy is not better than `never`."""
        loss = {name: result.log_loss for name, result in self.policies.items()}
        way = loss["never"] - loss[policy]
        return (loss["never"] - loss["platform"]) / way if way > 0 else None


@dataclass(frozen=True)
class Judgement:
    """The three rules, and what is said of them. `bound`: the log loss that is a tenth of the way from weekly's."""

    beats_never: bool
    within_a_tenth: bool
    within_a_quarter: bool
    bound: float
    sentences: tuple[str, ...]
    facts: tuple[str, ...]

    @property
    def as_wanted(self) -> bool:
        return self.beats_never and self.within_a_tenth and self.within_a_quarter


def conclude(found: Hindsight) -> Judgement:
    """Whether the platform did as wanted, in words."""
    platform, never, weekly = (found.policies[name] for name in ("platform", "never", "weekly"))
    bound = wanted_bound(found)
    beats_never, within_a_tenth = platform.log_loss < never.log_loss, platform.log_loss <= bound
    within_a_quarter = platform.trainings <= ALLOWED_SHARE_OF_TRAININGS * weekly.trainings
    sentences = (_against_never(found), _against_weekly(found, bound), _against_trainings(found, within_a_quarter))
    judgement = Judgement(beats_never, within_a_tenth, within_a_quarter, bound, sentences, ())
    facts = (*_general_facts(found), *(() if judgement.as_wanted else _why(found)))
    return Judgement(beats_never, within_a_tenth, within_a_quarter, bound, sentences, facts)


def wanted_bound(found: Hindsight) -> float:
    """The log loss a tenth of the way from weekly retraining's towards that of never retraining."""
    never, weekly = found.policies["never"].log_loss, found.policies["weekly"].log_loss
    return weekly + ALLOWED_SHARE_OF_WAY * (never - weekly)


def _against_never(found: Hindsight) -> str:
    mine, other = found.policies["platform"].log_loss, found.policies["never"].log_loss
    if mine == other:
        return f"It does not beat never retraining: both {mine:.5f}."
    word = "beats" if mine < other else "does not beat"
    return f"It {word} never retraining: {mine:.5f} against {other:.5f}, {found.differences['never']}."


def _against_weekly(found: Hindsight, bound: float) -> str:
    mine, never, weekly = (found.policies[name].log_loss for name in ("platform", "never", "weekly"))
    word, side = ("is", "below") if mine <= bound else ("is not", "above")
    said = (
        f"It {word} within a tenth of the way from weekly retraining: {mine:.5f} against {weekly:.5f}, "
        f"{found.differences['weekly']}; {abs(bound - mine):.5f} {side} the bound of {bound:.5f}."
    )
    if weekly >= never:
        said += f" Weekly retraining is itself no better than never retraining, by {weekly - never:.5f}."
    return said


def _against_trainings(found: Hindsight, holds: bool) -> str:
    mine, weekly = found.policies["platform"].trainings, found.policies["weekly"].trainings
    most = ALLOWED_SHARE_OF_TRAININGS * weekly
    said = f"Its trainings are {mine}, those of weekly retraining {weekly}: "
    return said + ("at most a quarter." if holds else f"more than a quarter, {mine - most:g} more than {most:g}.")


def _general_facts(found: Hindsight) -> list[str]:
    """What a reader has to know of the comparison itself."""
    facts = []
    for policy in ("weekly", "shadowed", "best"):
        way = found.closeness(policy)
        if way is not None:
            facts.append(f"It came {way:.0%} of the way from never retraining to {POLICY_WORDS[policy]}.")
    if found.left_out:
        days = f"{found.left_out[0]} to {found.left_out[-1]}"
        facts.append(f"{len(found.left_out)} Mondays ({days}) are left out, weekly retraining could not train by then.")
    stuck = [day for day in found.untrained if day not in found.left_out]
    if stuck:
        facts.append(
            f"On {len(stuck)} Mondays weekly retraining could not train and kept what it had; on {stuck[0]}: "
            f"{found.untrained[stuck[0]]}."
        )
    if found.rescored > SAME_SCORE:
        facts.append(f"The first champion's scores changed since by up to {found.rescored:.2g}: its features did too.")
    return facts


def _why(found: Hindsight) -> list[str]:
    """What stands beside a rule that does not hold: who served, what became of the trainings, where it was lost."""
    changes = [monday for monday in found.mondays if monday.new_champion]
    served = f"Version {found.mondays[0].version} served from {found.mondays[0].as_of} on"
    if not changes:
        served = f"Only version {found.mondays[0].version} served; as long as one does, it is never retraining"
    served += "".join(f", version {monday.version} from {monday.as_of} on" for monday in changes)
    champions = len({monday.version for monday in found.mondays})
    refused = found.policies["platform"].trainings - champions - found.retired
    became = (
        f"Of its trainings ({found.policies['platform'].trainings}), {champions} served, {found.retired} were retired"
    )
    facts = [f"{served}.", f"{became} after their trial" + (f", {refused} did neither." if refused > 0 else ".")]
    shadowed, bound = found.policies["shadowed"], wanted_bound(found)
    if shadowed.log_loss > bound:
        facts.append(
            f"Even {POLICY_WORDS['shadowed']}, each version served as soon as the first weeks it predicted beside the "
            f"champion can have matured, comes to {shadowed.log_loss:.5f} with {shadowed.trainings} trainings: no "
            "policy that lets labels decide before it promotes is known to reach the bound."
        )
    if ALLOWED_SHARE_OF_TRAININGS * found.policies["weekly"].trainings < 2:
        facts.append(
            f"A quarter of {found.policies['weekly'].trainings} trainings is less than two: who keeps within it cannot "
            "retrain, and so cannot beat never retraining."
        )
    facts += [_where_lost(found, policy) for policy in ("never", "weekly") if found.differences[policy].value > 0]
    return facts


def _where_lost(found: Hindsight, policy: Policy) -> str:
    """On how many Mondays the platform was the worse one, and those that weigh most."""
    gaps = [(m, (m.log_loss["platform"] - m.log_loss[policy]) * m.rows) for m in found.mondays]
    worse = sorted((each for each in gaps if each[1] > 0), key=lambda each: -each[1])
    shown = worse[:SHOWN_MONDAYS]
    days = ", ".join(
        f"{m.as_of} ({m.log_loss['platform']:.4f} against {m.log_loss[policy]:.4f}{', drifted' if m.drifted else ''})"
        for m, _ in shown
    )
    share = sum(gap for _, gap in shown) / sum(gap for _, gap in worse)
    return (
        f"It was worse than {POLICY_WORDS[policy]} on {len(worse)} of {len(gaps)} Mondays; {share:.0%} of what it lost "
        f"there it lost as of {days}."
    )
