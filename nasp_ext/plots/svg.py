# SPDX-License-Identifier: MIT
"""What the drawings share: elements, colours, and a font whose width is known without measuring it."""

from __future__ import annotations

from html import escape

# Every letter of a monospaced font is about 0.6 em wide; 0.62 leaves room for the widest of the usual ones.
MONOSPACE = "DejaVu Sans Mono, Menlo, Consolas, monospace"
SANS = "Helvetica, Arial, DejaVu Sans, sans-serif"
INK, MUTED, RULE, PAPER = "#1f2933", "#52606d", "#cbd2d9", "#ffffff"


def monospace_width(text: str, size: float) -> float:
    """Width of a line of monospaced text in pixels."""
    return 0.62 * size * len(text)


def element(tag: str, content: str = "", **attributes: object) -> str:
    """One SVG element; an underscore in an attribute's name stands for a hyphen, ``content`` is SVG already.

    >>> element("circle", r=2, stroke_width=1.5)
    '<circle r="2" stroke-width="1.5"/>'
    """
    written = "".join(
        f' {key.replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items()
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def text(x: float, y: float, content: str, *, size: float = 12, **attributes: object) -> str:
    """A line of text; ``content`` is escaped."""
    return element("text", escape(content), x=x, y=y, font_size=size, **attributes)


def document(width: float, height: float, title: str, body: list[str]) -> str:
    """A whole SVG file: a white card with a thin border, so that it reads on light and dark pages alike."""
    card = element("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=8, fill=PAPER, stroke=RULE)
    content = "\n".join(["", element("title", escape(title)), card, *body, ""])
    return (
        element(
            "svg",
            content,
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=height,
            viewBox=f"0 0 {_text(width)} {_text(height)}",
            role="img",
            font_family=SANS,
        )
        + "\n"
    )


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
