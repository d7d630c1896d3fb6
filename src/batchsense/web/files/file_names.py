"""Names that come from outside, made safe to use in a folder of ours."""

from __future__ import annotations

# Room for what is added ("-corrected", a folder) below the 255 bytes of file systems.
_LONGEST_NAME = 120


def file_name(given: str | None) -> str:
    r"""Give a file name that is safe to use in a folder of ours: no path, nothing unprintable.

    Examples
    --------
    >>> file_name("../../etc/passwd"), file_name("C:\\data\\m.csv"), file_name("..")
    ('passwd', 'm.csv', 'unnamed')
    """
    last = (given or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(sign for sign in last if sign.isprintable()).lstrip(".").strip()
    while len(name.encode()) > _LONGEST_NAME:
        name = name[1:]
    return name or "unnamed"
