"""What an inspection of a corpus says to people. Called by `__init__.py` for `launch.py data`."""

from scaling.data.kinds.text.inspection import Inspection, Split
from scaling.units import human


def text(found: Inspection) -> str:
    """For people."""
    rows = [
        ("documents", f"{found.documents:,}, in all {found.bytes:,} bytes ({human(found.bytes)})"),
        ("longest", f"{found.longest_bytes:,} bytes: {found.longest}"),
        ("copies", f"{found.copies:,} dropped"),
        ("empty", f"{found.empty:,} dropped" + _names(found)),
    ]
    if found.crlf:
        rows.append(("line ends", f"carriage returns in {found.crlf:,} documents, kept"))
    rows += [
        ("tokens", f"{found.train.tokens + found.validation.tokens:,} of {_vocabulary(found)}"),
        ("split by", found.split_by + _why(found)),
        ("train", _side(found.train, found)),
        ("validation", _side(found.validation, found)),
        ("prepared", f"in {found.seconds:.2f} s" + ("" if found.prepared_now else ", earlier")),
        ("corpus", found.corpus),
    ]
    part = "" if found.part == "all" else f", part {found.part}"
    lines = [f"{found.source}{part}", *(f"  {name:11s}{text}" for name, text in rows)]
    for name, side in (("train", found.train), ("validation", found.validation)):
        if not side.windows:
            lines.append(
                f"  The {name} split has not one window of data.seq_len={found.seq_len} tokens: "
                "give more text, or lower data.seq_len"
            )
    if found.first_lines:
        lines += ["as the model sees it:", *(f"  {line[:150]}" for line in found.first_lines)]
    return "\n".join(lines)


def _names(found: Inspection) -> str:
    more = ", ..." if found.empty > len(found.empty_names) else ""
    return f": {', '.join(found.empty_names)}{more}" if found.empty else ""


def _why(found: Inspection) -> str:
    wanted = f"data.validation_fraction={found.validation_fraction:g}"
    if found.split_by == "documents":
        return f", each by its own hash, for {wanted}"
    copies = f"; {found.block_copies:,} copies dropped" if found.block_copies else ""
    return f": whole documents do not give {wanted}{copies}"


def _vocabulary(found: Inspection) -> str:
    return f"a vocabulary of {found.vocab:,} ({found.tokenizer})"


def _side(side: Split, found: Inspection) -> str:
    share = side.bytes / max(1, found.train.bytes + found.validation.bytes)
    what = ("document" if found.split_by == "documents" else "block") + "s" * (side.texts != 1)
    return (
        f"{side.tokens:,} tokens in {side.texts:,} {what}, {side.bytes:,} bytes ({share:.1%}); "
        f"{side.windows:,} window{'' if side.windows == 1 else 's'} of {found.seq_len}"
    )
