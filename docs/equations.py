"""Equations as docstrings write them (`1/d · ‖W e_S − e_T‖²`), turned into LaTeX for the pages.

A docstring is read in a terminal as well, so it writes equations in plain characters; this keeps the one place.
"""

from __future__ import annotations

import re

_LETTER = "[A-Za-zα-ωΑ-Ω0-9]"
_LIST = rf"{_LETTER}+(?:,{_LETTER}+)*"
_TOKEN = re.compile(
    rf"_\((?P<group>{_LIST})\)"  # mean_(i,j)
    rf"|_(?P<sub>{_LIST})"  # A_T,a
    rf"|\^(?P<super>{_LETTER}+(?:\({_LETTER}+\))?(?:,{_LETTER}+)*)"  # A^g(m),a
    rf"|(?P<one>\d+)/(?P<over>\|{_LETTER}\||{_LETTER}+)"  # 1/|R|
    rf"|√(?P<root>{_LETTER})"
    r"|(?P<word>[A-Za-z]{2,})"
    r"|(?P<inverse>⁻¹)"
    r"|(?P<symbol>.)",
    re.S,
)
_SYMBOLS = {
    "Σ": r"\sum", "·": r"\,", "−": "-", "²": "^2", "³": "^3", "ᵀ": r"^{\top}", "⁻¹": "^{-1}", "₂": "_2",
    "½": r"\frac{1}{2}", "‖": r"\|", "∠": r"\angle ", "∞": r"\infty ", "∂": r"\partial ", "⊙": r"\odot ",
    "⊗": r"\otimes ", "≤": r"\le ", "Δ": r"\Delta ", "σ": r"\sigma ",
    "α": r"\alpha ", "β": r"\beta ", "δ": r"\delta ", "λ": r"\lambda ", "μ": r"\mu ", "π": r"\pi ", "ψ": r"\psi ",
}  # fmt: skip
_SIGNS = re.compile("[Σ·²³ᵀ√‖−∠∂⊙⊗⁻½]| [=/] ")
_CODE = re.compile("`([^`]+)`")
_URL = re.compile(r"(?<![<(])https://[^\s<>()]*[^\s<>().,]")


def is_equation(text: str) -> bool:
    """Say whether what stands between backticks is an equation, and not a name or code.

    Example:
        >>> is_equation("T² · (α · TCKD + β · NCKD)"), is_equation("teacher_layer")
        (True, False)
    """
    return bool(_SIGNS.search(text))


def latex(plain: str) -> str:
    r"""Turn an equation in plain characters into LaTeX.

    Example:
        >>> latex("1/d · ‖W e_S − e_T‖²")
        '\\frac{1}{d} \\, \\|W e_{S} - e_{T}\\|^2'
    """
    return _TOKEN.sub(_token, " ".join(plain.split()))


def _token(found: re.Match[str]) -> str:
    kind = next(name for name, value in found.groupdict().items() if value is not None)
    value = found[kind]
    if kind in ("group", "sub", "super"):
        return ("^" if kind == "super" else "_") + "{" + "".join(_SYMBOLS.get(sign, sign) for sign in value) + "}"
    if kind == "one":
        return rf"\frac{{{value}}}{{{found['over']}}}"
    if kind == "root":
        return rf"\sqrt{{{value}}}"
    if kind == "word":
        return rf"\operatorname{{{value}}}"
    return _SYMBOLS.get(value, value)


def markdown(paragraph: str) -> str:
    r"""Turn a paragraph of a docstring into Markdown: equations set, the one it begins with on a line of its own.

    An indented paragraph is an equation as a whole.

    Example:
        >>> markdown("`α · β` at each `token`.")
        '```{math}\n\\alpha  \\, \\beta \n```\n\nat each `token`.'
    """
    text = " ".join(paragraph.split())
    if paragraph.startswith("    ") and is_equation(text):
        return f"```{{math}}\n{latex(text)}\n```"
    first = _CODE.match(text)
    display = ""
    if first and is_equation(first[1]):
        display = f"```{{math}}\n{latex(first[1])}\n```\n\n"
        text = text[first.end() :].lstrip(" ,;.:")
    text = _CODE.sub(lambda code: f"{{math}}`{latex(code[1])}`" if is_equation(code[1]) else code[0], text)
    return display + _URL.sub(lambda url: f"<{url[0]}>", text)
