# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report across the fleet: one page that needs nothing else, neither a script nor a network."""

from __future__ import annotations

import math
import time
from html import escape
from typing import Any, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import ACCEPTED, FAIL, NOT_APPLICABLE, PASS, WARN
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.fleet import Fleet, Group
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.fsync import GOOD, LIMIT

CLASSES = {PASS: "pass", WARN: "warn", FAIL: "fail", ACCEPTED: "accepted", NOT_APPLICABLE: "none"}
MARKS = {PASS: "✓", WARN: "!", FAIL: "✕", ACCEPTED: "≈", NOT_APPLICABLE: "–"}
FAMILIES = {"machine": "Machine", "kernel": "Kernel", "time": "Time", "network": "Network", "disk": "Disk"}

STYLE = """
:root{--ink:#16202c;--soft:#5a6b7d;--line:#dfe5ec;--page:#f5f7fa;--card:#fff;--bar:#3f72af;
--pass:#12703f;--passbg:#e3f4ea;--warn:#8a5a00;--warnbg:#fdf1d3;--fail:#b3261e;--failbg:#fce4e2;
--accepted:#5b3fa0;--acceptedbg:#ece6fa;--none:#7a8896;--nonebg:#eef1f4}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf5;--soft:#9aabbd;--line:#2b3745;--page:#10161d;--card:#18212b;--bar:#6ea3e0;
--pass:#6fd39b;--passbg:#143324;--warn:#f0c261;--warnbg:#3a2d0f;--fail:#ff8f87;--failbg:#451a18;
--accepted:#c0abf7;--acceptedbg:#2b2247;--none:#8494a5;--nonebg:#222c37}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0}h2{font-size:19px;margin:44px 0 4px}h3{font-size:15px;margin:0}
p{margin:4px 0}.soft{color:var(--soft)}small,.small{font-size:13px}
a{color:inherit}
nav{margin-top:14px;display:flex;gap:18px;flex-wrap:wrap}
.banner{margin-top:22px;padding:16px 20px;border-radius:10px;border-left:6px solid;font-size:17px;font-weight:600}
.banner p{font-weight:400;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:16px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:24px;line-height:1.25;white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(360px,1fr));gap:14px;margin-top:12px}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;margin-top:12px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:7px 12px;border-bottom:1px solid var(--line)}
tr:last-child>td,tr:last-child>th{border-bottom:0}
thead th{font-size:13px;color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:500;white-space:nowrap}
.family th{font-size:12px;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);background:var(--page);padding:5px 12px}
td.cell{min-width:170px}
.pill{display:inline-block;min-width:20px;padding:0 7px;border-radius:9px;font-size:12px;line-height:19px;font-weight:700;text-align:center;white-space:nowrap}
.pass{color:var(--pass);background:var(--passbg)}.warn{color:var(--warn);background:var(--warnbg)}.fail{color:var(--fail);background:var(--failbg)}
.accepted{color:var(--accepted);background:var(--acceptedbg)}.none{color:var(--none);background:var(--nonebg)}
.banner.pass{border-color:var(--pass)}.banner.warn{border-color:var(--warn)}.banner.fail{border-color:var(--fail)}.banner.accepted{border-color:var(--accepted)}
.finding{border-left:5px solid;margin-top:12px;border-top-left-radius:4px;border-bottom-left-radius:4px}
.finding.fail-edge{border-left-color:var(--fail)}.finding.warn-edge{border-left-color:var(--warn)}.finding.accepted-edge{border-left-color:var(--accepted)}
.finding h3{display:flex;gap:10px;align-items:baseline;flex-wrap:wrap}
.finding dl{display:grid;grid-template-columns:92px 1fr;gap:3px 12px;margin:10px 0 0}
dt{color:var(--soft);font-size:13px;padding-top:1px}dd{margin:0}
ul{margin:0;padding-left:18px}code{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
details{margin-top:10px;background:var(--card);border:1px solid var(--line);border-radius:10px}
summary{cursor:pointer;padding:12px 16px;font-weight:600}
details .scroll{border:0;border-top:1px solid var(--line);border-radius:0;margin:0}
svg{display:block;width:100%;height:auto;margin-top:8px}
svg text{fill:var(--soft);font-size:11px}.barf{fill:var(--bar)}.axis{stroke:var(--line)}
.good{stroke:var(--warn);stroke-dasharray:4 3}.limit{stroke:var(--fail);stroke-dasharray:4 3}
svg .goodt{fill:var(--warn)}svg .limitt{fill:var(--fail)}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:8px;margin-top:6px}
.figures b{display:block;font-size:15px;color:var(--ink);white-space:nowrap}
footer{margin-top:48px;color:var(--soft);font-size:13px}
@media print{body{background:#fff}nav{display:none}.scroll{overflow:visible}.card,.finding,details{break-inside:avoid}}
"""


