"""Configuration: the YAML file, the environment and the files of profiles/ become checked settings and the core's plan.

Nobody else reads profiles/ or the environment. A value is taken from the environment (`GRIDLIMIT_<SECTION>__<KEY>`,
`GRIDLIMIT_DATA_DIR`, `GRIDLIMIT_CHARGERS` for the whole list; written as in YAML) before the file, and from the file
before the default. Whatever is unknown or makes no sense is refused, all of it at once.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from bridge.core.limit import minimum_14a_w
from bridge.core.plan import ChargerPlan, Offline, OnReturn, Plan, Way
from bridge.core.points import Point
from bridge.core.quantities import Watts
from bridge.dso_profile import CHARGER_IOA_STRIDE, MAX_IOA, DsoFallback, DsoProfile, point_table

PREFIX = "GRIDLIMIT_"
SHIPPED_PROFILES = Path(__file__).parent / "profiles"
STALE_AFTER_SAMPLES = 3
LPC_HOLD_S = 120.0  # EEBUS LPC: the heartbeat is missing after 120 s
LPC_RELEASE_S = 7_200.0
MAX_FILE_BYTES = 4_000_000
MAX_DEPTH = 8
MAX_PASSWORD_BYTES = 256
MIN_PASSWORD_CHARACTERS = 16  # OCPP 2.0.1 A00.FR.205
MAX_TRANSLATED_SERIAL = 25  # OCPP 2.0.1 ChargingStationType.serialNumber

KeyPath = tuple[Hashable, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)

PowerW = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]
FilePath = Annotated[Path, Field(strict=False)]
Host = Annotated[str, Field(min_length=1, max_length=253)]
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9*_=:+|@.-]{1,48}$")]  # OCPP-J part 4 §3.1.1: safe in a URL
ProfileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ConfigError(Exception):
    """The configuration makes no sense. `problems` are sentences, each with place, key, what is wrong, what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class LimitCommand(_Section):
    """How a make of charger is told its limit: in `unit`, in whole multiples of `step`, asked back if `read_back`."""

    method: Literal["charging_profile", "change_configuration", "data_transfer"] = Field(
        description="`charging_profile` (OCPP 1.6 and 2.0.1), `change_configuration` (a configuration key of the unit)"
        " or `data_transfer` (a message of the vendor)."
    )
    key: str | None = Field(
        default=None,
        validate_default=True,
        description="The configuration key that holds the limit. Nobody else may write it.",
    )
    unit: Literal["W", "kW", "A"] = Field(default="W", description="What the value counts; `A` is amperes per phase.")
    step: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1, description="The value is a whole multiple of this, rounded down."
    )
    read_back: bool = Field(
        default=False, description="Ask the unit afterwards which limit it holds; only that is believed."
    )
    vendor_id: str | None = Field(
        default=None,
        validate_default=True,
        max_length=255,
        description="`vendorId` of the DataTransfer that sets the limit.",
    )
    message_id: str | None = Field(default=None, max_length=50, description="`messageId` of that DataTransfer.")
    data: str = Field(
        default="<value>", max_length=500, description="`data` of that DataTransfer; `<value>` stands for the value."
    )
    read_message_id: str | None = Field(
        default=None,
        validate_default=True,
        max_length=50,
        description="`messageId` of the DataTransfer that asks for the limit; it answers the value or a JSON object.",
    )
    read_field: str | None = Field(default=None, description="The field of that JSON object in which the value stands.")

    @field_validator("key")
    @classmethod
    def _key_belongs_to_change_configuration(cls, key: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("method") == "change_configuration") != bool(key):
            raise ValueError("is needed with method change_configuration and with no other: name the unit's key")
        return key

    @field_validator("vendor_id")
    @classmethod
    def _vendor_id_belongs_to_data_transfer(cls, vendor_id: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("method") == "data_transfer") != bool(vendor_id):
            raise ValueError("is needed with method data_transfer and with no other: name the vendor's message")
        return vendor_id

    @field_validator("data")
    @classmethod
    def _data_has_the_value(cls, data: str) -> str:
        if data.count("<value>") != 1:
            raise ValueError("must contain <value> once")
        return data

    @field_validator("read_message_id")
    @classmethod
    def _reading_back_needs_a_message(cls, read_message_id: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("method") == "data_transfer" and info.data.get("read_back") and not read_message_id:
            raise ValueError("is needed with read_back: name the message that asks for the limit")
        return read_message_id


class Sampling(_Section):
    """Which measurands a make of charger samples how often, and the configuration keys that set it (None: no key)."""

    interval_key: str | None = Field(
        default=None,
        description="The key of the sampling interval in seconds. None: the make cannot sample on request.",
    )
    interval_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=60,
        description="What is written there; three of it without a sample and the measurements are not topical.",
    )
    measurands_key: str | None = Field(default=None, description="The key of the list of measurands to sample.")
    measurands: list[str] = Field(default=[], description="What is written there.")
    meter: Literal["register", "session"] = Field(
        default="register",
        description="`session`: the meter begins at 0 with every session. A register is then kept by the bridge and"
        " marked `source: virtual-register` in customData.",
    )


class Quirks(_Section):
    """What a make of legacy unit does otherwise than its OCPP version says."""

    one_key_at_a_time: bool = Field(
        default=False, description="GetConfiguration names one key in a message: several upset the firmware."
    )
    reboot_keys: list[str] = Field(
        default=[], description="Keys that count after a reboot only: setting one is answered RebootRequired."
    )
    configuration_keys: list[str] = Field(
        default=[], description="All keys of the unit, where it does not list them when asked for all."
    )
    standard_keys: dict[str, str] = Field(
        default={}, description="Keys of OCPP 1.x that this make spells otherwise: standard name to its own."
    )
    immediate_reset: Literal["Hard", "Soft"] = Field(
        default="Hard", description="The Reset that stands for Immediate; `Soft` where a hard one loses the session."
    )


