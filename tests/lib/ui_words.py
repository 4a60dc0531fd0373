"""The words of the workbench that a language translates: usage: ui_words.py FILE.c... prints each literal once, one a line, as it stands in
the source. A literal counts where it is a format or a text of one of the functions that look translations up, or a word of a table
that is drawn (.help, .label, .title, and what the source marks by N_)."""
import re, sys

CALLS = "ui_say|ui_refuse|part_add|pen_printf|pen_words|text_format|str_words|panel_line|effect_line|ui_message|line|N_|tr"
STRING = r'"(?:[^"\\]|\\.)*"'
seen = {}
for path in sys.argv[1:]:
    source = re.sub(r"/\*.*?\*/", " ", open(path, encoding="utf-8").read(), flags=re.S)
    source = re.sub(r'(%s)((?:\s*%s)+)' % (STRING, STRING),
                    lambda m: m.group(1)[:-1] + "".join(s[1:-1] for s in re.findall(STRING, m.group(2))) + '"', source)
    for m in re.finditer(r"\b(?:%s)\(" % CALLS, source):
        depth, i = 1, m.end()
        while depth and i < len(source):
            if source[i] == '"':
                s = re.compile(STRING).match(source, i)
                seen.setdefault(s.group(0)[1:-1], path)
                i = s.end()
                continue
            depth += {"(": 1, ")": -1}.get(source[i], 0)
            i += 1
    for m in re.finditer(r"\.(?:help|label|title|hint)\s*=\s*(%s)" % STRING, source):
        seen.setdefault(m.group(1)[1:-1], path)
for s in seen:
    plain = re.sub(r"%[-+ 0#]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|j)?[a-zA-Z%]|\\.", " ", s)
    if re.search("[A-Za-z]{2}", plain):
        print(s)