def page(results: Any, title: str = "Preflight", now: Optional[float] = None) -> str:
    """now: when the report is written, seconds since the epoch."""
    fleet = Fleet.of(results)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    parts = [
        _head(fleet, title, written),
        _matrix(fleet),
        _latencies(fleet),
        _between(fleet),
        _endpoints(fleet),
        _findings(fleet),
        _hosts(fleet),
        _method(fleet),
        f"<footer>Written {written} by nordic.gitops. Every figure was measured on the host itself; times are those of its clock.</footer>",
    ]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n" + "\n".join(filter(None, parts)) + "\n</main></body></html>\n")


def _pill(verdict: str, text: str = "") -> str:
    return f'<span class="pill {CLASSES[verdict]}" title="{verdict}">{escape(text) or MARKS[verdict]}</span>'


def _section(name: str, heading: str, introduction: str, content: str) -> str:
    return f'<section id="{name}"><h2>{heading}</h2><p class="soft small">{introduction}</p>{content}</section>'


# ---- the first screen


def _head(fleet: Fleet, title: str, written: str) -> str:
    total = len(fleet.hosts) + len(fleet.silent)
    hosts = "1 host" if total == 1 else f"{total} hosts"
    profiles = sorted({_profile(result) for result in fleet.hosts.values()})
    links = [("matrix", "All checks"), ("latency", "fsync latency"), ("between", "Between nodes"), ("endpoints", "Endpoints"), ("findings", "Findings"),
             ("hosts", "Hosts"), ("method", "Method")]
    links = [(name, text) for name, text in links if _present(fleet, name)]
    return (f"<header><h1>{escape(title)}</h1><p class=\"soft\">{hosts} · {escape('; '.join(profiles) or 'no profile')} · {written}</p>"
            f"<nav class=\"small\">{''.join(f'<a href=#{name}>{text}</a>' for name, text in links)}</nav></header>"
            + _banner(fleet, total) + _tiles(fleet))


def _present(fleet: Fleet, name: str) -> bool:
    return bool({"latency": _with_data(fleet, "fsync_latency", "histogram"), "between": [True for result in fleet.hosts.values() if result.get("peers")],
                 "endpoints": _with_data(fleet, "endpoints", "endpoints"), "findings": fleet.groups() or fleet.silent}.get(name, True))


def _profile(result: Mapping[str, Any]) -> str:
    profile = result["profile"]
    return f"{profile['role']}, {profile['cni']}" + (f", {profile['datastore']} datastore" if profile["role"] == "server" else "")


def _banner(fleet: Fleet, total: int) -> str:
    failed, verdict = fleet.failed, fleet.verdict
    if failed:
        text = f"Refused: {len(failed)} of {total} host{'s' if total != 1 else ''} must not carry a node"
        more = "; ".join(f"{escape(host)}: {escape(_failures(fleet, host))}" for host in failed) + '. <a href="#findings">Evidence and mending</a>.'
    elif verdict in (WARN, ACCEPTED):
        kept = sorted({group.check["name"] for group in fleet.groups() if group.check["verdict"] == ACCEPTED})
        text = f"Ready: no check fails, {fleet.count(WARN)} warning{'s' if fleet.count(WARN) != 1 else ''}"
        more = f"Accepted by name: {', '.join(map(escape, kept))}." if kept else "Nothing was accepted by name."
        verdict = WARN if fleet.count(WARN) else ACCEPTED
    else:
        text, more, verdict = "Ready: every check passes", "Nothing was accepted by name.", PASS
    return f'<div class="banner {CLASSES[verdict]}">{text}<p>{more}</p></div>'


def _failures(fleet: Fleet, host: str) -> str:
    if host in fleet.silent:
        return "not measured"
    return ", ".join(check["title"] for check in fleet.hosts[host]["checks"] if check["verdict"] == FAIL)


