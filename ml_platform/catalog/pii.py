"""Which personal data a model's inputs are made of, however far back, beside what its spec allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_platform.catalog.graph import ColumnRef, Edge, Lineage
from ml_platform.contracts.pii import Pii
from ml_platform.training.spec import ModelSpec

STRENGTH: Sequence[Pii] = ("none", "pseudonymous", "personal")


@dataclass(frozen=True)
class Forbidden:
    """An input that holds a class which the spec does not allow. `path`: a shortest way, from where the class is
    declared to the input; empty when the input itself declares it."""

    input: ColumnRef
    pii: Pii
    path: tuple[Edge, ...]

    @property
    def declared_on(self) -> ColumnRef:
        """The column that is of that class."""
        return self.path[0].source if self.path else self.input

    def explain(self) -> str:
        """`pseudonymous: raw/a.b → marts/c.d → models/m.x`; `?` marks a step that is only suspected."""
        steps = [f" {'→' if edge.how == 'expression' else '→?'} {edge.target}" for edge in self.path]
        return f"{self.pii}: {self.declared_on}{''.join(steps)}"


def forbidden_inputs(lineage: Lineage, spec: ModelSpec) -> list[Forbidden]:
    """Every input of the model of a class that its spec does not allow, by input."""
    node = lineage.nodes[f"models/{spec.name}"]
    found = []
    for column in node.columns:
        ref = ColumnRef(node.id, column.name)
        classes = lineage.pii_paths(ref)
        found += [Forbidden(ref, pii, tuple(path)) for pii, path in classes.items() if pii not in spec.allowed_pii]
    return found


def strongest(lineage: Lineage, ref: ColumnRef) -> Pii:
    """The class that says most of a person, of those a value holds."""
    held: set[Pii] = {"none", *lineage.pii_paths(ref)}
    return max(held, key=STRENGTH.index)
