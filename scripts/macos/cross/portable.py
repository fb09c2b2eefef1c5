"""Finds features in shell scripts that bash 3.2 or the BSD tools of a Mac lack: portable.py FILE…

It checks a list of Linux habits and is not a parser: comments are ignored, and so are branches for Linux
only.
"""

import pathlib
import re
import sys

BASH = {
    r"\b(declare|local|typeset) -\w*A": "bash 3.2 has no associative arrays",
    r"\b(declare|local|typeset) -\w*n\b": "bash 3.2 has no references to names",
    r"\b(mapfile|readarray|coproc)\b": "bash 3.2 does not know it",
    r"\$\{\w+(\[[^]]*\])?(\^|,)": "bash 3.2 has no upper and lower case; use tr",
    r"\$\{\w+(\[[^]]*\])?@[A-Za-z]\}": "bash 3.2 has no ${name@…}",
    r"\$\{\w+\[-": "bash 3.2 has no indices from the end",
    r"\|&|&>>|;;&|;&(?!&)": "bash 3.2 does not know it",
    r"\[\[? -v ": "bash 3.2 has no -v; use ${name+set}",
    r"\bwait -n\b": "bash 3.2 has no wait -n",
    r"(^|[;&|(]|while|if)\s*read\b[^|;]* -\w*[iN]": "bash 3.2 has no read -i and -N",
    r"(^|[;&|(]|while|if)\s*read\b[^|;]* -t *0?\.": "bash 3.2 reads whole seconds",
    r"\bexec \{\w+\}|\{\w+\}[<>]": "bash 3.2 chooses no file descriptors",
    r"\bshopt -s \w*(globstar|lastpipe|inherit_errexit)": "bash 3.2 does not know it",
    r"\$(EPOCHSECONDS|EPOCHREALTIME|BASHPID|SRANDOM)\b": "bash 3.2 does not have it",
    r"printf .*%\(": "bash 3.2 has no %(…)T",
}
TOOLS = {
    r"\bsed\b[^|;]* -(i(?! ?'')|\w*r\b|\w*z\b|-)": "BSD's sed has no -i without a suffix, no -r, -z or long options",
    r"\bsed\b[^|;]*\\[+?|]": "BSD's sed has \\+, \\? and \\| only with -E, without the backslash",
    r"\bgrep\b[^|;]* -(\w*P|-(?!\s))": "BSD's grep has no -P; long options are not the same",
    r"\bfind\b[^|;]* -(printf|quit|regextype|executable|readable)\b": "BSD's find does not know it",
    r"\b(readlink|realpath)\b[^|;]* -\w*[ems]": "BSD's tools do not know it",
    r"\brealpath\b": "macOS has it from 13 on",
    r"\bstat\b[^|;]* (-c|--)": "BSD's stat has -f",
    r"\bdate\b[^|;]* (-d|-I|--|\+\S*%N)": "BSD's date does not know it",
    r"\bxargs\b[^|;]* -(\w*[drai]\b|-)": "BSD's xargs does not know it",
    r"(?<!cargo )(?<!pip )\b(cp|mv|ln|rm|mkdir|install|touch|chmod|head|tail|sort|cut|wc|du|df|ls|paste|mktemp|tr|uniq)\b[^|;&]* --[a-z]": "BSD's tools have no long options",
    r"\b(cp|mv|ln)\b( -\w+)* -\w*[tT]\b": "BSD's cp, mv and ln have no -t and -T",
    r"\bln\b[^|;]* -\w*r": "BSD's ln has no -r",
    r"\binstall\b[^|;]* -\w*D": "BSD's install has no -D",
    r"\bhead\b[^|;]* -[nc] *-": "BSD's head counts from the beginning only",
    r"\b(sort|uniq)\b[^|;]* -\w*z": "BSD's tools have no -z",
    r"\bdu\b[^|;]* -\w*b": "BSD's du has no -b",
    r"\bbase64\b[^|;]* -w": "BSD's base64 does not know it",
    r"\btouch\b[^|;]* -d *@": "BSD's touch does not know it",
    r"\btar\b[^|;]* --(wildcards|transform|sort|owner)": "BSD's tar does not know it",
    r"\bpaste -s\w*( +'[^']*'| +\S+)? *(\)|\||;|$)": "BSD's paste wants - for the standard input",
    r"(?<![\w./-])(nproc|sha256sum|md5sum|timeout|tac|setsid|flock|getconf _NPROC|numfmt|shuf|ldd|ldconfig|apt-get)\b": "a Mac has no such program",
    r"/proc/": "a Mac has no /proc",
}


def commands(text):
    """(line number, line) without comments, continued lines in one, and without what follows `uname … = Linux` up to `fi`."""
    whole, begun, linux = "", 0, False
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#(?![!{]).*", "", line)
        begun = begun or number
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        whole, line = "", whole + line
        if re.search(r"if .*uname.*= Linux", line):
            linux = True
        if not linux and line.strip():
            yield begun, line
        if re.match(r"fi\b", line):
            linux = False
        begun = 0


def faults(path):
    text = pathlib.Path(path).read_text()
    for number, line in commands(text):
        for pattern, reason in {**BASH, **TOOLS}.items():
            found = re.search(pattern, line)
            if found and f"command -v {found[0].strip()}" not in text:  # it asks first
                yield number, f"{found[0].strip()!r}: {reason}"
        for name in re.findall(r'(?<!\+)"\$\{(\w+)\[@\]\}"', line):
            if re.search(rf"(^|\s){name}=\(\)", text):
                yield number, f"{name}[@] may be empty, an error to set -u before bash 4.4; write ${{{name}[@]+\"${{{name}[@]}}\"}}"


if __name__ == "__main__":
    found = [f"{path}:{number}: {fault}" for path in sys.argv[1:] for number, fault in faults(path)]
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)
