"""Dates in other languages than English, said in English. Pure.

The names are those of CLDR, wide and abbreviated, in the case that stands beside a day.
"""

import re
import unicodedata

# Of each month, without accents. No name stands for two months: Croatian has the Polish and Czech ones for others.
_NAMES = {
    "Jan": "januar janvier janv enero ene gennaio gen janeiro jan januari stycznia sty ledna leden января янв январь "
    "січня січ tammikuuta tammikuu tammi ianuarie ian ocak oca ιανουαριου ιαν januára januara sausio janner "
    "jaenner jaanuar jaan janvaris януари јануар јан gener",
    "Feb": "februar feber februaer fevrier fevr febrero feb febbraio fevereiro fev februari lutego lut unora unor "
    "февраля фев февр февраль лютого лют helmikuuta helmikuu helmi februarie subat sub φεβρουαριου φεβ februara "
    "febr veebruar veebr februaris vasario февруари фебруар феб febrer",
    "Mar": "marz maerz mrz mars marzo mar marco maart mrt marca brezna brezen марта мар март березня бер maaliskuuta "
    "maaliskuu maalis marcius marc martie mart μαρτιου μαρ marts marec kovo maret martius martsi",
    "Apr": "april aprila avril avr abril abr aprile aprilie apr kwietnia kwi dubna duben апреля апр апрель квітня квіт "
    "huhtikuuta huhtikuu huhti aprilis nisan nis απριλιου απρ aprill balandzio април",
    "May": "mai mayo maggio mag maio mei maja maj kvetna kveten мая май травня трав toukokuuta toukokuu touko majus "
    "mayis may μαιου μαι maijs geguzes мај maig",
    "Jun": "juni juin junio giugno giu junho jun czerwca cze cervna cerven июня июн июнь червня черв kesakuuta kesakuu "
    "kesa junius iunie iun haziran haz ιουνιου ιουν juna junij juuni junijs birzelio юни јун juny",
    "Jul": "juli juillet juill juil julio luglio lug julho jul lipca lip cervence cervenec июля июл июль липня лип heinakuuta "
    "heinakuu heina julius iulie iul temmuz tem ιουλιου ιουλ jula julij juuli julijs liepos юли јул juliol",
    "Aug": "august aout agosto agustus ago augustus aug augusti sierpnia sie srpna srpen августа авг август серпня серп elokuuta "
    "elokuu elo augusztus agustos agu αυγουστου αυγ augusta avgust avg augusts rugpjucio agost agt",
    "Sep": "september septembre sept septiembre setiembre sep settembre set setembro wrzesnia wrz zari сентября сен сент "
    "сентябрь вересня вер syyskuuta syyskuu syys szeptember szept septembrie eylul eyl σεπτεμβριου σεπ septembra "
    "septembar septembris rugsejo септември септембар",
    "Oct": "oktober okt octobre oct octubre ottobre ott outubro out pazdziernika paz rijna rijen октября окт октябрь "
    "жовтня жовт lokakuuta lokakuu loka octombrie ekim eki οκτωβριου οκτ oktobra oktoober oktobris oktobar spalio "
    "октомври октобар",
    "Nov": "november novembre nov noviembre novembro listopada lis listopad listopadu ноября ноя нояб ноябрь листопада лист "
    "marraskuuta marraskuu marras noiembrie noi kasim kas νοεμβριου νοε novembra novembris novembar lapkricio "
    "ноември новембар",
    "Dec": "dezember dez decembre dec diciembre dic dicembre dezembro december grudnia gru prosince prosinec декабря дек "
    "декабрь грудня груд joulukuuta joulukuu joulu decembrie aralik ara δεκεμβριου δεκ decembra des desember "
    "detsember dets decembris decembar gruodzio декември децембар desembre",
}
_MONTHS = {name: month for month, names in _NAMES.items() for name in names.split()}
_OTHER_LETTERS = str.maketrans({"ł": "l", "ı": "i", "ø": "o", "æ": "ae", "ß": "ss"})
_WORD = re.compile(r"[^\W\d_]+")
_HOUR = re.compile(
    r"(?<![0-9:])([0-2]?[0-9]) ?(?:h|u|Uhr)(?: ?([0-5][0-9])(?: ?min(?: ?([0-5][0-9]) ?s)?)?)?(?![\w:])", re.IGNORECASE
)
_DOTTED_HOUR = re.compile(r"(?<=[0-9]{4})(?:[, ]+\w+\.?)* ([0-2]?[0-9])\.([0-5][0-9])(?:\.([0-5][0-9]))?$")
_CLOCK = re.compile(r"[0-9]{1,2}(?::[0-9]{2})+")
_AFTER_DAY = re.compile(r"(?<=[0-9])(?:\.|er|eme|ος|η|[ºª°]|-?го)(?![0-9\w])")
_APART = re.compile(r"[\s,.;|/()'’–-]+")
# "5 days ago" and "3 out of 5" are English, and no days of August and October.
_ENGLISH = re.compile(r"\b(?:(?:second|minute|hour|day|week|month|year)s?|of)\b", re.IGNORECASE)
_HALF_DAY = re.compile(
    r"(?<![0-9:])(1[0-2]|0?[1-9])(?::([0-5][0-9]))?(?::([0-5][0-9]))? ?(?:([ap])\.? ?m\b\.?|([πμ])\.\s?μ\.)",
    re.IGNORECASE,
)
_ZONE = re.compile(r" ?(?:\(?(UTC|GMT)\)?| ([+-][0-9]{2}:?[0-9]{2}))$")
# What may stand beside a time: any other word may say that it is another one, of another zone or half of the day, or a span.
_BESIDE = frozenset(
    [
        "um",
        "uhr",
        "à",
        "a",
        "as",
        "às",
        "la",
        "las",
        "les",
        "le",
        "de",
        "del",
        "den",
        "der",
        "om",
        "kl",
        "klo",
        "ob",
        "o",
        "u",
        "w",
        "v",
        "в",
        "о",
        "на",
        "г",
        "года",
        "року",
        "р",
        "godz",
        "h",
        "ore",
        "ora",
        "ve",
        "saat",
        "στις",
        "ч",
        "час",
        "d",
        "m",
        "r",
        "og",
        "at",
        "och",
        "kell",
        "alle",
        "dne",
        "dnia",
    ]
)
WORDS_MOST = 8


