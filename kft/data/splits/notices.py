"""What a user should know of the data before training, a line each; none if all is well."""

from collections import Counter
from typing import Any

from kft.data.splits.alike import alike, visible

Account = dict[str, Any]  # see `splits.Splits`
HELD_OUT = ("validation", "test")
SHOWN_GROUPS = 10


def notices(account: Account, max_length: int | None = None) -> list[tuple[str, str]]:
    """(one word, the problem): drops, leaks, truncation, classes never scored, labels alike.

    Args:
        account: of the splits, with "tokens" where texts have been tokenized.
        max_length: where texts are cut, for the message.
    """
    lines = [
        ("dropped", dropped(account)),
        ("leaks", leaked(account)),
        ("leaks", parted(account)),
        ("cut", truncated(account, max_length)),
        *(("unscored", line) for line in unscored(account)),
        ("alike", look_alike(account)),
    ]
    return [(title, line) for title, line in lines if line]


def dropped(account: Account) -> str:
    """How many rows were left out, by split and reason."""
    lines = []
    for name, part in account["splits"].items():
        reasons = {reason: count for reason, count in part["dropped"].items() if count}
        if reasons:
            listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            lines.append(f"{name} {sum(reasons.values()):,} of {part['read']:,} rows: {listed}")
    return "; ".join(lines)


def leaked(account: Account) -> str:
    """How many train rows stand in another split, and what became of them."""
    leaks = account.get("leaks") or {}
    counts = {name: leaks.get(name, 0) for name in HELD_OUT}
    more = {name: (leaks.get("same_tokens") or {}).get(name, 0) - counts[name] for name in HELD_OUT}
    unseen = ", ".join(f"{count:,} in {name}" for name, count in more.items() if count > 0)
    unseen = (
        f"the same tokens for the model as a row of train, though other texts: {unseen}" if unseen else ""
    )
    if not any(counts.values()):
        return unseen
    listing = ", ".join(f"{count:,} in {name}" for name, count in counts.items() if count)
    end = (
        f"{leaks['dropped_from_train']:,} dropped from train"
        if leaks.get("dropped_from_train")
        else 'kept; clean.leaks = "drop" drops them from train'
    )
    return f"rows that also stand in train: {listing}; {end}" + (f"; {unseen}" if unseen else "")


def parted(account: Account) -> str:
    """How many groups of `split.group` stand in the files of train and of another split."""
    counts = (account.get("leaks") or {}).get("groups") or {}
    listing = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
    kept = "kept as the files have them; leave the file out, and kft cuts by `split.group`"
    return f"groups that also have rows in train: {listing}; {kept}" if listing else ""


def truncated(account: Account, max_length: int | None) -> str:
    """The share of texts that lose tokens, by split."""
    shares = {
        name: (part.get("tokens") or {}).get("truncated_fraction") for name, part in account["splits"].items()
    }
    listing = ", ".join(f"{_percent(share)} of {name}" for name, share in shares.items() if share)
    limit = "" if max_length is None else f" = {max_length}"
    return f"texts that lose tokens at model.max_length{limit}: {listing}" if listing else ""


def unscored(account: Account) -> list[str]:
    """How many classes of train have no row in validation or test; in neither of both."""
    known = account["splits"]["train"].get("labels") or {}
    lacking = {
        name: {label for label in known if not part["labels"].get(label)}
        for name, part in account["splits"].items()
        if name in HELD_OUT and part.get("labels")
    }
    listing = ", ".join(f"{len(labels):,} in {name}" for name, labels in lacking.items() if labels)
    if not listing:
        return []
    alone = len(set.intersection(*lacking.values())) if len(lacking) > 1 else 0
    return [
        f"of {len(known):,} classes have no row: {listing}"
        + (f"; {alone:,} stand in train alone" if alone else "")
    ]


def look_alike(account: Account) -> str:
    """Labels that differ only in what people do not see, with their rows over all splits."""
    rows: Counter[str] = Counter()
    for part in account["splits"].values():
        rows.update(part.get("labels") or {})
    groups = [" and ".join(f"{visible(label)} {rows[label]:,}" for label in group) for group in alike(rows)]
    more = f"; and {len(groups) - SHOWN_GROUPS} more" if len(groups) > SHOWN_GROUPS else ""
    listing = "; ".join(groups[:SHOWN_GROUPS]) + more
    same = "labels equal but for case, spaces, Unicode form, invisible characters or the spelling of a number"
    return f"{same}: {listing}; data.label_names joins them" if groups else ""


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "under 0.1%"