def _tiles(fleet: Fleet) -> str:
    tiles: List[Tuple[str, str]] = [(str(len(fleet.hosts)), "hosts measured")]
    tiles += [(str(fleet.count(verdict)), name) for verdict, name in ((FAIL, "checks failed"), (WARN, "warnings"), (ACCEPTED, "accepted"), (PASS, "passed"))]
    slowest = max((max(check["data"]["p99_ms"], (check["data"].get("fio") or {}).get("p99_ms", 0.0))
                   for _host, check in _with_data(fleet, "fsync_latency", "histogram")), default=None)
    if slowest is not None:
        tiles.append((f"{slowest:.2f} ms", "slowest fsync p99"))
    skews = [abs(peer["skew_s"]) for result in fleet.hosts.values() for peer in result.get("peers") or () if peer.get("skew_s") is not None]
    if skews:
        tiles.append((_seconds(max(skews)), "largest clock skew"))
    return '<div class="tiles">' + "".join(f'<div class="tile"><b>{value}</b><span class="soft small">{name}</span></div>' for value, name in tiles) + "</div>"


def _seconds(value: float) -> str:
    if value < 0.0001:
        return "&lt; 0.1 ms"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


# ---- checks by hosts


def _matrix(fleet: Fleet) -> str:
    if not fleet.hosts:
        return ""
    head = "".join(f'<th>{escape(host)}<br><span class="soft">{escape(str(result["profile"]["role"]))}</span></th>' for host, result in fleet.hosts.items())
    rows = []
    last = ""
    for name, title, family in fleet.names():
        if family != last:
            rows.append(f'<tr class="family"><th colspan="{len(fleet.hosts) + 1}">{FAMILIES.get(family, escape(family))}</th></tr>')
            last = family
        cells = ""
        for host in fleet.hosts:
            check = fleet.check(host, name)
            value = "" if check["verdict"] == NOT_APPLICABLE else escape(_short(check["value"]))
            cells += f'<td class="cell">{_pill(check["verdict"])} <span class="small">{value}</span></td>'
        rows.append(f'<tr><th title="{escape(name)}">{escape(title)}</th>{cells}</tr>')
    legend = " ".join(f"{_pill(verdict)} {verdict}" for verdict in (PASS, WARN, FAIL, ACCEPTED, NOT_APPLICABLE))
    return _section("matrix", "All checks", legend,
                    f'<div class="scroll"><table><thead><tr><th>Check</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>')


def _short(text: str, most: int = 64) -> str:
    return text if len(text) <= most else text[:most - 1] + "…"


# ---- fsync


def _with_data(fleet: Fleet, name: str, key: str) -> List[Tuple[str, Mapping[str, Any]]]:
    found = ((host, fleet.check(host, name)) for host in fleet.hosts)
    return [(host, check) for host, check in found if check["data"].get(key)]


def _latencies(fleet: Fleet) -> str:
    measured = _with_data(fleet, "fsync_latency", "histogram")
    if not measured:
        return ""
    # One scale for all, so that two hosts can be compared by eye.
    least = min(check["data"]["histogram"][0][0] for _host, check in measured)
    most = max(LIMIT * 1.6, *(check["data"]["histogram"][-1][0] for _host, check in measured))
    low, high = math.floor(math.log10(least) * 2) / 2 - 0.1, math.ceil(math.log10(most) * 2) / 2
    cards = "".join(_card(host, check, low, high) for host, check in measured)
    return _section("latency", "fsync latency of the datastore's folder",
                    "How long each fdatasync() took after a record of the size of etcd's was appended, as a share of all. The horizontal axis is logarithmic "
                    f"and the same for all hosts. etcd asks for a 99th percentile of at most {GOOD:.0f} ms; above {LIMIT:.0f} ms a host is refused.",
                    f'<div class="cards">{cards}</div>')


WIDTH, HEIGHT, BASE = 420, 170, 140


