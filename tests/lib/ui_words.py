"""The words of the workbench that a language must have: ui_words.py TABLE.c,TABLE.c... FILE.c... prints those that none of the tables
has, and those of theirs that no file has. A literal counts as a text or format of a function that looks translations up, as a word of a table that is drawn
(.help, .label, .title), and wherever it is a sentence of three words that no function for commands or errors takes."""
import re
import sys

SHOWN = "ui_say|ui_say_queued|ui_refuse|part_add|pen_printf|text_format|panel_line|effect_line|draw_wrapped|line|tr|app_note|tell_changed"
OTHER = "error_set|error_nomem|error_prefix|ui_command|on_row|on_rule|strcmp|strncmp|getenv|set_find|session_log|str_printf|pager_open|input_open|FRONT|SMOOTH"
SHOWN += "|canvas_say|say_why|plot_say|phrase_set|phrase_add|CANNOT"
STAY = {"slimscope", "enable_subgraph_type", "auto", "enable-bracketed-paste", "show-all-if-ambiguous", "%s..%s mean %s std %s", "KL %s~(%d)", "ppl %s", "KL %s  ppl %s (%s)  top-1 %s %%"}
STRING = r'"(?:[^"\\]|\\.)*"'
FORMAT = r"%[-+ 0#]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|j)?[a-zA-Z%]|\\.|'[^']*'"


def source(path):
    text = re.sub(r"/\*.*?\*/", " ", open(path, encoding="utf-8").read(), flags=re.S)
    text = re.sub(r"'\\?\"'", "' '", text)
    text = re.sub(r"^#\s*define\s+(\w+)\s+(%s)\s*$" % STRING, "", text, flags=re.M)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    return re.sub(r"(%s)((?:\s*%s)+)" % (STRING, STRING),
                  lambda m: m.group(1)[:-1] + "".join(s[1:-1] for s in re.findall(STRING, m.group(2))) + '"', text)


def caller(text, at):
    """The function whose argument stands at `at`."""
    depth = 0
    for i in range(at - 1, max(0, at - 400), -1):
        if text[i] == ")":
            depth += 1
        elif text[i] == "(":
            if depth == 0:
                name = re.search(r"(\w+)\s*$", text[:i])
                return name.group(1) if name else ""
            depth -= 1
        elif text[i] in ";{}" and depth == 0:
            return ""
    return ""


def words_of(paths):
    found = {}
    for path in paths:
        text = source(path)
        for m in re.finditer(STRING, text):
            s = m.group(0)[1:-1]
            words = re.findall("[A-Za-z]{2,}", re.sub(FORMAT, " ", s))
            call = caller(text, m.start())
            field = re.search(r"\.(help|label|title)\s*=\s*$", text[:m.start()][-20:])
            command = re.search(r"\.(command|name)\s*=\s*$", text[:m.start()][-20:])
            shown = re.fullmatch(SHOWN, call) or field
            sentence = len(words) >= 3 and not command and not re.fullmatch(OTHER, call)
            if path.startswith("src/"):  # of the commands only what they say on the screen
                shown, sentence = re.fullmatch(SHOWN, call), False
            if words and s not in STAY and (shown or sentence):
                found.setdefault(s, path)
    return found


table = dict(re.findall(r"^    \{(%s), (%s)\},$" % (STRING, STRING), 
                        "".join(open(t, encoding="utf-8").read() for t in sys.argv[1].split(",")), flags=re.M))
have = {k[1:-1] for k in table}
need = words_of(p for p in sys.argv[2:] if not re.search(r"/(theme|term|glyphs|player|dump)\.c$", p))
texts = "".join(source(p) for p in sys.argv[2:])
for s, path in need.items():
    if s not in have:
        print("%s lacks: %s" % (path, s))
for s in sorted(have):
    if '"%s"' % s not in texts:
        print("nothing says any more: %s" % s)
