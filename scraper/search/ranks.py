"""Lists of results made one: by reciprocal rank, and with what says the same shown once. Pure.

Reciprocal rank fusion is that of Cormack, Clarke and Büttcher (SIGIR 2009), with their constant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

RANK_K = 60
SAME_MOST = 20

Row = dict[str, Any]


def fused(lists: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the results of several lists, each once, those first that stand high in many.

    A result is what has the same `of`, `id` and `version`; of several rows the first is shown, with the snippet of whichever has one.
    """
    scores: dict[tuple[str, int, int], float] = {}
    rows: dict[tuple[str, int, int], Row] = {}
    for found in lists:
        for rank, row in enumerate(found, 1):
            name = (row["of"], row["id"], row["version"] or 0)
            scores[name] = scores.get(name, 0.0) + 1 / (RANK_K + rank)
            if name not in rows:
                rows[name] = row
            elif not rows[name]["snippet"]:
                rows[name] = {**rows[name], "snippet": row["snippet"]}
    order = sorted(scores, key=lambda name: (-scores[name], name))
    return [{**rows[name], "score": round(scores[name], 5)} for name in order]


def folded(found: Sequence[Row]) -> list[Row]:
    """Return results without those that say the same as one before them; that one has them as `same`.

    The same is told by `lead`, the beginning of the text, which is taken out.
    """
    first: dict[tuple[str, str], Row] = {}
    made: list[Row] = []
    for row in found:
        shown = {name: value for name, value in row.items() if name != "lead"} | {"same": []}
        lead = " ".join(str(row.get("lead") or "").casefold().split())
        mark = (row["of"], lead)
        if lead and mark in first:
            same = first[mark]["same"]
            if len(same) < SAME_MOST:
                same.append(_brief(row))
            continue
        if lead:
            first[mark] = shown
        made.append(shown)
    return made


def _brief(row: Mapping[str, Any]) -> Row:
    return {name: row[name] for name in ("of", "id", "version", "source", "url")}


def by_subject(passages: Sequence[Row]) -> list[Row]:
    """Return passages as results: of each page or item the best one, as its snippet."""
    made: dict[tuple[str, int], Row] = {}
    for passage in passages:
        name = (passage["of"], passage["subject_id"])
        if name not in made:
            made[name] = {
                **{key: passage[key] for key in ("of", "source", "kind", "url", "title", "at", "version", "until")},
                "id": passage["subject_id"],
                "score": round(passage["score"], 4),
                "snippet": [{"text": passage["text"], "hit": False}],
                "lead": passage["text"] if passage["number"] == 0 else "",
            }
    return list(made.values())
