#!/usr/bin/env python3
"""Our trace beside the oracle's, aligned; the first differences are named with both sides' modules.

    compare.py THEIRS.jsonl OURS.jsonl [how many differences]

THEIRS comes from trace.py, OURS from `cargo run --release --example oracle_trace`. Two allocations are the same when
they have the same size and, after alignment, die before the same allocation.
"""
import difflib, json, sys


def rows(path):
    return [json.loads(line) for line in open(path)]


def where(r):
    stack = [w.replace("transformers/models/", "").replace("torch/", "") for w in r.get("where", [])[:2]]
    return f"{r['bytes']:>13,} {r['born']:8} [{r['module']}] {r.get('node', '')} {' < '.join(stack)}"


def peak(rs):
    frees = {}
    for r in rs:
        frees.setdefault(r["freed_before"], []).append(r["bytes"])
    live = top = 0
    up = lambda n: (n + 511) // 512 * 512
    for r in rs:
        live -= sum(up(n) for n in frees.get(r["i"], []))
        live += up(r["bytes"])
        top = max(top, live)
    return top


def main():
    theirs, ours = rows(sys.argv[1]), rows(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    a, b = peak(theirs), peak(ours)
    print(f"allocations {len(theirs)} and {len(ours)}; peak {a:,} and {b:,}: {100 * (b - a) / a:+.3f} %")
    match = difflib.SequenceMatcher(None, [r["bytes"] for r in theirs], [r["bytes"] for r in ours], autojunk=False)
    shown, index = 0, {}
    for op, i0, i1, j0, j1 in match.get_opcodes():
        if op == "equal":
            index.update(zip(range(i0, i1), range(j0, j1)))
            continue
        if shown < most:
            print(f"--- {op}: theirs {i0}..{i1}, ours {j0}..{j1}")
            for r in theirs[i0:i1][:6]: print("  theirs", where(r))
            for r in ours[j0:j1][:6]: print("  ours  ", where(r))
        shown += 1
    print(f"{shown} stretches differ")
    index[len(theirs)], late = len(ours), 0
    for i, j in index.items():
        if i >= len(theirs): continue
        t, o = theirs[i]["freed_before"], ours[j]["freed_before"]
        if t is not None and theirs[i]["died"] == "end": t = None
        if (t is None) != (o is None) or (t is not None and index.get(t, -1) != o):
            late += 1
            if late <= most:
                print(f"life of {i}/{j} {where(theirs[i])}: theirs until {t} ({theirs[i]['died']}), ours until {o} ({ours[j]['died']})"
                      + (f" = theirs' {[k for k, v in index.items() if v == o][:1]}" if o is not None else ""))
    print(f"{late} lives differ")
    return 1 if shown or late else 0


if __name__ == "__main__":
    sys.exit(main())
