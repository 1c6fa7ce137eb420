"""Records what the hjson package, which DeepSpeed reads its configuration with, makes of texts.

Opt-in: needs `pip install hjson==3.1.0`. Writes tests/data/hjson.jsonl, which tests/frameworks.rs
compares the reader with. Values that no reader of ours looks into (lists) are recorded as `[]`.

    python3 tests/frameworks/hjson_table.py > tests/data/hjson.jsonl
"""

import json

import hjson

TEXTS = [
    "{}",
    "",
    "   \n",
    "# only a comment\n",
    '{"a": 1}',
    '{"a": 1,}',
    '{"a": 1 "b": 2}',
    '{\n"a": 1\n"b": 2\n}',
    '{\n  // a comment\n  "a": 1, # another\n  /* and\n a third */ "b": 2,\n}',
    "a: 1\nb: 2\n",
    "a: 1, b: 2",
    "{a: 1}",
    "{'a': 'x'}",
    "{a: x}",
    "{a: x\n}",
    "{a: x, b: 2\n}",
    "{a: auto\n b: 2}",
    '{"a": "auto"}',
    "{a: true, b: false, c: null}",
    "{a: truely\n}",
    "{a: True\n}",
    "{a: 16.0, b: 1e1, c: 1.5, d: -3, e: 1E2, f: 2e-1}",
    "{a: 007\n}",
    "{a: 1.\n}",
    "{a: .5\n}",
    "{a: +1\n}",
    "{a: 1e}\n}",
    "{a: 1e99, b: 12345678901234.0}",
    "{a: 0, b: -0}",
    "{a: 1 # comment\n}",
    "{a: 1 // comment\n}",
    "{a: 5 apples\n}",
    '{"a": {"b": {"c": 3}}, "d": [1, 2, {"e": 4}]}',
    '{"a": [1 2\n3]}',
    '{"a": [x\ny]}',
    '{"a": "tab\\t quote\\" slash\\/ unicode\\u00e4"}',
    '{"a": "bad \\x escape"}',
    '{"a": "open',
    "{a: '''\n  many\n  lines\n  '''\n}",
    "{a: '''open\n}",
    "{a b: 1}",
    "{a : 1}",
    "{: 1}",
    '{"": 1}',
    "{a 1}",
    '{"a" 1}',
    "{a: }",
    "{a: ]\n}",
    "{a: 1",
    "{a: 1}}",
    "{a: 1} x",
    "{a: 1} # the end",
    "[1, 2]",
    "just words",
    '{"a": 1, "b": /* inside */ 2}',
    '{"a": /* never closed 2}',
    "{a: http://example.org\n}",
    '{"a":1,"b":"${x}","c":"{{ y }}"}',
    '{"ä": "ö"}',
    "{a: 1\r\nb: 2\r\n}\r\n",
    '{"a": 1;}',
    '{"a": "x", }',
    "{,}",
    '{"a": 1,, "b": 2}',
]


def plain(value):
    """Lists become empty: no key that is looked for holds one."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [] if isinstance(value, list) else value


def main():
    for text in TEXTS:
        try:
            value = hjson.loads(text)
            made = plain(value) if isinstance(value, dict) else None
        except (hjson.HjsonDecodeError, IndexError):
            made = None
        print(json.dumps({"text": text, "made": made}))


if __name__ == "__main__":
    main()