def in_english(text: str) -> str | None:
    """Return a date with the month's name in English and without what else is said around it; None where no month is named.

    "Freitag, 6. März 2026 um 14:30 Uhr" is "6 Mar 2026 14:30".
    """
    words = _WORD.findall(text)
    if len(words) > WORDS_MOST or _ENGLISH.search(text):
        return None
    named = {month for word in words if (month := _MONTHS.get(_plain(word))) is not None}
    if len(named) != 1:
        return None
    [month] = named
    text = _HALF_DAY.sub(_of_24, text)
    zone = _ZONE.search(text)
    text = _HOUR.sub(_clock, _DOTTED_HOUR.sub(_clock, text[: zone.start()] if zone else text))
    clocks = len(_CLOCK.findall(text))
    if clocks > 1 or (clocks and not _is_plain(text)):
        return None
    text = _AFTER_DAY.sub(" ", text)
    text = _WORD.sub(lambda found: month if _plain(found[0]) in _MONTHS else " ", text)
    said = _APART.sub(" ", text).strip(" :")
    return f"{said} {(zone[1] or zone[2]).upper()}" if zone else said


def _is_plain(text: str) -> bool:
    """Whether of all words from the first figure on it is known that they do not say what a time means."""
    figure = re.search("[0-9]", text)
    words = _WORD.findall(text[figure.start() :]) if figure else []
    return all(word.lower() in _BESIDE or _plain(word) in _MONTHS for word in words)


def _of_24(time: "re.Match[str]") -> str:
    is_later = (time[4] or "").lower() == "p" or time[5] in ("μ", "Μ")
    rest = f":{time[3]}" if time[3] else ""
    return f"{int(time[1]) % 12 + 12 * is_later:02}:{time[2] or '00'}{rest}"


def _clock(hour: "re.Match[str]") -> str:
    return f" {hour[1]}:{hour[2] or '00'}" + (f":{hour[3]}" if hour[3] else "")


def _plain(word: str) -> str:
    """A word in small letters, without accents."""
    parted = unicodedata.normalize("NFD", word.lower().translate(_OTHER_LETTERS))
    return "".join(letter for letter in parted if unicodedata.category(letter) != "Mn").translate(_OTHER_LETTERS)