def _card(host: str, check: Mapping[str, Any], low: float, high: float) -> str:
    data = check["data"]
    figures = "".join(f'<span class="soft small">{name}<b>{_milliseconds(data[key])}</b></span>'
                      for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"), ("longest", "max_ms")))
    fio = data.get("fio")
    beside = f" · fio here: p99 {_milliseconds(fio['p99_ms'])}" if fio else ""
    return (f'<div class="card"><h3>{escape(host)} {_pill(check["verdict"], check["verdict"])}</h3>'
            f'<p class="soft small"><code>{escape(str(data["folder"]))}</code> · {data["samples"]} samples{escape(beside)}</p>'
            f'<div class="figures">{figures}</div>{_svg(data["histogram"], low, high, host)}</div>')


def _milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def _svg(histogram: Iterable[Any], low: float, high: float, host: str) -> str:
    entries = [(float(bound), int(count)) for bound, count in histogram]
    total, highest = sum(count for _bound, count in entries), max(count for _bound, count in entries)

    def x(milliseconds: float) -> float:
        return round(30 + (math.log10(milliseconds) - low) / (high - low) * (WIDTH - 54), 1)

    width = max(2.0, x(10 ** (low + 0.1)) - x(10**low) - 1)
    bars = "".join(f'<rect class="barf" x="{x(bound) - width:.1f}" y="{BASE - max(1.0, count / highest * 105):.1f}" width="{width:.1f}" '
                   f'height="{max(1.0, count / highest * 105):.1f}"><title>up to {bound:g} ms: {count} of {total}</title></rect>'
                   for bound, count in entries if count)
    ticks = ""
    for power in range(math.ceil(low), math.floor(high) + 1):
        label = f"{10**power:g} ms" if power < 3 else f"{10**(power - 3):g} s"
        ticks += (f'<line class="axis" x1="{x(10**power)}" x2="{x(10**power)}" y1="{BASE}" y2="{BASE + 5}"/>'
                  f'<text x="{x(10**power)}" y="{BASE + 18}" text-anchor="middle">{label}</text>')
    lines = "".join(f'<line class="{name}" x1="{x(value)}" x2="{x(value)}" y1="18" y2="{BASE}"/>'
                    f'<text class="{name}t" x="{x(value) + shift}" y="14" text-anchor="middle">{value:.0f} ms</text>'
                    for name, value, shift in (("good", GOOD, -4), ("limit", LIMIT, 4)))
    share = f'<text x="26" y="{BASE - 101}" text-anchor="end">{highest / total:.0%}</text><text x="26" y="{BASE}" text-anchor="end">0</text>'
    return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram of fsync latency on {escape(host)}">'
            f'<line class="axis" x1="30" x2="{WIDTH - 24}" y1="{BASE}" y2="{BASE}"/>{bars}{ticks}{lines}{share}</svg>')


# ---- between nodes


def _between(fleet: Fleet) -> str:
    talking = {host: {peer["name"]: peer for peer in result.get("peers") or ()} for host, result in fleet.hosts.items()}
    talking = {host: peers for host, peers in talking.items() if peers}
    if not talking:
        return ""
    names = list(dict.fromkeys([*talking, *(name for peers in talking.values() for name in peers)]))
    rows = ""
    for host, peers in talking.items():
        cells = "".join(f'<td class="cell">{_way(peers[name]) if name in peers else ""}</td>' for name in names)
        rows += f"<tr><th>{escape(host)}</th>{cells}</tr>"
    head = "".join(f"<th>to {escape(name)}</th>" for name in names)
    return _section("between", "Between nodes", "What each host (row) measured of each other one (column): the ports that it needs there, the "
                    "shortest round trip, the largest packet that comes back whole, and how far the other clock is ahead.",
                    f'<div class="scroll"><table><thead><tr><th>from</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>')


def _way(peer: Mapping[str, Any]) -> str:
    ports = peer["ports"]
    blocked = [port for port, outcome in ports.items() if outcome not in ("open", "runs") and not outcome.startswith("unprobed")]
    untried = sum(outcome.startswith("unprobed") for outcome in ports.values())
    first = _pill(FAIL, f"{len(blocked)} blocked") + f" {escape(', '.join(blocked))}" if blocked else _pill(PASS, f"{len(ports) - untried} ports")
    if untried:
        first += f' <span class="soft">{untried} not tried</span>'
    lines = []
    if peer.get("rtt_ms") is not None:
        lines.append(f"round trip {peer['rtt_ms']:.2f} ms")
    if peer.get("mtu") is not None:
        lines.append(f"MTU {peer['mtu']}" + (f" of {peer['promised_mtu']}" if peer["mtu"] < peer["promised_mtu"] else ""))
    if peer.get("skew_s") is not None:
        # What is below the exchange's own uncertainty has no sign.
        known = abs(peer["skew_s"]) >= max(peer["uncertainty_s"], 0.0001)
        lines.append(f"clock {'+' if peer['skew_s'] > 0 else '−'}{_seconds(abs(peer['skew_s']))}" if known else "clocks agree")
    if peer.get("silence"):
        lines.append(escape(peer["silence"]))
    return f'{first}<br><span class="soft small">{"<br>".join(lines)}</span>'