class ChargerProfile(_Section):
    """What a make of charger says and obeys: one file of profiles/chargers/."""

    vendor: str = Field(description="The vendor, where the unit does not say one.")
    model: str = Field(description="The model, where the unit does not say one.")
    protocol: Literal["ocpp1.5", "ocpp1.6", "ocpp2.0.1"] = Field(
        description="What it speaks: the WebSocket subprotocol. Another one is refused."
    )
    hello: str | None = Field(
        default=None,
        description="What it says on the bare socket before the handshake: `<serial>` once, `<version>` at most once,"
        " and something fixed at the end. None if nothing.",
    )
    phases: Annotated[int, Field(ge=1, le=3)] = Field(
        default=3, description="How many phases it charges on, 230 V each."
    )
    connectors: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="How many connectors it has, from 1.")
    connector_type: Annotated[str, Field(max_length=20)] = Field(
        default="Unknown",
        description="What is plugged in: a ConnectorEnumType of OCPP 2.0.1, such as `cType2` or `cCCS2`.",
    )
    minimum_w: PowerW = Field(description="The least it charges with; below it pauses.")
    maximum_w: PowerW = Field(description="What it draws when nothing limits it.")
    limit: LimitCommand = Field(description="How it is told its limit.")
    sampling: Sampling = Field(default=Sampling(), description="What it samples, and how it is told.")
    reaction_s: Seconds = Field(default=2.0, description="From its answer until it obeys.")
    offline: Annotated[Offline, Field(strict=False)] = Field(
        default=Offline.NAMEPLATE,
        description="What it does without its connection: `stops`, `keeps_limit` (the last one acknowledged) or"
        " `nameplate` (assume its maximum).",
    )
    floor_w: PowerW = Field(
        default=0,
        description="What it may draw when its lease has ended: below `minimum_w` it pauses then.",
    )
    lease_s: Annotated[float, Field(ge=60, le=86_400, allow_inf_nan=False)] | None = Field(
        default=None,
        validate_default=True,
        description="How long a grant lasts unless it is renewed; `floor_w` holds then. Only ocpp2.0.1 can; none: for"
        " ever.",
    )
    ladder: Annotated[list[Annotated[Way, Field(strict=False)]], Field(min_length=1)] = Field(
        default=[Way.LIMIT],
        description="What is tried in turn while it refuses: `limit`, `other_unit`, `per_transaction`, `pause`,"
        " `stop`.",
    )
    file_transfer: list[str] = Field(
        default=["ftp"], description="Schemes of addresses it can load firmware from and send diagnostics to."
    )
    local_list_entries: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=100, description="How many entries its list of known drivers takes in one message; 0: it has no list."
    )
    quirks: Quirks = Field(default=Quirks(), description="What it does otherwise than its OCPP version says.")

    @field_validator("hello")
    @classmethod
    def _hello_names_the_serial(cls, hello: str | None) -> str | None:
        if hello is not None and hello.count("<serial>") != 1:
            raise ValueError("must contain <serial> once")
        return hello

    @field_validator("maximum_w")
    @classmethod
    def _maximum_reaches_minimum(cls, maximum_w: int, info: ValidationInfo) -> int:
        return _not_below(maximum_w, info, "minimum_w")

    @field_validator("lease_s")
    @classmethod
    def _a_lease_needs_charging_profiles(cls, lease_s: float | None, info: ValidationInfo) -> float | None:
        if lease_s is not None and info.data.get("protocol") != "ocpp2.0.1":
            raise ValueError("needs charging profiles that end by themselves, which only ocpp2.0.1 has here")
        return lease_s

    @field_validator("limit")
    @classmethod
    def _limit_is_in_the_words_of_the_protocol(cls, limit: LimitCommand, info: ValidationInfo) -> LimitCommand:
        protocol = info.data.get("protocol")
        if protocol == "ocpp1.5" and limit.method == "charging_profile":
            raise ValueError("method charging_profile is unknown to ocpp1.5: use change_configuration or data_transfer")
        if protocol == "ocpp2.0.1" and limit.method != "charging_profile":
            raise ValueError("a unit that speaks ocpp2.0.1 is limited by method charging_profile")
        return limit


class Site(_Section):
    """The site: its connection, what may be set for it, and who may charge."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "Site"
    """What the site is called: in the log, in alarms, on every paper."""
    capacity_w: Annotated[PowerW, Field(gt=0)]
    """Power of the grid connection, W. No limit in force is ever above it."""
    min_limit_w: PowerW | Literal["enwg_14a"]
    """The least that can be set, W; a setpoint below it is refused. `enwg_14a`: what § 14a EnWG leaves so many
    chargers."""
    allow_zero: bool = False
    """Accept a setpoint of exactly 0 W, which pauses every charger. Values between 0 and the minimum stay refused."""
    ramp_w_per_s: Annotated[PowerW, Field(gt=0)] | None = None
    """How fast the sum of the grants may rise, W/s; null: at once. Cuts are never slowed."""
    rotate_s: Annotated[int, Field(ge=60, le=86_400)] = 900
    """How long a charger stays paused before it is another's turn, where the minimums of all do not fit."""
    require_floors: bool = False
    """Refuse a configuration with which the site could draw more than the fallback limit while the bridge is dead."""
    at_start_w: PowerW
    """The limit until the first setpoint ever, W. Default: `capacity_w`."""
    id_tags: list[Annotated[str, Field(min_length=1, max_length=36)]] = []
    """Who may charge while the bridge is the central system, or stands in for one that said nothing of the driver.
    Empty: everybody."""

    @model_validator(mode="before")
    @classmethod
    def _start_at_capacity(cls, data: Any) -> Any:
        if isinstance(data, dict) and "at_start_w" not in data and "capacity_w" in data:
            return data | {"at_start_w": data["capacity_w"]}
        return data

    @field_validator("min_limit_w")
    @classmethod
    def _minimum_within_capacity(cls, min_limit_w: int | str, info: ValidationInfo) -> int | str:
        if isinstance(min_limit_w, int) and min_limit_w > info.data.get("capacity_w", min_limit_w):
            raise ValueError("is above capacity_w: no limit could ever be accepted")
        return min_limit_w


class RedundancyGroup(_Section):
    """The control centres of one group. A setpoint of any of them is one of the group."""

    name: Annotated[str, Field(min_length=1, max_length=50)]
    """What the group is called in the log and in `deciding_group`."""
    addresses: list[str] = []
    """IP addresses its control centres connect from."""
    fingerprints: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    """SHA-256 of their certificates, 64 hexadecimal digits; only with `tls`."""

    @field_validator("addresses")
    @classmethod
    def _addresses_are_of_hosts(cls, addresses: list[str]) -> list[str]:
        try:
            return [str(ipaddress.ip_address(address)) for address in addresses]
        except ValueError as error:
            raise ValueError(f"must be IP addresses: {error}") from None


