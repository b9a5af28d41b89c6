# SPDX-License-Identifier: Apache-2.0
"""Lines over one axis as an SVG: just what bench/peers draws. No dependency."""
import math
from html import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 420, 300, 56, 72, 28, 48  # of a panel, and its margins
LIGHT, DARK = ("#ffffff", "#24292f", "#d8dee4"), ("#0d1117", "#e6edf3", "#30363d")  # background, text, grid
COLORS = ("#0b6e4f", "#c2410c", "#2f5fb3", "#7a5c00"), ("#3ddc97", "#ff9e64", "#82aaff", "#e0c060")  # of lines, likewise


def rules(shades, colors):
    back, ink, grid = shades
    return (f".back{{fill:{back}}}text{{fill:{ink}}}.grid{{stroke:{grid}}}"
            + "".join(f".s{i}{{stroke:{c}}}.f{i}{{fill:{c}}}" for i, c in enumerate(colors)))


STYLE = ("text{font:12px sans-serif}.title{font-size:15px;font-weight:bold}.panel{font-weight:bold}.line{stroke-width:2}"
         + rules(LIGHT, COLORS[0]) + "@media (prefers-color-scheme:dark){" + rules(DARK, COLORS[1]) + "}")


def ticks(top, about=5):
    """Round numbers from 0 up to what covers `top`."""
    step = 10 ** math.floor(math.log10(top / about)) if top > 0 else 1
    step *= next(m for m in (1, 2, 5, 10) if top / (step * m) <= about)
    return [i * step for i in range(math.ceil(top / step) + 1)]


def text(x, y, s, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"' + (f' class="{kind}"' if kind else "") + f">{escape(s)}</text>"


def panel(left, title, axis, lines, numbers):
    """lines: (name, [(x, y, least, greatest)]); numbers: of the names' colors."""
    points = [p for _, line in lines for p in line]
    xs = sorted({p[0] for p in points}) or [0]
    ys = ticks(max((p[3] for p in points), default=1))
    x0, y0, w, h = left + LEFT, HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at_x(x):
        return x0 + w * x / max(xs[-1], 1)

    def at_y(y):
        return y0 - h * y / ys[-1]

    out = [text(x0, TOP - 12, title, kind="panel"), text(x0 + w / 2, HEIGHT - 10, axis, "middle")]
    for y in ys:
        out.append(f'<line class="grid" x1="{x0}" x2="{x0 + w}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        out.append(text(x0 - 6, at_y(y) + 4, f"{y:g}", "end"))
    last = -math.inf
    for x in xs:
        if at_x(x) - last > 34:  # else the numbers would run into each other
            out.append(text(at_x(x), y0 + 18, str(x), "middle"))
            last = at_x(x)
    for name, line in lines:
        i = numbers[name]
        out.append(f'<polyline class="line s{i}" fill="none" points="' + " ".join(f"{at_x(p[0]):.1f},{at_y(p[1]):.1f}" for p in line) + '"/>')
        for x, y, least, greatest in line:
            out.append(f'<line class="s{i}" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{at_y(least):.1f}" y2="{at_y(greatest):.1f}"/>')
            out.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.5" class="f{i}"><title>{escape(name)}: {y:.1f}</title></circle>')
    return out


def chart(title, panels):
    """panels: (title, name of the x axis, lines). Names of lines are explained once, on top."""
    width, out = WIDTH * len(panels), []
    out.append(text(LEFT, 20, title, kind="title"))
    x, names = LEFT, dict.fromkeys(name for _, _, lines in panels for name, _ in lines)
    numbers = {name: i % len(COLORS[0]) for i, name in enumerate(names)}
    for name, i in numbers.items():
        out.append(f'<line class="s{i}" stroke-width="3" x1="{x}" x2="{x + 18}" y1="34" y2="34"/>')
        out.append(text(x + 24, 38, name))
        x += 40 + 7 * len(name)
    for i, (head, axis, lines) in enumerate(panels):
        out += panel(i * WIDTH, head, axis, lines, numbers)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}">'
            f'<style>{STYLE}</style><rect class="back" width="{width}" height="{HEIGHT}"/>\n' + "\n".join(out) + "\n</svg>\n")
