"""What the dashboard says, in English and German: every word of the page stands here once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

ENGLISH: Final = "en"
GERMAN: Final = "de"
LANGUAGES: Final = (ENGLISH, GERMAN)

_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_KILO: Final = 1_000
_MEGA: Final = 1_000_000

# English is the key; what the service itself says in English (reasons, phrases) is translated as well.
_GERMAN: Final = {
    "Limit in force": "Geltende Grenze",
    "Site power": "Leistung des Standorts",
    "Link to the grid operator": "Verbindung zum Netzbetreiber",
    "Chargers": "Ladepunkte",
    "Alarms": "Meldungen",
    "Commands of the grid operator": "Befehle des Netzbetreibers",
    "What happened": "Was geschah",
    "Power against limit": "Leistung und Grenze",
    "Power against grant": "Leistung und Zuteilung je Ladepunkt",
    "setpoint": "Sollwert",
    "fallback": "Rückfallwert",
    "manual": "von Hand",
    "capacity": "Netzanschluss",
    "at_start": "Startwert",
    "step": "Stufe",
    "emergency_stop": "Not-Halt",
    "limit_enabled": "Freigabe der Grenze",
    "setpoint of the grid operator": "Sollwert des Netzbetreibers",
    "fallback limit, the link is lost": "Rückfallwert, die Verbindung fehlt",
    "set by hand": "von Hand gesetzt",
    "capacity of the connection": "Leistung des Netzanschlusses",
    "start value, no setpoint yet": "Startwert, noch kein Sollwert",
    "step of the grid operator": "Stufe des Netzbetreibers",
    "emergency stop": "Not-Halt",
    "since {}": "seit {}",
    "within the limit": "Grenze eingehalten",
    "above the limit": "über der Grenze",
    "not proven to be within the limit": "Grenze nicht sicher eingehalten",
    "worst case {}": "höchstens {}",
    "of {} capacity": "von {} Anschlussleistung",
    "no meter has spoken yet": "noch kein Messwert",
    "connected": "verbunden",
    "lost, last limit held": "verloren, letzte Grenze gilt weiter",
    "lost, in fallback": "verloren, Rückfallwert gilt",
    "back, waiting for a setpoint": "zurück, wartet auf Sollwert",
    "released, capacity alone": "freigegeben, nur der Anschluss begrenzt",
    "fallback in {}": "Rückfall in {}",
    "restored in {}": "wiederhergestellt in {}",
    "released in {}": "freigegeben in {}",
    "{} control centres": "{} Leitstellen",
    "one control centre": "eine Leitstelle",
    "no control centre": "keine Leitstelle",
    "{} of {} connected": "{} von {} verbunden",
    "{} counted at worst": "{} mit Höchstwert gerechnet",
    "all proven": "alle nachgewiesen",
    "waiting for the CSMS: {}": "warten auf das CSMS: {}",
    "{} not taken by the CSMS": "{} vom CSMS abgelehnt",
    "the bridge is the central system": "die Bridge ist das Zentralsystem",
    "Hour": "Stunde",
    "Day": "Tag",
    "power": "Leistung",
    "limit": "Grenze",
    "worst case": "höchstens",
    "granted": "zugeteilt",
    "Serial": "Seriennummer",
    "State": "Zustand",
    "Power": "Leistung",
    "Granted": "Zuteilung",
    "Worst case": "Höchstens",
    "Last seen": "Zuletzt",
    "Outbox": "Ausgang",
    "Power / grant": "Leistung / Zuteilung",
    "charging": "lädt",
    "ready": "bereit",
    "paused": "pausiert",
    "offline": "offline",
    "out of service": "außer Betrieb",
    "Find": "Suchen",
    "draws more than granted": "zieht mehr als zugeteilt",
    "refused its limit": "lehnt die Grenze ab",
    "limit not yet acknowledged": "Grenze noch nicht bestätigt",
    "answer awaited": "Antwort steht aus",
    "did not answer": "hat nicht geantwortet",
    "still reacting": "regelt noch",
    "holds its grant": "hält die Zuteilung",
    "offline, stops": "offline, lädt nicht",
    "offline, keeps_limit": "offline, behält die Grenze",
    "offline, nameplate": "offline, Nennleistung",
    "No alarms": "Keine Meldungen",
    "No command yet": "Noch kein Befehl",
    "Acknowledge": "Quittieren",
    "Acknowledge all": "Alle quittieren",
    "seen by {}": "gesehen von {}",
    "and {} more": "und {} weitere",
    "charger_offline": "Ladepunkt offline",
    "limit_refused": "Ladepunkt lehnt die Grenze ab",
    "limit_disobeyed": "Ladepunkt hält die Grenze nicht ein",
    "dead_letters": "Nachrichten, die das CSMS nicht annimmt",
    "authentication_failed": "Ladepunkt mit falschem Kennwort abgewiesen",
    "duplicate_id": "Zweite Verbindung mit derselben Seriennummer",
    "identity_mismatch": "Seriennummern einer Verbindung widersprechen sich",
    "journal_lost": "Journal nicht beschreibbar",
    "invariant_broken": "Zusage verletzt, Vorgang beiseitegelegt",
    "Time": "Zeit",
    "From": "Von",
    "Command": "Befehl",
    "Answer": "Antwort",
    "Reached": "Erreicht",
    "accepted": "angenommen",
    "refused": "abgelehnt",
    "awaited": "offen",
    "not a finite number": "keine endliche Zahl",
    "negative": "negativ",
    "below the minimum profile": "unter dem Mindestwert",
    "above ten times the capacity": "über dem Zehnfachen des Anschlusses",
    "time tag outside the window": "Zeitstempel außerhalb des Fensters",
    "time tag invalid": "Zeitstempel ungültig",
    "time tag not newer than the last accepted one": "Zeitstempel nicht neuer als der letzte",
    "the journal cannot be written": "Journal nicht beschreibbar",
    "decided too late": "zu spät entschieden",
    "Manual limit": "Grenze von Hand",
    "Lift manual limit": "Grenze von Hand aufheben",
    "manual limit {} by {}: {}": "von Hand {} durch {}: {}",
    "until {}": "bis {}",
    "until lifted": "bis zur Aufhebung",
    "Limit in kW": "Grenze in kW",
    "Reason": "Grund",
    "Ends": "Ende",
    "after 15 minutes": "nach 15 Minuten",
    "after 1 hour": "nach 1 Stunde",
    "after 4 hours": "nach 4 Stunden",
    "after 24 hours": "nach 24 Stunden",
    "when lifted": "wenn aufgehoben",
    "Continue": "Weiter",
    "Cancel": "Abbrechen",
    "Close": "Schließen",
    "Confirm": "Bestätigen",
    "Set the limit to {}, {}?": "Grenze auf {} setzen, {}?",
    "It can only lower what the grid operator allows.": "Sie kann nur senken, was der Netzbetreiber erlaubt.",
    "Lift the manual limit? What the others allow holds again.": "Grenze von Hand aufheben? Dann gelten die anderen.",
    "Acknowledge {} of {}?": "{} von {} quittieren?",
    "Acknowledge all {} alarms?": "Alle {} Meldungen quittieren?",
    "Tell {} its limit again now?": "{} die Grenze jetzt noch einmal mitteilen?",
    "Send what the CSMS did not take again?": "Vom CSMS Abgelehntes noch einmal senden?",
    "Retry": "Noch einmal versuchen",
    "Resend": "Noch einmal senden",
    "Log in": "Anmelden",
    "Log out": "Abmelden",
    "Token": "Token",
    "This token is not known.": "Dieses Token ist unbekannt.",
    "A token is made on the host of the bridge:": "Ein Token entsteht auf dem Rechner der Bridge:",
    "Looking needs no login here, acting does.": "Ansehen geht hier ohne Anmeldung, Handeln nicht.",
    "Looking needs a login here.": "Hier ist auch zum Ansehen eine Anmeldung nötig.",
    "This token may only look.": "Mit diesem Token darf nur angesehen werden.",
    "done": "erledigt",
    "a number from 0 on, in kW": "eine Zahl ab 0, in kW",
    "at least three letters": "mindestens drei Zeichen",
    "No values for {}: the service does not answer": "Seit {} keine Werte: der Dienst antwortet nicht",
    "Waiting for the service …": "Warten auf den Dienst …",
    "Phase currents": "Phasenströme",
    "Voltage": "Spannung",
    "Energy": "Zählerstand",
    "Counted as": "Gerechnet als",
    "Make": "Bauart",
    "waiting messages": "wartende Nachrichten",
    "never": "nie",
    "limit in force {}, {}": "Grenze {}, {}",
    "link {} → {}": "Verbindung {} → {}",
    "alarm: {} {}": "Meldung: {} {}",
    "over: {} {}": "vorbei: {} {}",
    "{} set a manual limit of {}: {}": "{} setzt von Hand {}: {}",
    "{} lifted the manual limit": "{} hebt die Grenze von Hand auf",
    "{} acknowledged {} {}": "{} quittiert {} {}",
    "{} asked {} to be told again": "{} lässt {} noch einmal unterrichten",
    "{} resent dead letters": "{} sendet Abgelehntes noch einmal",
}


class Words:
    """The words of one language, and numbers, spans and times as they are written in it."""

    def __init__(self, language: str, offset_minutes: int = 0) -> None:
        self.language = language if language in LANGUAGES else ENGLISH
        self.offset_minutes = offset_minutes  # of the browser's local time, east of UTC

    def __call__(self, text: str, *about: object) -> str:
        """The text in this language, with its gaps filled; what is unknown stays as it is."""
        known = _GERMAN.get(text, text) if self.language == GERMAN else text
        known = known.replace("_", " ") if known == text and "{" not in text else known
        return known.format(*about) if about else known

    def number(self, value: float, digits: int) -> str:
        """A number with so many digits behind the decimal sign of the language."""
        written = f"{value:,.{digits}f}"
        return written.translate(str.maketrans(",.", ".,")) if self.language == GERMAN else written

    def power(self, power_w: float | None) -> str:
        """A power in the unit that suits it: W, kW or MW; three digits or so say enough."""
        if power_w is None:
            return "–"
        if abs(power_w) >= 10 * _MEGA:
            return f"{self.number(power_w / _MEGA, 2)} MW"
        if abs(power_w) >= 100 * _KILO:
            return f"{self.number(power_w / _KILO, 0)} kW"
        return f"{self.number(power_w / _KILO, 1)} kW"

    def span(self, span_s: float) -> str:
        """How long something lasts, no finer than one looks at it."""
        whole_s = max(0, int(span_s))
        if whole_s < _MINUTE_S:
            return f"{whole_s} s"
        if whole_s < _HOUR_S:
            return f"{whole_s // _MINUTE_S} min"
        if whole_s < _DAY_S:
            return f"{whole_s // _HOUR_S} h {whole_s % _HOUR_S // _MINUTE_S} min"
        return f"{whole_s // _DAY_S} d {whole_s % _DAY_S // _HOUR_S} h"

    def countdown(self, left_s: float) -> str:
        """The time left, to the second: 3:12."""
        whole_s = max(0, round(left_s))
        hours, rest_s = divmod(whole_s, _HOUR_S)
        minutes, seconds = divmod(rest_s, _MINUTE_S)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def clock(self, utc_ms: int | None) -> str:
        """A time of day as the browser's clock shows it, with the date where it is not today."""
        if not utc_ms:
            return "–"
        zone = timezone(timedelta(minutes=self.offset_minutes))
        then, now = datetime.fromtimestamp(utc_ms / 1000, zone), datetime.now(UTC).astimezone(zone)
        if then.date() == now.date():
            return then.strftime("%H:%M:%S")
        return then.strftime("%d.%m. %H:%M" if self.language == GERMAN else "%d %b %H:%M")


def language_of(accepted: str) -> str:
    """The first language of an Accept-Language header that is spoken here."""
    for part in accepted.split(","):
        spoken = part.split(";")[0].strip()[:2].lower()
        if spoken in LANGUAGES:
            return spoken
    return ENGLISH