class Tls(_Section):
    """TLS after IEC 62351-3. All files are PEM, and are read anew when they change."""

    certificate: Annotated[Path, Field(strict=False)]
    """Our certificate, with its chain."""
    key: Annotated[Path, Field(strict=False)]
    """Its key."""
    authorities: Annotated[Path, Field(strict=False)]
    """Who signs the certificates of control centres."""
    revocation_list: Annotated[Path, Field(strict=False)] | None = None
    """Which of those no longer count."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""
    expiry_alarm_days: Annotated[int, Field(ge=1, le=3_650)] = 30
    """So many days before the certificate or the revocation list ends, the alarm is raised."""
    renew_after_s: Annotated[float, Field(ge=60, le=30 * 86_400)] | None = None
    """A connection is ended after so long, s, so that the next one has new keys; 86400 is what IEC 62351-3 asks for.
    Null: never, as control centres with TLS 1.3 update the keys themselves."""


class ConnectionLimits(_Section):
    """What is borne of control centres: connections in all, and of each source address within a minute.

    Who asks for more `unknown_addresses_per_minute`, or is in no group, is shut out for `back_off_s`.
    """

    connections: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Connections in all."""
    connections_per_address: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Connections from one address."""
    start_stop_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """STARTDT and STOPDT from one address within a minute."""
    commands_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 60_000
    """Commands from one address within a minute."""
    unknown_addresses_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Requests to object addresses that do not exist, from one address within a minute."""
    back_off_s: Seconds = 60.0
    """How long an address that asked for too much is shut out, s."""


class Iec104(_Section):
    """The outstation. Beyond this machine it listens with `tls`, or in the clear where `insecure` says so."""

    host: Host = "127.0.0.1"
    """The address it listens at; `0.0.0.0` for all of this machine."""
    port: Port = 2404
    """The port it listens at."""
    common_address: Annotated[int, Field(ge=1, le=65_534)] = 1
    """The common address of ASDU of all its points."""
    stack: Literal["native", "c104"] = "native"
    """Our own outstation, or c104's (one control centre, trusted network, needs the extra `lab`)."""
    dso_profile: ProfileName = "default"
    """The point table: a file of `profiles/dso/`, beside this file or among those shipped."""
    profile: DsoProfile
    groups: Annotated[list[RedundancyGroup], Field(max_length=16)] = []
    """Redundancy groups: who may connect. Empty: anybody."""
    deciding_group: str | None = Field(None, validate_default=True)
    """The group whose setpoint holds. Null: the lowest of all groups."""
    tls: Tls | None = None
    """TLS towards control centres; null: plain TCP."""
    insecure: bool = Field(default=False, validate_default=True)
    """Plain TCP beyond this machine is meant so."""
    limits: ConnectionLimits = ConnectionLimits()
    """What is borne of control centres."""

    @field_validator("deciding_group")
    @classmethod
    def _deciding_group_is_one(cls, name: str | None, info: ValidationInfo) -> str | None:
        names = [group.name for group in info.data.get("groups", [])]
        if len(set(names)) != len(names):
            raise ValueError("cannot be told: two groups have one name")
        if name is not None and name not in names:
            raise ValueError(f"is no group: {_one_of(name, names)}")
        return name

    @field_validator("tls")
    @classmethod
    def _c104_speaks_no_tls_here(cls, tls: Tls | None, info: ValidationInfo) -> Tls | None:
        if tls is not None and info.data.get("stack") == "c104":
            raise ValueError("is spoken by stack: native only")
        return tls

    @field_validator("insecure")
    @classmethod
    def _plain_tcp_is_said(cls, insecure: bool, info: ValidationInfo) -> bool:
        said = info.data
        if "host" in said and "tls" in said and said["tls"] is None and not insecure and not _is_loopback(said["host"]):
            raise ValueError("plain TCP beyond this machine: set `tls`, or `insecure: true` in a network of its own")
        return insecure


