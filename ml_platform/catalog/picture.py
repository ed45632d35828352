"""A picture of a node's column lineage as SVG, narrow enough to be read where Markdown is shown.

Four bands from left to right: what lies further up, by name, in the order data flows; the nodes that it reads, with the
columns it takes; the node itself with every column; who uses it, however far down. A dashed red line is a suspicion.
Every word is escaped, whatever it holds.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from ml_platform.catalog.graph import ROWS, VALUES, Kind, Lineage
from ml_platform.wording import printable

LINE, BOX, GAP, BAND, PAD = 15, 236, 8, 40, 8
MOST_COLUMNS = 60
"""Of a box; what is more is counted."""
LONGEST_NAME = 37
INK, LINES, PAPER = "#1f2937", "#94a3b8", "#ffffff"
SUSPECTED = "#b91c1c"
FILL: dict[Kind, str] = {
    "landing": "#e2e8f0", "raw": "#e2e8f0", "staging": "#dbeafe", "marts": "#dbeafe", "feature_models": "#c7d2fe",
    "features": "#bbf7d0", "labels": "#fef08a", "training_set": "#fef08a", "model": "#fed7aa", "embeddings": "#fecdd3",
    "predictions": "#fecdd3", "sql": "#dbeafe",
}  # fmt: skip


@dataclass
class _Box:
    node: str
    columns: list[str]
    x: int = 0
    y: int = 0

    @property
    def height(self) -> int:
        return LINE * (1 + len(self.columns)) + PAD

    def at(self, column: str) -> int:
        """The height of a column's line; that of the name where the column is not shown."""
        place = self.columns.index(column) + 1 if column in self.columns else 0
        return self.y + LINE * place + LINE // 2 + PAD // 2


def picture(lineage: Lineage, node: str) -> str:
    """The SVG of a node."""
    bands = _bands(lineage, node)
    boxes = {box.node: box for band in bands for box in band}
    width = len(bands) * (BOX + BAND) - BAND + 2 * PAD
    tallest = max(sum(box.height + GAP for box in band) - GAP for band in bands)
    for place, band in enumerate(bands):
        y = PAD + (tallest - sum(box.height + GAP for box in band) + GAP) // 2
        for box in band:
            box.x, box.y = PAD + place * (BOX + BAND), y
            y += box.height + GAP
    lines = [*_links(lineage, boxes, node), *_flows(lineage, boxes, node)]
    drawn = [part for box in boxes.values() for part in _drawn(lineage, box, box.node == node)]
    height = tallest + 2 * PAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="ui-monospace,Menlo,Consolas,monospace" font-size="10" fill="{INK}">'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>{"".join(lines)}{"".join(drawn)}</svg>'
    )


def markdown(svg: str, title: str) -> str:
    """The picture as Dagster and MLflow show it inside Markdown."""
    said = "".join(char for char in title if char.isalnum() or char in " /_.-")
    return f"![{said}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _bands(lineage: Lineage, node: str) -> list[list[_Box]]:
    """The boxes from left to right; a band without any is left out."""
    direct = lineage.parents(node)
    taken: dict[str, set[str]] = {}
    for edge in (edge for ref in lineage.refs(node) for edge in lineage.sources(ref)):
        if edge.how in VALUES:
            taken.setdefault(edge.source.node, set()).add(edge.source.column)
    above = [each for each in lineage.above([node]) if each not in (*direct, node)]
    own = _shown(lineage, node, {column.name for column in lineage.nodes[node].columns})
    bands = [
        [_Box(each, []) for each in above],
        [_Box(each, _shown(lineage, each, taken.get(each, set()))) for each in direct],
        [_Box(node, own)],
        [_Box(each, []) for each in lineage.below([node]) if each != node],
    ]
    return [band for band in bands if band]


def _shown(lineage: Lineage, node: str, names: set[str]) -> list[str]:
    stated = [column.name for column in lineage.nodes[node].columns if column.name in names]
    rest = len(stated) - MOST_COLUMNS
    return [*stated[:MOST_COLUMNS], *([f"… and {rest} more"] if rest > 0 else [])]


def _links(lineage: Lineage, boxes: dict[str, _Box], node: str) -> Iterable[str]:
    """Column to column, into the node."""
    for ref in lineage.refs(node):
        for edge in lineage.sources(ref):
            source = boxes.get(edge.source.node)
            if edge.how in VALUES and source and ref.column != ROWS:
                suspected = edge.how == "unknown"
                colour, dash = (SUSPECTED, ' stroke-dasharray="4 3"') if suspected else ("#2563eb", "")
                yield _curve(
                    source, boxes[node], source.at(edge.source.column), boxes[node].at(ref.column), colour, dash
                )


def _flows(lineage: Lineage, boxes: dict[str, _Box], node: str) -> Iterable[str]:
    """Node to node, elsewhere, between neighbouring bands."""
    for box in boxes.values():
        for child in lineage.children(box.node):
            if child in boxes and child != node and boxes[child].x == box.x + BOX + BAND:
                yield _curve(box, boxes[child], box.at(""), boxes[child].at(""), LINES, "")


def _curve(source: _Box, target: _Box, y1: int, y2: int, colour: str, dash: str) -> str:
    x1, x2 = source.x + BOX, target.x
    middle = (x1 + x2) // 2
    path = f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity=".55"{dash}/>'


def _drawn(lineage: Lineage, box: _Box, chosen: bool) -> Iterable[str]:
    node = lineage.nodes[box.node]
    version = f" v{node.version}" if node.version is not None else ""
    stroke = f'stroke="{INK}" stroke-width="{2 if chosen else 1}"'
    title = f"{node.id}{version}: {node.description}"
    yield f"<g><title>{_words(title)}</title>"
    yield f'<rect x="{box.x}" y="{box.y}" width="{BOX}" height="{box.height}" rx="4" fill="{PAPER}" {stroke}/>'
    yield f'<rect x="{box.x}" y="{box.y}" width="{BOX}" height="{LINE + PAD // 2}" rx="4" fill="{FILL[node.kind]}"/>'
    yield _text(box.x, box.at(""), f"{node.id}{version}", ' font-weight="bold"')
    for name in box.columns:
        column = node.column(name)
        marks = [f"{column.importance:.0%}" if column and column.importance is not None else ""]
        yield _text(box.x, box.at(name), " ".join([name, *filter(None, marks)]), "")
    yield "</g>"


def _text(x: int, y: int, words: str, style: str) -> str:
    short = words if len(words) <= LONGEST_NAME else f"{words[: LONGEST_NAME - 1]}…"
    return f'<text x="{x + PAD // 2}" y="{y + 4}"{style}>{_words(short)}</text>'


def _words(text: str) -> str:
    """As text of an XML document."""
    return escape(printable(text))
