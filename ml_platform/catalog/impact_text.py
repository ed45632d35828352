"""An impact as Markdown for a pull request. Names and paths stand in code spans and can end neither span nor table."""

import re
from collections.abc import Iterable, Mapping, Sequence

from ml_platform.catalog.graph import Lineage
from ml_platform.catalog.impact import Impact, Reached, reached
from ml_platform.wording import listed, printable

SUSPECTED = "perhaps: the code that makes it"
NAMED = 5
"""How many changes are named as the cause; the rest is counted."""


def markdown(lineage: Lineage, impact: Impact) -> str:
    """The whole report: owners first, then what changed, features, models, predictions, and the rest of the files."""
    compared = f"Compared with {code(impact.base.ref)} ({impact.base.commit[:9]}): {_count(len(impact.files), 'file')}."
    parts = ["## What this change touches", compared]
    if impact.touched or impact.suspected:
        parts += _touching(lineage, impact)
    else:
        parts.append("No feature, no model and no prediction.")
    parts += _folded("only their words differ", impact.quiet) + _folded("outside the lineage", impact.others)
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """A code span that holds the text, whatever it holds, also within a table."""
    shown = printable(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _touching(lineage: Lineage, impact: Impact) -> Iterable[str]:
    features, models = reached(lineage, impact, "features"), reached(lineage, impact, "model")
    answers = reached(lineage, impact, "predictions", "embeddings")
    changed = _by_cause(impact)
    owners = {each.node.owner for each in (*features, *models, *answers)} | {
        lineage.nodes[id_].owner for ids in changed.values() for id_ in ids
    }
    yield f"**Who should know:** {', '.join(map(code, sorted(owners - {''}))) or 'nobody is named'}"
    yield from _table(
        ("changed", "by", "owner", ""),
        [
            (", ".join(map(code, ids)), _named(paths), _owners(lineage.nodes[id_].owner for id_ in ids), said)
            for (paths, said), ids in changed.items()
        ],
    )
    yield from _table(
        ("features", "columns", "owner"), [(code(e.node.id), _share(e), _owners([e.node.owner])) for e in features]
    )
    yield from _table(
        ("model", "needs retraining", "champion", "because of", "owner"),
        [(code(e.node.id), _sure(e), _version(e), _named(e.because), _owners([e.node.owner])) for e in models],
    )
    yield from _table(
        ("predictions", "will differ", "made by", "owner"),
        [(code(e.node.id), _sure(e), _version(e), _owners([e.node.owner])) for e in answers],
    )


def _by_cause(impact: Impact) -> Mapping[tuple[tuple[str, ...], str], list[str]]:
    """The nodes that the same files make, and how sure that is; the touched ones first."""
    found: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for id_, paths in impact.touched.items():
        found.setdefault((paths, ""), []).append(id_)
    for id_, paths in impact.suspected.items():
        if id_ not in impact.touched:
            found.setdefault((paths, SUSPECTED), []).append(id_)
    return found


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []


def _folded(what: str, paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    lines = "\n".join(f"- {code(path)}" for path in paths)
    return [f"<details><summary>{_count(len(paths), 'file')}: {what}</summary>\n\n{lines}\n\n</details>"]


def _share(each: Reached) -> str:
    return f"{each.columns} of {len(each.node.columns)}" if each.columns else "which rows there are"


def _sure(each: Reached) -> str:
    return "yes" if each.certain else "perhaps"


def _version(each: Reached) -> str:
    return f"v{each.node.version}" if each.node.version is not None else "–"


def _owners(owners: Iterable[str]) -> str:
    return ", ".join(map(code, sorted({*owners} - {""}))) or "–"


def _named(names: Sequence[str]) -> str:
    return listed([code(name) for name in names], NAMED)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