class Fallback(_Section):
    """What holds when the link is lost: the last limit for `hold_s`, then `limit_w`.

    Mode `eebus_lpc`, after EEBUS LPC: the fallback limit also before the first setpoint, the hold is 120 s whatever
    `hold_s` says, and after `release_after_s` without a link nothing but the capacity limits any more.
    """

    mode: Literal["hold", "eebus_lpc"] = "hold"
    """`hold`, or the fail-safe of EEBUS LPC."""
    hold_s: Seconds | None = 300.0
    """How long the last limit is kept after the link is lost, s. 0: not at all; null: for ever."""
    limit_w: PowerW
    """The limit after that, W, agreed with the grid operator."""
    on_return: Annotated[OnReturn, Field(strict=False)] = OnReturn.KEEP_FALLBACK
    """When the link is back: the fallback limit until a fresh setpoint, or the last setpoint again."""
    restore_after_s: Seconds | None = Field(None, validate_default=True)
    """How long the link must have been back before `restore_last` takes up the last setpoint, s."""
    release_after_s: Annotated[float, Field(ge=7_200, le=86_400)] | None = Field(None, validate_default=True)
    """How long the fallback limit lasts without a link before the capacity alone limits, s. Only in mode `eebus_lpc`;
    default 2 h."""

    @field_validator("restore_after_s")
    @classmethod
    def _restore_after_belongs_to_restore_last(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "on_return" in info.data and (info.data["on_return"] is OnReturn.RESTORE_LAST) != (value is not None):
            raise ValueError("is needed with on_return: restore_last and with nothing else")
        return value

    @field_validator("release_after_s")
    @classmethod
    def _release_belongs_to_eebus_lpc(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("mode") != "eebus_lpc":
            raise ValueError("is for mode: eebus_lpc alone: remove it, or choose that mode")
        return LPC_RELEASE_S if value is None and info.data.get("mode") == "eebus_lpc" else value


class OcppTls(_Section):
    """TLS towards chargers (OCPP 2.0.1 A00, security profiles 2 and 3).

    All files are PEM, read anew for new connections when they change.
    """

    certificate: FilePath
    """Our certificate, with its chain."""
    key: FilePath
    """Its key."""
    client_ca: FilePath | None = None
    """Who signs the certificates of chargers: security profile 3."""
    client_organization: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(None, validate_default=True)
    """What must stand in them as their owner (A00.FR.404). Null: anything."""
    revocation_list: FilePath | None = Field(None, validate_default=True)
    """Which of those certificates no longer count."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""

    @field_validator("client_organization", "revocation_list")
    @classmethod
    def _needs_client_certificates(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("client_ca") is None:
            raise ValueError("belongs to client certificates: set client_ca too")
        return value


class PlainListener(_Section):
    """The listener without TLS, for chargers of security profiles 0 and 1."""

    host: Host = "127.0.0.1"
    """The address it listens at."""
    port: Port = 9001
    """The port it listens at."""


class Ocpp(_Section):
    """Where chargers connect: all of them here, in the clear.

    With `tls` this is wss, for chargers of security profiles 2 and 3; all others connect at `legacy` then.
    """

    host: Host = "127.0.0.1"
    """The address chargers connect to; `0.0.0.0` for all of this machine."""
    port: Port = 9000
    """The port chargers connect to."""
    tls: OcppTls | None = None
    """TLS towards chargers; null: in the clear."""
    legacy: PlainListener | None = Field(default=None, validate_default=True)
    """A listener in the clear beside the one with TLS, for security profiles 0 and 1: Series 4 units."""
    passwords_dir: FilePath | None = None
    """A folder of password files, each named after the serial."""

    @field_validator("legacy")
    @classmethod
    def _a_listener_of_its_own_needs_a_reason(cls, legacy: PlainListener | None, info: ValidationInfo) -> Any:
        if legacy is not None and "tls" in info.data and info.data["tls"] is None:
            raise ValueError("is for chargers without TLS beside those with it: set ocpp.tls, or use ocpp.port for all")
        return legacy


class Http(_Section):
    """Where the API and the dashboard listen, and who may look without a token."""

    host: Host = "127.0.0.1"
    """The address the API and the dashboard listen at."""
    port: Port = 8080
    """The port of the API; its `/` leads to the dashboard. 0: any free one."""
    dashboard_port: Annotated[int, Field(ge=1, le=65_535)] | None = 8081
    """The port of the dashboard, a process of its own; null: no dashboard."""
    tokens_file: FilePath | None = None
    """Names, roles and hashes of tokens, written by `gridlimit token`; default: `tokens` in `data_dir`."""
    anyone_may_view: bool = False
    """Let everybody look without a token, in a network of its own; otherwise this machine alone may, and only while
    there are no tokens. Acting always needs one."""


class Csms(_Section):
    """The central system above the bridge, where each charger has a connection of its own to `url/<serial>`.

    Credentials are files, read at every connection. Retries of the connection are those of OCPP 2.0.1 Part 4 §5.3, of
    messages those of E13.
    """

    url: str | None = None
    """`ws://` or `wss://`, without the serial and without credentials. Null: the bridge is the central system."""
    password_file: FilePath | None = None
    """A file with one password for all chargers (security profiles 1 and 2)."""
    passwords_dir: FilePath | None = None
    """A folder of password files instead, each named after the serial."""
    ca: FilePath | None = None
    """Who may sign the certificate of the CSMS. Null: the authorities of the operating system."""
    certificates_dir: FilePath | None = None
    """A folder of client certificates, `<serial>.pem` and `<serial>.key` (security profile 3)."""
    retry_wait_minimum_s: Annotated[Seconds, Field(gt=0)] = 5.0
    """Wait before the second try to connect, s; it doubles with each."""
    retry_random_range_s: Seconds = 5.0
    """Chance added to that wait, s at most."""
    retry_repeat_times: Annotated[int, Field(ge=0, le=16)] = 5
    """How often the wait doubles."""
    message_timeout_s: Annotated[Seconds, Field(gt=0)] = 30.0
    """How long one answer of the CSMS is awaited, s."""
    message_attempts: Annotated[int, Field(ge=1, le=1_000)] = 3
    """How often a TransactionEvent is sent that the CSMS fails on."""
    message_attempt_interval_s: Seconds = 60.0
    """Wait before such a message is sent again, s; it grows with each attempt."""
    answer_within_s: Annotated[Seconds, Field(gt=0)] = 5.0
    """After so long without an answer of the CSMS, s, the bridge answers a charger itself: by what the CSMS last said
    of the driver, else by `site.id_tags`."""
    stop_tx_on_invalid_id: bool = True
    """Stop a transaction that the CSMS refuses after that."""

    @field_validator("url")
    @classmethod
    def _url_is_a_websocket(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment or "@" in url:
            raise ValueError("must be ws://host/path or wss://host/path, without the serial and without credentials")
        return url.rstrip("/")

    @field_validator("passwords_dir")
    @classmethod
    def _one_source_of_passwords(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        if folder is not None and info.data.get("password_file") is not None:
            raise ValueError("is one way, password_file the other: keep one of them")
        return folder

    @field_validator("ca", "certificates_dir")
    @classmethod
    def _certificates_need_tls(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and not str(info.data.get("url") or "wss:").startswith("wss:"):
            raise ValueError("needs TLS: write csms.url as wss://")
        return path

    @property
    def security_profile(self) -> int:
        """Security profile 1 to 3 of OCPP 2.0.1 A00 that these settings amount to; 0 is none."""
        if self.certificates_dir is not None:
            return 3
        is_secret = self.password_file is not None or self.passwords_dir is not None
        return (2 if str(self.url).startswith("wss:") else 1) if is_secret else 0


class ChargerEntry(_Section):
    """One charger of the site. What is not said is taken from its charger profile, read as `profile`.

    Its security profile is one of OCPP 2.0.1 A00, and no other is accepted: 1 is HTTP Basic, 2 that with TLS, 3 TLS
    with a client certificate whose common name is the serial, 0 none of these. Default: of ocpp1.5, which knows none,
    0; of the others what the credentials configured amount to, and never less than 2 where `ocpp.tls` is set.
    """

    serial: Identity
    """Its identity everywhere. In a URL it stands as it is."""
    charger_profile: ProfileName
    """Its make: a file of `profiles/chargers/`, beside this file or among those shipped."""
    profile: ChargerProfile
    index: Annotated[int, Field(ge=0, lt=MAX_IOA // CHARGER_IOA_STRIDE)]
    """Where its points stand: at 1000 + 10 × index. Default: its position in the list."""
    out_of_service: bool = False
    """Neither used nor counted."""
    security_profile: Annotated[int, Field(ge=0, le=3)] | None = None
    """The one it must use. Default: what its protocol and the credentials amount to."""
    password_file: FilePath | None = None
    """The file with its password (security profiles 1 and 2), read at every connection."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Who is fed first when not all can be, the higher the sooner."""
    floor_w: PowerW
    """What it may draw when its lease has ended, W. Default: of its charger profile."""
    sample_interval_s: Annotated[int, Field(ge=1, le=86_400)]
    """How often it samples its meter, s. Default: of its charger profile."""
    minimum_w: PowerW
    """The least it charges with, W. Default: of its charger profile."""
    maximum_w: PowerW
    """What it draws when nothing limits it, W. Default: of its charger profile."""

    @model_validator(mode="before")
    @classmethod
    def _take_the_rest_from_the_charger_profile(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(made := data.get("profile"), ChargerProfile):
            return data
        said = {key: value for key, value in data.items() if value is not None}
        default = {"minimum_w": made.minimum_w, "maximum_w": made.maximum_w, "floor_w": made.floor_w}
        return default | {"sample_interval_s": made.sampling.interval_s} | said

    @field_validator("maximum_w")
    @classmethod
    def _maximum_reaches_minimum(cls, maximum_w: int, info: ValidationInfo) -> int:
        return _not_below(maximum_w, info, "minimum_w")

    @field_validator("profile")
    @classmethod
    def _serial_survives_translation(cls, profile: ChargerProfile, info: ValidationInfo) -> ChargerProfile:
        if profile.protocol != "ocpp2.0.1" and len(info.data.get("serial", "")) > MAX_TRANSLATED_SERIAL:
            raise ValueError(f"serial is longer than the {MAX_TRANSLATED_SERIAL} characters OCPP 2.0.1 allows it")
        return profile


class Settings(_Section, BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter="__", use_attribute_docstrings=True
    )

    site: Site
    """The site and what may be set for it."""
    iec104: Iec104
    """The outstation: towards the grid operator."""
    fallback: Fallback
    """When the link to the grid operator is lost."""
    ocpp: Ocpp = Ocpp()
    """Towards the chargers."""
    chargers: Annotated[list[ChargerEntry], Field(max_length=20_000)] = []
    """One entry for each charger."""
    csms: Csms = Csms()
    """Towards a central system above, if there is one."""
    http: Http = Http()
    """The status API."""
    data_dir: Annotated[Path, Field(strict=False)] = Path("data")
    """Where journal, events, records and conversation are kept."""
    audit_months: Annotated[int, Field(ge=1, le=1_200)] = 24
    """How many whole months the records of commands, limits and power are kept, beside the present one."""
    log_format: Literal["console", "json"] = "console"
    """One line for each transition on standard error: for a person, or as JSON."""

    @field_validator("csms")
    @classmethod
    def _serials_are_identities_there(cls, csms: Csms, info: ValidationInfo) -> Csms:
        wrong = [charger.serial for charger in info.data.get("chargers", ()) if ":" in charger.serial]
        if csms.url is not None and wrong:
            raise ValueError(f"no identity of a charging station may contain a colon, as does {wrong[0]!r}")
        return csms

    @field_validator("http")
    @classmethod
    def _every_listener_has_its_own_port(cls, http: Http, info: ValidationInfo) -> Http:
        sections = [info.data[name] for name in ("iec104", "ocpp") if name in info.data] + [http]
        sections += [section.legacy for section in sections if isinstance(section, Ocpp) and section.legacy]
        listeners = [f"{section.host}:{section.port}" for section in sections if section.port]
        listeners += [f"{http.host}:{http.dashboard_port}"] if http.dashboard_port else []
        if shared := {listener for listener in listeners if listeners.count(listener) > 1}:
            raise ValueError(f"iec104, ocpp and http need ports of their own: {shared.pop()} is named twice")
        return http

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the sources it does not use stay unnamed
        cls, settings_cls: type[BaseSettings], *, init_settings: InitSettingsSource, **_others: Any
    ) -> tuple[InitSettingsSource | EnvSettingsSource, ...]:
        """What `load` hands in: `environment` before `file`, and then what the `profiles` add to both."""
        given = init_settings()
        return given["environment"], InitSettingsSource(settings_cls, given["file"]), given["profiles"]


# What `load` or a before-validator fills in: never missing by the fault of whoever wrote the file.
_FILLED_IN = {"profile", "minimum_w", "maximum_w", "floor_w", "sample_interval_s", "at_start_w"}


class _Source:
    """Data of one YAML file, the place (file:line or variable) of every key in it, and the problems found so far."""

    def __init__(self, path: Path | None) -> None:
        self.name = "environment" if path is None else str(path)
        self.data: dict[str, Any] = {}
        self.places: dict[KeyPath, str] = {}
        self.problems: list[str] = []
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
            if len(text) > MAX_FILE_BYTES:
                raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES} bytes: is this the right file?"])
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            self._note(node, ())
            data = {} if node is None else loader.construct_document(node)
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}: check the path and its rights"]) from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError([f"{path}:{line}: is no YAML: {error.problem}: check indentation and quotes"]) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError([f"{path}: is no YAML: {error}"]) from error
        if not isinstance(data, dict):
            raise ConfigError([f"{path}:1: must be a mapping of sections, such as `site:`"])
        self.data = {str(key): value for key, value in data.items()}

    def _note(self, node: yaml.Node | None, path: KeyPath) -> None:
        if len(path) > MAX_DEPTH:
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                place = f"{self.name}:{key.start_mark.line + 1}"
                here = (*path, getattr(key, "value", None) if isinstance(key, yaml.ScalarNode) else None)
                if here in self.places:
                    self.problems.append(f"{place}: {_dotted(here)}: is there twice: remove one")
                self.places[here] = place
                self._note(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                self.places[*path, position] = f"{self.name}:{value.start_mark.line + 1}"
                self._note(value, (*path, position))

    def problem(self, path: KeyPath, text: str) -> None:
        """Remember one problem, placed at the nearest key that is written down."""
        written = (path[:end] for end in range(len(path), 0, -1))
        place = next((self.places[key] for key in written if key in self.places), self.name)
        self.problems.append(f"{place}: {_dotted(path)}: {text}")

    def validate(self, model: type[ModelT], data: dict[str, Any]) -> ModelT | None:
        """Give the data its shape; None with the problems noted."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for found in error.errors():
                path = tuple(found["loc"])
                if not (model is Settings and found["type"] == "missing" and path[-1] in _FILLED_IN):
                    self.problem(path, _explain(found, model))
            return None


class _Environment(EnvSettingsSource):
    """What the GRIDLIMIT_ variables say: text where text is expected, YAML elsewhere; nothing is null where allowed."""

    def __init__(self, file: _Source, environ: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars: dict[str, str] = {}
        for name in sorted(name for name in environ if name.startswith(PREFIX)):
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            kind = _annotation(Settings, path)
            if kind is None or "profile" in path:
                file.problems.append(f"{name}: {_dotted(path)}: {_unknown(Settings, path)}")
            elif text := environ[name] or ("null" if type(None) in get_args(kind) else ""):
                self.env_vars[PREFIX + "__".join(path)] = text
                if len(path) == 1:
                    file.data.pop(path[0], None)  # what is set as a whole is not merged
                file.places = {key: place for key, place in file.places.items() if key[: len(path)] != path}
                file.places[path] = name
            else:
                file.problems.append(f"{name}: {_dotted(path)}: is empty: write a value, or unset the variable")

    def field_is_complex(self, field: FieldInfo) -> bool:  # noqa: ARG002  every value goes through the decoder
        """True: plain values are decoded too."""
        return True

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: str) -> Any:  # noqa: ARG002
        """The value as YAML; text where it is no YAML, or null where null is not allowed, to be refused as such."""
        kinds = get_args(field.annotation) or (field.annotation,)
        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
            said = yaml.safe_load(value)
            if (type(None) in kinds) if said is None else (str not in kinds):
                return said
        return value


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration file (None: environment alone) and the profiles it names.

    Profiles are looked for in `profiles/` beside the file, then among those shipped. Raises ConfigError with every
    problem found.
    """
    source = _Source(path)
    environment = _Environment(source, os.environ if environ is None else environ)
    folder = Path() if path is None else path.parent
    profiles = _Profiles(source, [folder / "profiles", SHIPPED_PROFILES])
    settings = source.validate(Settings, {"environment": environment, "file": source.data, "profiles": profiles})
    if settings is not None:
        for text in _clashing_points(settings):
            source.problem(("iec104", "dso_profile"), text)
        for position, key, text in _credential_problems(settings):
            source.problem(("chargers", position, key), text)
        total_w, unlimited = without_bridge(settings)
        if settings.site.require_floors and total_w > settings.fallback.limit_w:
            why = f"; nothing limits {', '.join(unlimited[:5])} then" if unlimited else ""
            text = f"a dead bridge would leave {total_w} W, above fallback.limit_w {settings.fallback.limit_w} W{why}"
            source.problem(("site", "require_floors"), f"{text}: lower floor_w, give leases, or do without")
    if settings is None or source.problems:
        raise ConfigError(source.problems)
    data_dir = folder / settings.data_dir
    http = _beside(settings.http, folder)
    return settings.model_copy(
        update={
            "data_dir": data_dir,
            "http": http.model_copy(update={"tokens_file": http.tokens_file or data_dir / "tokens"}),
            "csms": _beside(settings.csms, folder),
            "iec104": _beside(settings.iec104, folder),
            "ocpp": (ocpp := _beside(settings.ocpp, folder)),
            "chargers": [_with_credentials(entry, ocpp, folder) for entry in settings.chargers],
        }
    )


def _with_credentials(entry: ChargerEntry, ocpp: Ocpp, folder: Path) -> ChargerEntry:
    """Decide on its security profile and where its password stands."""
    profile = _security_profile(entry, ocpp)
    path = None if entry.password_file is None else folder / entry.password_file
    if path is None and profile in (1, 2) and ocpp.passwords_dir is not None:
        path = ocpp.passwords_dir / entry.serial
    return entry.model_copy(update={"security_profile": profile, "password_file": path})


def _security_profile(entry: ChargerEntry, ocpp: Ocpp) -> int:
    if entry.security_profile is not None:
        return entry.security_profile
    if entry.profile.protocol == "ocpp1.5":
        return 1 if entry.password_file is not None else 0
    has_password = entry.password_file is not None or ocpp.passwords_dir is not None
    if ocpp.tls is None:
        return 1 if has_password else 0
    return 3 if ocpp.tls.client_ca is not None and not has_password else 2


def _credential_problems(settings: Settings) -> Iterator[tuple[int, str, str]]:
    """What a charger cannot prove itself with: its position, the key, and what to do."""
    ocpp = settings.ocpp
    for position, entry in enumerate(settings.chargers):
        profile = _security_profile(entry, ocpp)
        if profile and ":" in entry.serial:
            yield position, "serial", "has a colon: with a security profile no identity may (A00.FR.204)"
        if profile in (1, 2) and entry.password_file is None and ocpp.passwords_dir is None:
            yield position, "security_profile", f"{profile} needs a password: set password_file or ocpp.passwords_dir"
        if profile >= 2 and ocpp.tls is None:  # noqa: PLR2004  the security profiles with TLS
            yield position, "security_profile", f"{profile} needs TLS: set ocpp.tls"
        elif profile == 3 and ocpp.tls is not None and ocpp.tls.client_ca is None:  # noqa: PLR2004
            yield position, "security_profile", "3 needs somebody who signs certificates: set ocpp.tls.client_ca"
        elif profile < 2 and ocpp.tls is not None and ocpp.legacy is None:  # noqa: PLR2004
            text = f"{profile} is spoken without TLS, ocpp.port is for TLS: set ocpp.legacy, or another profile"
            yield position, "security_profile", text


def _beside(section: ModelT, folder: Path) -> ModelT:
    """Count the relative paths of a section, and of the sections in it, from `folder`."""
    paths: dict[str, Any] = {name: folder / value for name, value in section if isinstance(value, Path)}
    within = {name: _beside(value, folder) for name, value in section if isinstance(value, OcppTls | Tls)}
    return section.model_copy(update=paths | within)


def charger_profile(name: str, folder: Path = SHIPPED_PROFILES) -> ChargerProfile:
    """The charger profile of that name in `folder`/chargers. Raises FileNotFoundError, ConfigError."""
    return _profile(ChargerProfile, "chargers", name, [folder])


def dso_profile(name: str, folder: Path = SHIPPED_PROFILES) -> DsoProfile:
    """The DSO profile of that name in `folder`/dso. Raises FileNotFoundError, ConfigError."""
    return _profile(DsoProfile, "dso", name, [folder])


def plan(settings: Settings) -> Plan:
    """What the core needs to know of the configuration."""
    site, fallback, dso = settings.site, settings.fallback, settings.iec104.profile
    is_lpc = fallback.mode == "eebus_lpc"
    return Plan(
        name=site.name,
        capacity_w=site.capacity_w,
        min_limit_w=minimum_limit_w(settings),
        allow_zero=site.allow_zero,
        at_start_w=site.at_start_w,
        hold_ms=_ms(LPC_HOLD_S) if is_lpc else None if fallback.hold_s is None else _ms(fallback.hold_s),
        fallback_w=fallback.limit_w,
        on_return=fallback.on_return,
        restore_after_ms=_ms(fallback.restore_after_s or 0),
        time_tag_window_ms=_ms(dso.time_tag_window_s),
        chargers=tuple(
            ChargerPlan(
                serial=charger.serial,
                index=charger.index,
                minimum_w=charger.minimum_w,
                maximum_w=charger.maximum_w,
                reaction_ms=_ms(charger.profile.reaction_s),
                stale_ms=STALE_AFTER_SAMPLES * _ms(charger.sample_interval_s),
                offline=charger.profile.offline,
                out_of_service=charger.out_of_service,
                lease_ms=None if charger.profile.lease_s is None else _ms(charger.profile.lease_s),
                floor_w=charger.floor_w,
                ladder=tuple(charger.profile.ladder),
                priority=charger.priority,
            )
            for charger in settings.chargers
        ),
        points=point_table(
            dso, settings.iec104.common_address, [charger.index for charger in settings.chargers], site.capacity_w
        ),
        deciding_group=settings.iec104.deciding_group,
        release_after_ms=None if fallback.release_after_s is None else _ms(fallback.release_after_s),
        start_in_fallback=is_lpc,
        rotate_ms=_ms(site.rotate_s),
        ramp_w_per_s=site.ramp_w_per_s,
    )


def minimum_limit_w(settings: Settings) -> Watts:
    """The least that a control centre can set."""
    if settings.site.min_limit_w == "enwg_14a":
        return minimum_14a_w(sum(not charger.out_of_service for charger in settings.chargers))
    return int(settings.site.min_limit_w)


def without_bridge(settings: Settings) -> tuple[Watts, list[str]]:
    """What the site may draw for good if the bridge dies, W, and the serials that nothing limits then.

    A charger with a lease ends in its floor, one that stops in 0 W. One that keeps its limit keeps what it was last
    given, which together with the others' was within the limit; it counts here at its maximum, as nothing lowers it.
    """
    in_use = [charger for charger in settings.chargers if not charger.out_of_service]
    floored = [charger for charger in in_use if charger.profile.lease_s is not None]
    stopping = [charger for charger in in_use if charger.profile.offline is Offline.STOPS]
    ends_safely = {charger.serial for charger in (*floored, *stopping)}
    unlimited = [charger for charger in in_use if charger.serial not in ends_safely]
    total_w = sum(charger.floor_w for charger in floored) + sum(charger.maximum_w for charger in unlimited)
    return total_w, [charger.serial for charger in unlimited]


def warnings(settings: Settings) -> list[str]:
    """What is allowed but worth a second look, as sentences for `gridlimit check`."""
    site, fallback = settings.site, settings.fallback
    found = _charger_warnings(settings)
    if fallback.limit_w > site.capacity_w:
        found.append(f"fallback.limit_w: {fallback.limit_w} W is above site.capacity_w: the capacity holds instead")
    if site.at_start_w > site.capacity_w:
        found.append(f"site.at_start_w: {site.at_start_w} W is above site.capacity_w: the capacity holds instead")
    if (asked := settings.iec104.profile.fallback) is not None:
        asked_w = asked.limit_percent * site.capacity_w / 100
        if fallback.hold_s != asked.hold_s or (asked.hold_s is not None and fallback.limit_w != asked_w):
            found.append(
                f"fallback: differs from what {settings.iec104.dso_profile} asks for: {_asked(asked, asked_w)}"
            )
    if fallback.hold_s is None:
        found.append("fallback.hold_s: null: a lost link never leads to the fallback limit")
    if settings.csms.url is not None and settings.csms.security_profile == 0:
        found.append("csms: no credentials: chargers appear there without authentication (no security profile)")
    ocpp = settings.ocpp
    plain_ocpp = ("ocpp", ocpp.host) if ocpp.tls is None else ("ocpp.legacy", ocpp.legacy.host if ocpp.legacy else "")
    plain_104 = () if settings.iec104.tls else (("iec104", settings.iec104.host),)
    for name, host in (*plain_104, plain_ocpp, ("http", settings.http.host)):
        if host and not _is_loopback(host):
            found.append(f"{name}.host: {host}: plain TCP without TLS beyond this machine: only in a trusted network")
    open_to_all = sum(not entry.security_profile for entry in settings.chargers)
    if open_to_all and plain_ocpp[1] and not _is_loopback(plain_ocpp[1]):
        found.append(f"chargers: {open_to_all} without authentication (security profile 0): a serial is all they say")
    return found + [text for entry in settings.chargers if (text := _password_warning(entry))]


def _password_warning(entry: ChargerEntry) -> str | None:
    """What is wrong with the password file of a charger; it is read at every connection, so it may yet become right."""
    path = entry.password_file
    if path is None or entry.security_profile not in (1, 2):
        return None
    try:
        with path.open("rb") as file:
            length = len(file.read(MAX_PASSWORD_BYTES).strip())
        is_open = bool(path.stat().st_mode & 0o044)
    except OSError as error:
        return f"chargers: {entry.serial} cannot connect: {path}: {error.strerror}"
    if length < MIN_PASSWORD_CHARACTERS:
        return f"chargers: {entry.serial}: {path}: shorter than {MIN_PASSWORD_CHARACTERS} characters"
    return f"chargers: {entry.serial}: {path}: others may read it: chmod 0400" if is_open else None


def _charger_warnings(settings: Settings) -> list[str]:
    site, fallback = settings.site, settings.fallback
    in_use = [charger for charger in settings.chargers if not charger.out_of_service]
    maximum_w, minimum_w = sum(each.maximum_w for each in in_use), sum(each.minimum_w for each in in_use)
    found = []
    if not in_use:
        found.append("chargers: none in use: setpoints are accepted, and nothing is limited by them")
    if maximum_w > site.capacity_w:
        found.append(
            f"chargers: {len(in_use)} chargers count {maximum_w} W before their first contact, above"
            f" site.capacity_w {site.capacity_w} W: the worst case stands above the limit until they have answered",
        )
    if in_use and fallback.limit_w < minimum_w:
        found.append(
            f"fallback.limit_w: {fallback.limit_w} W cannot feed all {len(in_use)} chargers their minimum"
            f" ({minimum_w} W in sum): in fallback some are paused in turn",
        )
    total_w, unlimited = without_bridge(settings)
    if total_w > fallback.limit_w:
        kept = f", {len(unlimited)} of {len(in_use)} chargers without a floor among them" if unlimited else ""
        found.append(
            f"chargers: if the bridge died, the site could go on drawing {total_w} W{kept}: above"
            f" fallback.limit_w {fallback.limit_w} W",
        )
    return found


class _Profiles(InitSettingsSource):
    """What the models expect beside what is said: the profiles named, each file read once, and the default indexes."""

    def __init__(self, source: _Source, folders: list[Path]) -> None:
        super().__init__(Settings, {})
        self.source = source
        self.folders = folders
        self.read: dict[tuple[str, str], BaseModel | None] = {}

    def __call__(self) -> dict[str, Any]:
        """Complete what the sources before this one have said, in its place: entries of a list cannot be merged."""
        data, source = self.current_state, self.source
        iec104 = data.setdefault("iec104", {})
        if isinstance(iec104, dict):
            named = ("dso_profile", iec104.get("dso_profile", "default"))
            _fill_in(source, ("iec104",), iec104, self.named(DsoProfile, "dso", ("iec104",), named))
        chargers = data.get("chargers")
        first: dict[tuple[str, Hashable], int] = {}
        for position, entry in enumerate(chargers if isinstance(chargers, list) else []):
            if not isinstance(entry, dict):
                continue
            path: KeyPath = ("chargers", position)
            named = ("charger_profile", entry.get("charger_profile"))
            _fill_in(source, path, entry, self.named(ChargerProfile, "chargers", path, named))
            if entry.get("index") is None:
                entry["index"] = position
            for key in ("serial", "index"):
                value = entry.get(key)
                if isinstance(value, str | int) and (before := first.setdefault((key, value), position)) != position:
                    source.problem((*path, key), f"{value} is also the {key} of chargers[{before}]: each needs its own")
        return {}

    def named(self, model: type[BaseModel], kind: str, path: KeyPath, named: tuple[str, Any]) -> BaseModel | None:
        """The profile that `named` (key, name) asks for below `path`; None with the problem noted."""
        key, name = named
        if not isinstance(name, str) or "/" in name:
            return None  # refused with the rest of the shape
        if (kind, name) not in self.read:
            self.read[kind, name] = None
            try:
                self.read[kind, name] = _profile(model, kind, name, self.folders)
            except FileNotFoundError as error:
                self.source.problem((*path, key), str(error))
            except ConfigError as error:
                self.source.problems += error.problems
        return self.read[kind, name]


def _fill_in(source: _Source, path: KeyPath, entry: dict[Hashable, Any], profile: BaseModel | None) -> None:
    if "profile" in entry:
        source.problem((*path, "profile"), "unknown key: remove it")
        del entry["profile"]
    if profile is not None:
        entry["profile"] = profile


def _profile(model: type[ModelT], kind: str, name: str, folders: list[Path]) -> ModelT:
    """Read a profile from the first folder that has it. Raises FileNotFoundError, ConfigError."""
    candidates = [folder / kind / f"{name}.yaml" for folder in folders]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        known = sorted({path.stem for folder in folders for path in (folder / kind).glob("*.yaml")})
        raise FileNotFoundError(f"no {kind}/{name}.yaml in {' or '.join(map(str, folders))}: {_one_of(name, known)}")
    source = _Source(path)
    profile = source.validate(model, source.data)
    if profile is None or source.problems:
        raise ConfigError(source.problems)
    return profile


def _clashing_points(settings: Settings) -> Iterator[str]:
    by_ioa: dict[int, Point] = {}
    signals = set()
    indexes = [charger.index for charger in settings.chargers]
    for point in settings.iec104.profile.points(1, indexes, settings.site.capacity_w):
        other = by_ioa.setdefault(point.address.ioa, point)
        if other is not point:
            yield f"address {point.address.ioa} is both {other.name!r} and {point.name!r}: change an ioa or an index"
        if point.address.ioa > MAX_IOA:
            yield f"address {point.address.ioa} of {point.name!r} is above {MAX_IOA}: choose a smaller index"
        if (point.signal, point.charger, point.percent) in signals and not point.kind.is_command:
            yield f"{point.name!r} carries {point.signal.value}, which another point carries too: remove one"
        signals.add((point.signal, point.charger, point.percent))


def _explain(found: Any, model: type[BaseModel]) -> str:
    """One pydantic error in words that say what to do."""
    path, given = tuple(found["loc"]), found["input"]
    if found["type"] == "extra_forbidden":
        return _unknown(model, path)
    if found["type"] == "missing":
        return "is missing: write it"
    if found["type"] == "value_error":
        shown = f" (is {given!r})" if isinstance(given, str | int | float) else ""
        return f"{found['ctx']['error']}{shown}"
    hint = ": put it in quotes" if found["type"] == "string_type" and isinstance(given, int | float) else ""
    shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:57]}..."  # noqa: PLR2004  fits one line
    return f"is {shown}: {found['msg'].replace('Input should', 'it should')}{hint}"


def _unknown(model: type[BaseModel], path: KeyPath) -> str:
    parent = _annotation(model, path[:-1])
    if not (known := sorted(set(getattr(parent, "model_fields", {})) - {"profile"})):
        return f"leads nowhere: a value or a list is set as a whole, such as {PREFIX}CHARGERS"
    return f"unknown key: {_one_of(str(path[-1]), known)}"


def _one_of(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"


def _annotation(model: Any, path: KeyPath) -> Any:
    """The type at a path of keys below a model, None where there is none."""
    for key in path:
        if isinstance(key, int):
            model = next(iter(get_args(model)), None)
        else:
            field = getattr(model, "model_fields", {}).get(key)
            model = None if field is None else field.annotation
        if hasattr(model, "__metadata__"):
            model = get_args(model)[0]
    return model


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def _not_below(value: int, info: ValidationInfo, key: str) -> int:
    if value < info.data.get(key, value):
        raise ValueError(f"is below {key} {info.data[key]}")
    return value


def _asked(fallback: DsoFallback, limit_w: float) -> str:
    if fallback.hold_s is None:
        return "hold the last limit for ever"
    return f"hold the last limit for {fallback.hold_s:g} s, then {limit_w:g} W"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