def _endpoints(fleet: Fleet) -> str:
    named = _with_data(fleet, "endpoints", "endpoints")
    if not named:
        return ""
    rows = ""
    for host, check in named:
        for one in check["data"]["endpoints"]:
            heard = one.get("median_ms") is not None
            values = f'<td>{one["median_ms"]:.2f} ms</td><td>{one["p95_ms"]:.2f} ms</td>' if heard else "<td>–</td><td>–</td>"
            rows += (f"<tr><th>{escape(host)}</th><td>{_pill(one['verdict'])} {escape(one['name'])}</td><td><code>{escape(one['address'])}</code></td>{values}"
                     f"<td>{one['loss']:.0%}</td><td>{one['limit_ms']:g} ms</td></tr>")
    return _section("endpoints", "Latency to endpoints", "Twenty exchanges each, one after another. The median must stay below the limit.",
                    '<div class="scroll"><table><thead><tr><th>from</th><th>endpoint</th><th>address</th><th>median</th><th>p95</th><th>lost</th>'
                    f"<th>limit</th></tr></thead><tbody>{rows}</tbody></table></div>")


# ---- findings, hosts, method


def _findings(fleet: Fleet) -> str:
    silent = "".join(f'<div class="card finding fail-edge"><h3>{_pill(FAIL, "not measured")} {escape(host)}</h3><p>{escape(reason)}</p></div>'
                     for host, reason in fleet.silent.items())
    groups = "".join(_finding(group) for group in fleet.groups())
    if not (silent or groups):
        return ""
    return _section("findings", "Findings", "What is not simply good, the most serious first, each once for all hosts that say the same.", silent + groups)


def _finding(group: Group) -> str:
    check = group.check
    evidence = "".join(f"<li><code>{escape(sentence)}</code></li>" for sentence in check["evidence"])
    verdict = check["verdict"]
    taken = f'<dt>Accepted</dt><dd>by its name, <code>{escape(check["name"])}</code>; it was found as: {check["found"]}</dd>'
    taken = taken if verdict == ACCEPTED else ""
    return (f'<div class="card finding {CLASSES[verdict]}-edge"><h3>{_pill(verdict, verdict)} {escape(check["title"])}: {escape(check["value"])}</h3>'
            f'<dl><dt>Hosts</dt><dd>{escape(", ".join(group.hosts))}</dd><dt>Wanted</dt><dd>{escape(check["threshold"])}</dd>{taken}'
            f'<dt>Evidence</dt><dd><ul>{evidence}</ul></dd><dt>Why</dt><dd>{escape(check["why"])}</dd>'
            f'<dt>To mend</dt><dd>{escape(check["mend"])}</dd></dl></div>')


def _hosts(fleet: Fleet) -> str:
    blocks = ""
    for host, result in fleet.hosts.items():
        node = result["node"]
        rows = "".join(
            f'<tr><td>{_pill(check["verdict"], check["verdict"])}</td><th>{escape(check["title"])}<br><code class="soft">{escape(check["name"])}</code></th>'
            f'<td>{escape(check["value"])}</td><td class="soft">{escape(check["threshold"])}</td>'
            f'<td class="small">{"<br>".join(f"<code>{escape(sentence)}</code>" for sentence in check["evidence"])}</td></tr>' for check in result["checks"])
        about = " · ".join(str(part) for part in (
            node["hostname"], node["address"], node["system"], f"Linux {node['kernel']} {node['architecture']}",
            f"measured {result['measured_at']} in {result['seconds']} s") if part)
        blocks += (f'<details><summary>{escape(host)} {_pill(result["verdict"], result["verdict"])} <span class="soft small">{escape(about)}</span></summary>'
                   '<div class="scroll"><table><thead><tr><th>verdict</th><th>check</th><th>value</th><th>wanted</th><th>evidence</th></tr></thead>'
                   f"<tbody>{rows}</tbody></table></div></details>")
    return _section("hosts", "Every host in full", "All checks with all evidence, one host each.", blocks) if blocks else ""


def _method(fleet: Fleet) -> str:
    rows = ""
    for name, title, _family in fleet.names():
        wanted = list(dict.fromkeys(str(fleet.check(host, name)["threshold"]) for host in fleet.hosts))
        why = next(str(fleet.check(host, name)["why"]) for host in fleet.hosts if fleet.check(host, name).get("why"))
        rows += (f'<tr><th>{escape(title)}<br><code class="soft">{escape(name)}</code></th><td>{"<br>".join(map(escape, wanted))}</td>'
                 f"<td>{escape(why)}</td></tr>")
    if not rows:
        return ""
    return _section("method", "Method", "What was asked of each host, and why. A verdict is pass, warn (works, with a risk), fail (refused) or accepted "
                    "(a fail or warn that a person took by its name in the inventory).",
                    '<div class="scroll"><table><thead><tr><th>check</th><th>threshold</th><th>why it matters</th></tr></thead>'
                    f"<tbody>{rows}</tbody></table></div>")
