# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a Go template of spec.template.data, as far as it shows before a controller runs it.

The controller runs text/template with the functions of sprig, without those that tell about its own environment. A template that
does not parse makes every unsealing fail; a field that no key has becomes the text "<no value>" in the Secret.
"""

from __future__ import annotations

import difflib
import re
from typing import Collection, List, Optional

_OPEN, _CLOSE = "{{", "}}"
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\'(?:[^\'\\\n]|\\.)+\'')
_WORD = re.compile(r"(?<![\w.$])[A-Za-z_]\w*")
_FIELD = re.compile(r"(?:(?<![\w.)$])|(?<=\$))\.([A-Za-z_]\w*)")
_DASH = re.compile(r"\.[A-Za-z_]\w*-[A-Za-z_]")
_BAD = re.compile(r"[#%&;?@\[\]\\^~{}<>]|==")
_BEGINS = frozenset(("if", "range", "with", "define", "block"))
_KEYWORDS = _BEGINS | {"else", "end", "template", "break", "continue", "true", "false", "nil"}
_FUNCTIONS = frozenset("""
and call eq ge gt html index js le len lt ne not or print printf println slice urlquery
abbrev abbrevboth add add1 add1f addf adler32sum ago all any append atoi b32dec b32enc b64dec b64enc base bcrypt biggest buildCustomCert
camelcase cat ceil chunk clean coalesce compact concat contains date dateInZone dateModify date_in_zone date_modify decryptAES deepCopy
deepEqual default derivePassword dict dig dir div divf duration durationRound empty encryptAES ext fail first float64 floor fromJson genCA
genCAWithKey genPrivateKey genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey get has hasKey hasPrefix hasSuffix
hello htmlDate htmlDateInZone htpasswd indent initial initials int int64 isAbs join kebabcase keys kindIs kindOf last list lower max maxf
merge mergeOverwrite min minf mod mul mulf mustAppend mustChunk mustCompact mustDateModify must_date_modify mustDeepCopy mustFirst
mustFromJson mustHas mustInitial mustLast mustMerge mustMergeOverwrite mustPrepend mustPush mustRegexFind mustRegexFindAll mustRegexMatch
mustRegexReplaceAll mustRegexReplaceAllLiteral mustRegexSplit mustRest mustReverse mustSlice mustToDate mustToJson mustToPrettyJson
mustToRawJson mustUniq mustWithout nindent nospace now omit osBase osClean osDir osExt osIsAbs pick pluck plural prepend push quote randAlpha
randAlphaNum randAscii randBytes randInt randNumeric regexFind regexFindAll regexMatch regexQuoteMeta regexReplaceAll regexReplaceAllLiteral
regexSplit repeat replace rest reverse round semver semverCompare seq set sha1sum sha256sum sha512sum shuffle snakecase sortAlpha split
splitList splitn squote sub subf substr swapcase ternary title toDate toDecimal toJson toPrettyJson toRawJson toString toStrings trim trimAll
trimPrefix trimSuffix trimall trunc tuple typeIs typeIsLike typeOf uniq unixEpoch unset until untilStep untitle upper urlJoin urlParse uuidv4
values without wrap wrapWith
""".split())


def problem(text: str, keys: Collection[str]) -> Optional[str]:
    """One sentence, or None. keys: those of the Secret's own values."""
    opened: List[str] = []
    position = 0
    while True:
        begin = text.find(_OPEN, position)
        if begin < 0:
            break
        line = text.count("\n", 0, begin) + 1
        if re.match(r"\{\{(- )?/\*", text[begin:begin + 6]):
            position = text.find("*/", begin)
            if position < 0 or not re.match(r"\*/( -)?\}\}", text[position:position + 6]):
                return f"line {line}: a comment is not closed"
            position = text.index(_CLOSE, position) + len(_CLOSE)
            continue
        end = _end(text, begin + len(_OPEN))
        if end is None:
            return f"line {line}: {{{{ is not closed"
        action = text[begin + len(_OPEN):end]
        action = re.sub(r"^- |(?<=\s)-$", " ", action)
        found = _action(_STRING.sub(lambda match: '""', action), opened, keys)
        if found:
            return f"line {line}: {found}"
        position = end + len(_CLOSE)
    return f"{{{{ {opened[-1]} }}}} has no {{{{ end }}}}" if opened else None


def _end(text: str, begin: int) -> Optional[int]:
    """Where the action ends; what looks like its end inside of a string does not count."""
    while True:
        end = text.find(_CLOSE, begin)
        string = _STRING.search(text, begin)
        if end < 0:
            return None
        if string is None or string.start() > end:
            return end
        begin = string.end()


def _action(code: str, opened: List[str], keys: Collection[str]) -> Optional[str]:
    words = _WORD.findall(code)
    if not code.strip():
        return "an action is empty"
    if code.count('"') % 2 or "`" in code or "'" in code:
        return "a string is not closed"
    if code.count("(") != code.count(")"):
        return "parentheses do not match"
    if _DASH.search(code):
        return "a field cannot hold a dash: write {{ index . \"a-b\" }}"
    bad = _BAD.search(code)
    if bad:
        return f"unexpected {bad.group(0)}"
    first = words[0] if words and code.lstrip().startswith(words[0]) else ""
    if first == "end":
        if not opened:
            return "{{ end }} without a beginning"
        opened.pop()
    elif first == "else" and not opened:
        return "{{ else }} without a beginning"
    elif first in _BEGINS:
        opened.append(first)
    for word in words:
        if word not in _KEYWORDS and word not in _FUNCTIONS:
            near = difflib.get_close_matches(word, _FUNCTIONS, 1)
            return f"there is no function {word}" + (f", did you mean {near[0]}?" if near else "")
    if not set(opened[:-1] if first in _BEGINS else opened) & {"range", "with", "define", "block"}:
        for field in _FIELD.findall(code):
            if field not in keys:
                near = difflib.get_close_matches(field, list(keys), 1)
                return f".{field} is no key of this Secret" + (f", did you mean .{near[0]}?" if near else "")
    return None
