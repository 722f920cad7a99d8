"""Bytes of a page to its text, by the rules of the WHATWG: the Encoding standard, and the HTML standard's prescan. Pure."""

import codecs
import re

import webencodings

PRESCANNED = 1024
HEAD_MOST = 64 * 1024
# Names of Python's and of Windows' that the standard does not list, and servers send.
_ALIASES = {"cp932": "shift_jis", "cp936": "gbk", "cp949": "euc-kr", "cp950": "big5"}
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
_CHARSET = re.compile(r"""(?<![\w-])charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
_XML = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_TAG = re.compile(rb"</?[A-Za-z][^\s/>]*")
_META = re.compile(rb"<meta[\s/]", re.IGNORECASE)
_KOI8_U = {0x255D: 0x045E, 0x256C: 0x040E}  # two letters of Belarusian, where Python's has lines
_EUC_WIDE = re.compile(rb"\x8f[\xa1-\xfe][\xa1-\xfe]")  # JIS X 0212, of which there is one table
_EUC_PAIR = re.compile(rb"[\x8e\xa1-\xfe][\x00-\xff]|[\x80-\xff]")
_NO_LETTER, _READ_AS = b"\xff", "\uf8f3"  # what no letter is written as, and how Python reads it
# One attribute: a name, and a value that may be quoted.
_ATTRIBUTE = re.compile(
    rb"""[\s/]*([^\s/>=][^\s/>=]*|=[^\s/>=]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"'][^\s>]*)?))?"""
)


def decode(body: bytes, content_type: str) -> str:
    """Return the text of a body: by its byte order mark, else the header, else what it says itself, else UTF-8 or windows-1252."""
    for bom, name in _BOMS:
        if body.startswith(bom):
            return _clean(body[len(bom) :].decode(name, "replace"))
    encoding = _declared(body, content_type)
    if encoding is None:
        try:
            return _clean(body.decode("utf-8"))
        except UnicodeDecodeError:
            encoding = _late(body)
    return _clean(_decoded(body, encoding))


def encoding_of(body: bytes, content_type: str) -> str:
    """Return the name of the encoding that decode() reads a body by, as the standard has it."""
    for bom, name in _BOMS:
        if body.startswith(bom):
            return name
    encoding = _declared(body, content_type)
    if encoding is None:
        try:
            body.decode("utf-8")
            return "utf-8"
        except UnicodeDecodeError:
            encoding = _late(body)
    return str(encoding.name)


def encoded(text: str, encoding: str) -> bytes:
    """Return a text in an encoding of the standard; what that does not have, as a number (URL standard, "percent-encode after encoding")."""
    return bytes(webencodings.lookup(encoding).codec_info.encode(text, "in_query")[0])


def _declared(body: bytes, content_type: str) -> webencodings.Encoding | None:
    said = _CHARSET.search(content_type)
    found = _lookup(said[1] or said[2] or said[3] or "") if said else None
    return found if found is not None else prescan(body[:PRESCANNED])


def _late(body: bytes) -> webencodings.Encoding:
    """What is no UTF-8 may still say what it is further on ("change the encoding", HTML standard, section 13.2.3.4)."""
    return prescan(body[:HEAD_MOST]) or webencodings.lookup("windows-1252")


def _lookup(label: str) -> webencodings.Encoding | None:
    return webencodings.lookup(_ALIASES.get(label.strip().lower(), label))


def _decoded(body: bytes, encoding: webencodings.Encoding) -> str:
    if encoding.name == "euc-jp":
        return _euc_jp(body)
    if encoding.name in ("gbk", "gb18030"):  # the standard reads both as the newer one, with Microsoft's euro
        return body.decode("gb18030", "euro")
    errors = "c1" if encoding.name.startswith(("windows-", "iso-8859-")) else "replace"
    text = str(encoding.codec_info.decode(body, errors)[0])
    return text.translate(_KOI8_U) if encoding.name == "koi8-u" else text


def _c1(error: UnicodeError) -> tuple[str, int]:
    """The standard's code pages have a control character where Python's have nothing."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start]
    return chr(byte) if 0x80 <= byte <= 0x9F else "\ufffd", error.start + 1


def _euro(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\u20ac" if error.object[error.start] == 0x80 else "\ufffd", error.start + 1


def _in_query(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return f"%26%23{ord(error.object[error.start])}%3B", error.start + 1


codecs.register_error("c1", _c1)
codecs.register_error("in_query", _in_query)
codecs.register_error("euro", _euro)


def _euc_jp(body: bytes) -> str:
    """The text of EUC-JP, whose letters the standard takes from Microsoft's table (index jis0208), as those of Shift_JIS."""
    pieces = (_EUC_PAIR.sub(_as_windows, piece) for piece in _EUC_WIDE.split(body))
    wide = _EUC_WIDE.findall(body)
    texts = [piece.decode("cp932", "replace").replace(_READ_AS, "\ufffd") for piece in pieces]
    between = [found.decode("euc_jp", "replace") for found in wide]
    return "".join(part for pair in zip(texts, [*between, ""], strict=True) for part in pair)


def _as_windows(pair: re.Match[bytes]) -> bytes:
    """Two bytes of EUC-JP as Shift_JIS has them (JIS X 0208 appendix 1); a half-width letter as its one byte."""
    if len(pair[0]) == 1:
        return _NO_LETTER
    lead, trail = pair[0]
    if lead == 0x8E:
        return bytes([trail]) if 0xA1 <= trail <= 0xDF else _NO_LETTER
    if not (0xA1 <= lead <= 0xFE and 0xA1 <= trail <= 0xFE):
        return _NO_LETTER + (bytes([trail]) if trail < 0x80 else b"")
    row, cell = lead - 0xA0, trail - 0xA0
    first = (row + 1) // 2 + (0x80 if row <= 62 else 0xC0)
    second = cell + (0x3F if cell <= 63 else 0x40) if row % 2 else cell + 0x9E
    found = bytes([first, second])
    return _NO_LETTER if "\ufffd" in found.decode("cp932", "replace") else found


def _clean(text: str) -> str:
    return text.replace("\x00", "") if "\x00" in text else text


def prescan(head: bytes) -> webencodings.Encoding | None:
    """Return the encoding that a page says it is in, or None (HTML standard, section 13.2.3.2)."""
    if declared := _XML.match(head):
        return _meant(declared[1].decode("ascii"))
    place = 0
    while (place := head.find(b"<", place)) >= 0:
        if head.startswith(b"<!--", place):
            end = head.find(b"-->", place + 2)
            place = len(head) if end < 0 else end + 3
        elif _META.match(head, place):
            found, place = _of_meta(head, place + len(b"<meta"))
            if found is not None:
                return found
        elif tag := _TAG.match(head, place):
            _, place = _attributes(head, tag.end())
        elif head[place + 1 : place + 2] in (b"!", b"/", b"?"):
            end = head.find(b">", place)
            place = len(head) if end < 0 else end + 1
        else:
            place += 1
    return None


def _attributes(head: bytes, place: int) -> tuple[dict[bytes, bytes], int]:
    """The attributes of a tag, each name once, in lower case, and where the tag ends."""
    found: dict[bytes, bytes] = {}
    while match := _ATTRIBUTE.match(head, place):
        found.setdefault(match[1].lower(), match[2] or match[3] or match[4] or b"")
        place = match.end()
    return found, place


def _of_meta(head: bytes, place: int) -> tuple[webencodings.Encoding | None, int]:
    attributes, place = _attributes(head, place)
    if b"charset" in attributes:
        return _meant(attributes[b"charset"].decode("latin-1")), place
    if attributes.get(b"http-equiv", b"").lower() == b"content-type":
        said = _CHARSET.search(attributes.get(b"content", b"").decode("latin-1"))
        if said:
            return _meant(said[1] or said[2] or said[3] or ""), place
    return None, place


def _meant(label: str) -> webencodings.Encoding | None:
    """What could be read so far is not UTF-16; x-user-defined is what browsers make of it."""
    found = _lookup(label)
    if found is None:
        return None
    if found.name.startswith("utf-16"):
        return webencodings.lookup("utf-8")
    return webencodings.lookup("windows-1252") if found.name == "x-user-defined" else found
