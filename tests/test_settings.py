"""Claims about the configuration: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import settings
from bridge.core.plan import Offline, OnReturn
from bridge.core.points import PointAddress, PointKind, Signal

CONTRACT = """\
site:     {name: Depot Nord, capacity_w: 100000, min_limit_w: 6000, allow_zero: false, at_start_w: 100000}
iec104:   {host: 127.0.0.1, port: 2404, common_address: 1, stack: native, dso_profile: default}
fallback: {hold_s: 300, limit_w: 10000, on_return: keep_fallback}
ocpp:     {host: 127.0.0.1, port: 9000}
chargers: [{serial: S4-0001, charger_profile: series4-ultra}]
csms:     {url: null}
http:     {host: 127.0.0.1, port: 8080}
data_dir: ./data
"""
LEAST = """\
site: {capacity_w: 100000, min_limit_w: 6000}
fallback: {limit_w: 10000}
"""


def load(folder: Path, text: str, **environ: str) -> settings.Settings:
    (folder / "site.yaml").write_text(text)
    return settings.load(folder / "site.yaml", environ)


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(settings.ConfigError) as caught:
        load(folder, text, **environ)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_the_contract_as_written_is_accepted(tmp_path: Path) -> None:
    read = load(tmp_path, CONTRACT)
    assert read.site.model_dump() == {
        "name": "Depot Nord",
        "capacity_w": 100_000,
        "min_limit_w": 6_000,
        "allow_zero": False,
        "at_start_w": 100_000,
        "id_tags": [],
        "ramp_w_per_s": None,
        "rotate_s": 900,
        "require_floors": False,
    }
    assert (read.iec104.port, read.ocpp.port, read.http.port, read.csms.url) == (2404, 9000, 8080, None)
    assert read.data_dir == tmp_path / "data"
    charger = read.chargers[0]
    assert (charger.index, charger.minimum_w, charger.maximum_w, charger.sample_interval_s) == (0, 6_000, 50_000, 60)
    assert charger.profile.hello == r"S4HELLO SN=<serial> FW=<version>\r\n"
    assert charger.profile.limit.key == "MaxChargingPowerW"


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    least, whole = load(tmp_path, LEAST), load(tmp_path, CONTRACT)
    for section in ("iec104", "fallback", "ocpp", "csms", "http", "data_dir"):
        assert getattr(least, section) == getattr(whole, section)
    assert least.site.at_start_w == least.site.capacity_w
    assert least.chargers == []


def test_the_plan_says_what_the_configuration_says(tmp_path: Path) -> None:
    text = CONTRACT.replace("hold_s: 300", "hold_s: 0.5").replace(
        "charger_profile: series4-ultra}",
        "charger_profile: series4-ultra, sample_interval_s: 10, maximum_w: 40000}, {serial: CS-1, charger_profile: "
        "native-201, index: 7, out_of_service: true}",
    )
    plan = settings.plan(load(tmp_path, text))
    assert (plan.hold_ms, plan.fallback_w, plan.on_return) == (500, 10_000, OnReturn.KEEP_FALLBACK)
    assert plan.time_tag_window_ms == 10_000
    first, second = plan.chargers
    assert (first.maximum_w, first.stale_ms, first.reaction_ms, first.offline) == (
        40_000,
        30_000,
        2_000,
        Offline.KEEPS_LIMIT,
    )
    assert (second.index, second.out_of_service, second.offline) == (7, True, Offline.NAMEPLATE)
    assert len(plan.points.points) == 11 + 2 * 6
    setpoint = plan.points.by_signal[Signal.LIMIT_SETPOINT, None]
    assert (setpoint.address, setpoint.kind) == (PointAddress(1, 100), PointKind.SETPOINT)
    assert plan.points.by_signal[Signal.CHARGER_POWER_W, 7].address.ioa == 1070
    assert plan.points.by_signal[Signal.CHARGER_CURRENT_A, 0].deadband == 0.1


def test_holding_for_ever_and_restoring_the_last_limit_reach_the_plan(tmp_path: Path) -> None:
    text = CONTRACT.replace("hold_s: 300", "hold_s: null").replace("keep_fallback", "restore_last, restore_after_s: 30")
    plan = settings.plan(load(tmp_path, text))
    assert (plan.hold_ms, plan.on_return, plan.restore_after_ms) == (None, OnReturn.RESTORE_LAST, 30_000)


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("GRIDLIMIT_SITE__NAME", "Depot: 7", "site", "name", "Depot: 7"),
        ("GRIDLIMIT_SITE__NAME", "42", "site", "name", "42"),
        ("GRIDLIMIT_SITE__CAPACITY_W", "60000", "site", "capacity_w", 60_000),
        ("GRIDLIMIT_SITE__ALLOW_ZERO", "true", "site", "allow_zero", True),
        ("GRIDLIMIT_SITE__ID_TAGS", "[A1, B2]", "site", "id_tags", ["A1", "B2"]),
        ("GRIDLIMIT_IEC104__STACK", "c104", "iec104", "stack", "c104"),
        ("GRIDLIMIT_FALLBACK__HOLD_S", "null", "fallback", "hold_s", None),
        ("GRIDLIMIT_FALLBACK__HOLD_S", "1.5", "fallback", "hold_s", 1.5),
        ("GRIDLIMIT_OCPP__HOST", "0.0.0.0", "ocpp", "host", "0.0.0.0"),
        ("GRIDLIMIT_CSMS__URL", "", "csms", "url", None),
        ("GRIDLIMIT_HTTP__PORT", "0", "http", "port", 0),
    ],
)
def test_the_environment_overrides_every_kind_of_key(
    tmp_path: Path, variable: str, text: str, section: str, key: str, value: object
) -> None:
    assert getattr(getattr(load(tmp_path, CONTRACT, **{variable: text}), section), key) == value


def test_every_key_of_the_contract_can_come_from_the_environment_alone() -> None:
    environ = {
        "GRIDLIMIT_SITE__CAPACITY_W": "100000",
        "GRIDLIMIT_SITE__MIN_LIMIT_W": "6000",
        "GRIDLIMIT_FALLBACK__LIMIT_W": "10000",
        "GRIDLIMIT_CHARGERS": "[{serial: '0017', charger_profile: native-201},"
        ' {"serial": "S4-2", "charger_profile": "series4-ultra"}]',
        "GRIDLIMIT_DATA_DIR": "/var/lib/gridlimit",
        "HOME": "/nowhere",
    }
    read = settings.load(None, environ)
    assert [charger.serial for charger in read.chargers] == ["0017", "S4-2"]
    assert read.data_dir == Path("/var/lib/gridlimit")


def test_a_list_of_chargers_in_the_environment_replaces_that_of_the_file(tmp_path: Path) -> None:
    read = load(tmp_path, CONTRACT, GRIDLIMIT_CHARGERS="[{serial: CS-9, charger_profile: native-201}]")
    assert [charger.serial for charger in read.chargers] == ["CS-9"]


@pytest.mark.parametrize(
    ("csms", "profile"),
    [
        ("{url: 'ws://csms/ocpp/'}", 0),
        ("{url: 'ws://csms/ocpp', password_file: secret}", 1),
        ("{url: 'wss://csms/ocpp', passwords_dir: secrets, ca: ca.pem}", 2),
        ("{url: 'wss://csms/ocpp', certificates_dir: certificates}", 3),
    ],
)
def test_the_credentials_of_the_csms_say_which_security_profile_it_is(tmp_path: Path, csms: str, profile: int) -> None:
    read = load(tmp_path, CONTRACT.replace("{url: null}", csms)).csms
    assert read.security_profile == profile
    assert not str(read.url).endswith("/")
    for path in (read.password_file, read.passwords_dir, read.ca, read.certificates_dir):
        assert path is None or path.parent == tmp_path


@pytest.mark.parametrize(
    ("csms", "key"),
    [
        ("{url: 'ws://user:secret@csms'}", "url"),
        ("{url: 'ws://csms', password_file: a, passwords_dir: b}", "passwords_dir"),
        ("{url: 'ws://csms', certificates_dir: a}", "certificates_dir"),
        ("{url: 'ws://csms', message_attempts: 0}", "message_attempts"),
    ],
)
def test_settings_of_the_csms_that_contradict_each_other_are_refused(tmp_path: Path, csms: str, key: str) -> None:
    assert any(f"csms.{key}" in problem for problem in problems(tmp_path, CONTRACT.replace("{url: null}", csms)))


def test_all_problems_are_named_at_once_with_key_file_and_line(tmp_path: Path) -> None:
    text = """\
site:
  capacity_w: 5000
  min_limit_w: 6000
  capcity: 1
iec104: {port: 70000}
fallback:
  hold_s: -1
  limit_w: -5
chargers:
  - {serial: S4-1, charger_profile: series4-ultra, index: 1}
  - {serial: S4-1, charger_profile: series4-ultr}
csms: {url: 'https://example'}
"""
    found = problems(tmp_path, text, GRIDLIMIT_HTTP__PORT="abc")
    assert sorted(problem.partition(": ")[0] + " " + problem.split(": ")[1] for problem in found) == [
        "GRIDLIMIT_HTTP__PORT http.port",
        "site.yaml:11 chargers[1].charger_profile",
        "site.yaml:11 chargers[1].index",
        "site.yaml:11 chargers[1].serial",
        "site.yaml:12 csms.url",
        "site.yaml:3 site.min_limit_w",
        "site.yaml:4 site.capcity",
        "site.yaml:5 iec104.port",
        "site.yaml:7 fallback.hold_s",
        "site.yaml:8 fallback.limit_w",
    ]
    assert any("did you mean capacity_w?" in problem for problem in found)
    assert any("did you mean series4-ultra?" in problem for problem in found)
    assert any("wss://host/path" in problem for problem in found)


@pytest.mark.parametrize(
    ("written", "instead", "expected"),
    [
        ("hold_s: 300", "hold_s: .nan", "fallback.hold_s: is nan"),
        ("hold_s: 300", "hold_s: five", "fallback.hold_s: is 'five'"),
        ("hold_s: 300", "hold_s: 300, restore_after_s: 5", "fallback.restore_after_s: is needed with"),
        ("keep_fallback", "restore_last", "fallback.restore_after_s: is needed with"),
        ("keep_fallback", "sometimes", "fallback.on_return: is 'sometimes'"),
        ("capacity_w: 100000", "capacity_w: 0", "site.capacity_w: is 0"),
        ("capacity_w: 100000", "capacity_w: 1e5", "site.capacity_w: is '1e5'"),
        ("capacity_w: 100000, ", "", "site.capacity_w: is missing"),
        ("allow_zero: false", "allow_zero: 0", "site.allow_zero: is 0"),
        ("common_address: 1,", "common_address: 65535,", "iec104.common_address: is 65535"),
        ("stack: native", "stack: lib60870", "iec104.stack: is 'lib60870'"),
        ("dso_profile: default", "dso_profile: nord", "iec104.dso_profile: no dso/nord.yaml"),
        ("dso_profile: default", "dso_profile: ../dso/default", "iec104.dso_profile: is '../dso/default'"),
        ("dso_profile: default", "profile: {}", "iec104.profile: unknown key"),
        ("serial: S4-0001", "serial: 17", "put it in quotes"),
        ("serial: S4-0001", "serial: a/b", "chargers[0].serial: is 'a/b'"),
        ("serial: S4-0001", "serial: S4-0000000000000000000000001", "serial is longer than the 25 characters"),
        ("charger_profile: series4-ultra", "minimum_w: 1", "chargers[0].charger_profile: is missing"),
        ("series4-ultra", "series4-ultra, minimum_w: 50001", "chargers[0].maximum_w: is below minimum_w 50001"),
        ("series4-ultra", "series4-ultra, index: -1", "chargers[0].index: is -1"),
        ("port: 8080", "port: 9000", "127.0.0.1:9000 is named twice"),
        ("data_dir", "data_dirs", "data_dirs: unknown key: did you mean data_dir?"),
        ("chargers: [", "chargers: [S4-0001, ", "chargers[0]: is 'S4-0001'"),
        ("csms:     {url: null}", "csms: 5", "csms: is 5"),
        ("ocpp:     {", "ocpp:     {port: 1, ", "ocpp.port: is there twice"),
    ],
)
def test_nonsense_is_refused_in_words(tmp_path: Path, written: str, instead: str, expected: str) -> None:
    assert written in CONTRACT
    found = problems(tmp_path, CONTRACT.replace(written, instead))
    assert len(found) == 1
    assert expected in found[0]
    assert found[0].startswith("site.yaml:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site: {", "site.yaml:1: is no YAML"),
        ("a: 1\n\tb: 2\n", "site.yaml:2: is no YAML"),
        ("- 1\n", "site.yaml:1: must be a mapping"),
        ("a: !!python/object:os.system {}\n", "site.yaml:1: is no YAML"),
        ("a: 2024-13-45\n", "site.yaml: is no YAML"),
        ("\x00", "site.yaml: is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("a: &a {b: *a}\n", "site.yaml:1: a: unknown key"),
        ("1: 2\n", "site.yaml:1: 1: unknown key: known are"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, text))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(settings.ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        settings.load(tmp_path / "nowhere.yaml", {})


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("GRIDLIMIT_SITE__CAPCITY_W", "site.capcity_w: unknown key: did you mean capacity_w?"),
        ("GRIDLIMIT_SIDE", "side: unknown key"),
        ("GRIDLIMIT_7", "7: unknown key"),
        ("GRIDLIMIT_CHARGERS__0__SERIAL", "chargers.0.serial: leads nowhere: a value or a list is set as a whole"),
        ("GRIDLIMIT_CHARGERS__FIRST", "chargers.first: leads nowhere"),
        ("GRIDLIMIT_DATA_DIR__NAME", "data_dir.name: leads nowhere"),
        ("GRIDLIMIT_IEC104__PROFILE", "iec104.profile: unknown key: did you mean dso_profile?"),
        ("GRIDLIMIT_CHARGERS", "chargers: is 1: it should be a valid list"),
        ("GRIDLIMIT_HTTP", "http: is 1: it should be"),
        ("GRIDLIMIT_FALLBACK__HOLD_S__X", "fallback.hold_s.x: leads nowhere"),
    ],
)
def test_a_variable_that_leads_nowhere_is_refused_by_name(tmp_path: Path, variable: str, expected: str) -> None:
    assert any(
        problem.startswith(f"{variable}: {expected}") for problem in problems(tmp_path, CONTRACT, **{variable: "1"})
    )


@pytest.mark.parametrize(
    "variable", ["GRIDLIMIT_SITE__NAME", "GRIDLIMIT_HTTP__PORT", "GRIDLIMIT_CHARGERS", "GRIDLIMIT_DATA_DIR"]
)
def test_an_empty_variable_is_refused_where_null_is_not_allowed(tmp_path: Path, variable: str) -> None:
    assert [problem.split(": ")[::2] for problem in problems(tmp_path, CONTRACT, **{variable: ""})] == [
        [variable, "is empty"]
    ]


def test_an_empty_variable_is_null_where_null_is_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, CONTRACT, GRIDLIMIT_FALLBACK__HOLD_S="").fallback.hold_s is None


def test_a_section_in_one_variable_replaces_that_of_the_file_and_single_keys_go_before_it(tmp_path: Path) -> None:
    whole = {"GRIDLIMIT_SITE": "{capacity_w: 5, min_limit_w: 2}", "GRIDLIMIT_SITE__MIN_LIMIT_W": "1"}
    site = load(tmp_path, CONTRACT, **whole).site
    assert (site.name, site.capacity_w, site.min_limit_w) == ("Site", 5, 1)


def test_a_profile_beside_the_configuration_goes_before_the_shipped_one(tmp_path: Path) -> None:
    shipped = (settings.SHIPPED_PROFILES / "chargers" / "series4-ultra.yaml").read_text()
    (tmp_path / "profiles" / "chargers").mkdir(parents=True)
    own = tmp_path / "profiles" / "chargers" / "series4-ultra.yaml"
    own.write_text(shipped.replace("50000", "30000"))
    assert load(tmp_path, CONTRACT).chargers[0].maximum_w == 30_000
    own.write_text(shipped.replace("phases: 3", "phases: 4").replace("<serial>", ""))
    found = problems(tmp_path, CONTRACT)
    assert [problem.split(": is ")[0].split(": must ")[0] for problem in found] == [
        "profiles/chargers/series4-ultra.yaml:5: hello",
        "profiles/chargers/series4-ultra.yaml:6: phases",
    ]


def test_every_shipped_profile_is_sound() -> None:
    for path in (settings.SHIPPED_PROFILES / "chargers").glob("*.yaml"):
        assert settings.charger_profile(path.stem).maximum_w > 0
    assert settings.dso_profile("default").timers.k == 12


@pytest.mark.parametrize(
    ("written", "instead", "expected"),
    [
        ("ioa: 200", "ioa: 100", "address 100 is both"),
        ("ioa: 200", "ioa: 1015", "address 1015 is both"),
        ("ioa: 1005", "ioa: 1010", "address 1010 is both"),
        ("ioa: 1005", "ioa: 16777210", "is above 16777215"),
        ("signal: limit_active", "signal: limit_reached", "which another point carries too"),
        ("kind: single, signal: limit_active", "kind: measured, signal: limit_active", "is of kind single"),
        ("signal: limit_active", "signal: charger_connected", "belongs under `charger`: charger_connected"),
        ("signal: limit_active", "signal: moon_phase", "site[7].signal: is 'moon_phase'"),
        ("  - {ioa: 100,", "  # {ioa: 100,", "has no limit_setpoint"),
        ("w: 8", "w: 13", "must not exceed k"),
    ],
)
def test_a_point_table_that_clashes_or_makes_no_sense_is_refused(
    tmp_path: Path, written: str, instead: str, expected: str
) -> None:
    shipped = (settings.SHIPPED_PROFILES / "dso" / "default.yaml").read_text()
    assert written in shipped
    (tmp_path / "profiles" / "dso").mkdir(parents=True)
    (tmp_path / "profiles" / "dso" / "default.yaml").write_text(shipped.replace(written, instead, 1))
    two = CONTRACT.replace("}]", "}, {serial: S4-2, charger_profile: series4-ultra}]")
    assert any(expected in problem for problem in problems(tmp_path, two))


def test_what_is_allowed_but_doubtful_is_warned_of(tmp_path: Path) -> None:
    sound = CONTRACT.replace("capacity_w: 100000", "capacity_w: 100001")
    (dead,) = settings.warnings(load(tmp_path, sound))
    assert "if the bridge died, the site could go on drawing 50000 W, 1 of 1 chargers without a floor" in dead
    chargers = ", ".join(f"{{serial: S4-{n}, charger_profile: series4-ultra}}" for n in range(3))
    doubtful = (
        CONTRACT.replace("{serial: S4-0001, charger_profile: series4-ultra}", chargers)
        .replace("at_start_w: 100000", "at_start_w: 200000")
        .replace("ocpp:     {host: 127.0.0.1", "ocpp:     {host: 0.0.0.0")
        .replace("hold_s: 300", "hold_s: null")
    )
    found = "\n".join(settings.warnings(load(tmp_path, doubtful)))
    assert "3 chargers count 150000 W before their first contact, above site.capacity_w 100000 W" in found
    assert "10000 W cannot feed all 3 chargers their minimum (18000 W in sum)" in found
    assert "ocpp.host: 0.0.0.0: plain TCP" in found
    assert "site.at_start_w: 200000 W is above" in found
    assert "never leads to the fallback limit" in found
    assert "none in use" in "\n".join(settings.warnings(load(tmp_path, LEAST)))


def test_a_dead_bridge_that_would_leave_too_much_is_refused_only_where_floors_are_required(tmp_path: Path) -> None:
    strict = CONTRACT.replace("allow_zero: false", "allow_zero: false, require_floors: true")
    (problem,) = problems(tmp_path, strict)
    assert "site.require_floors: a dead bridge would leave 50000 W, above fallback.limit_w 10000 W" in problem
    leased = strict.replace(
        "{serial: S4-0001, charger_profile: series4-ultra}",
        "{serial: CS-0001, charger_profile: native-201, floor_w: 4140}",
    )
    assert settings.without_bridge(load(tmp_path, leased)) == (4_140, [])


def test_the_minimum_of_section_14a_counts_the_chargers_in_service(tmp_path: Path) -> None:
    text = CONTRACT.replace("min_limit_w: 6000", "min_limit_w: enwg_14a").replace(
        "chargers: [", "chargers: [{serial: S4-0009, charger_profile: series4-ultra, out_of_service: true}, "
    )
    assert settings.plan(load(tmp_path, text)).min_limit_w == 4_200


def test_the_mode_after_eebus_lpc_sets_hold_start_and_release(tmp_path: Path) -> None:
    plan = settings.plan(load(tmp_path, CONTRACT.replace("hold_s: 300", "mode: eebus_lpc")))
    assert (plan.hold_ms, plan.start_in_fallback, plan.release_after_ms) == (120_000, True, 7_200_000)
    (problem,) = problems(tmp_path, CONTRACT.replace("hold_s: 300", "hold_s: 300, release_after_s: 7200"))
    assert "is for mode: eebus_lpc alone" in problem


def test_a_lease_is_for_those_that_can_hold_one(tmp_path: Path) -> None:
    plan = settings.plan(
        load(tmp_path, CONTRACT.replace("S4-0001, charger_profile: series4-ultra", "C, charger_profile: native-201"))
    )
    assert plan.chargers[0].lease_ms == 120_000
    assert plan.chargers[0].ladder[0].value == "limit"


def test_a_charger_must_prove_who_it_is_as_far_as_the_configuration_lets_it(tmp_path: Path) -> None:
    text = (
        LEAST
        + """\
ocpp:
  tls: {certificate: bridge.pem, key: bridge.key, client_ca: ca.pem}
  legacy: {port: 9001}
chargers:
- {serial: S4-0001, charger_profile: series4-ultra}
- {serial: CS-0001, charger_profile: native-201}
- {serial: CS-0002, charger_profile: native-201, password_file: /run/secrets/password}
- {serial: CS-0003, charger_profile: native-201, security_profile: 0}
"""
    )
    read = load(tmp_path, text)
    assert [entry.security_profile for entry in read.chargers] == [0, 3, 2, 0]
    assert read.ocpp.tls is not None
    assert read.ocpp.tls.client_ca == tmp_path / "ca.pem"
    assert read.chargers[2].password_file == Path("/run/secrets/password")


def test_a_folder_of_passwords_gives_each_charger_that_can_say_one_its_own(tmp_path: Path) -> None:
    chargers = "[{serial: S4-0001, charger_profile: series4-ultra}, {serial: CS-0001, charger_profile: native-201}]"
    read = load(tmp_path, f"{LEAST}ocpp: {{passwords_dir: passwords}}\nchargers: {chargers}\n")
    assert [(entry.security_profile, entry.password_file) for entry in read.chargers] == [
        (0, None),
        (1, tmp_path / "passwords" / "CS-0001"),
    ]
    assert "chargers: CS-0001 cannot connect" in "\n".join(settings.warnings(read))


@pytest.mark.parametrize(
    ("ocpp", "charger", "says"),
    [
        ("{}", "security_profile: 1", "1 needs a password: set password_file or ocpp.passwords_dir"),
        ("{passwords_dir: p}", "security_profile: 2", "2 needs TLS: set ocpp.tls"),
        ("{tls: {certificate: c, key: k}}", "security_profile: 3", "3 needs somebody who signs certificates"),
        ("{tls: {certificate: c, key: k}}", "index: 0", "2 needs a password"),
        ("{tls: {certificate: c, key: k}}", "security_profile: 0", "0 is spoken without TLS, ocpp.port is for TLS"),
        ("{legacy: {port: 9001}}", "index: 0", "is for chargers without TLS beside those with it"),
        ("{tls: {certificate: c, key: k, revocation_list: r}}", "index: 0", "set client_ca too"),
    ],
)
def test_credentials_that_cannot_be_are_refused(tmp_path: Path, ocpp: str, charger: str, says: str) -> None:
    text = f"{LEAST}ocpp: {ocpp}\nchargers: [{{serial: CS-0001, charger_profile: native-201, {charger}}}]\n"
    assert says in "\n".join(problems(tmp_path, text))


def test_plain_listeners_beyond_this_machine_are_worth_a_warning(tmp_path: Path) -> None:
    unit = "chargers: [{serial: S4-0001, charger_profile: series4-ultra}]\n"
    tls = "tls: {certificate: c, key: k}"
    for ocpp, plain in (("{host: 0.0.0.0}", "ocpp"), (f"{{{tls}, legacy: {{host: 0.0.0.0}}}}", "ocpp.legacy")):
        found = settings.warnings(load(tmp_path, f"{LEAST}ocpp: {ocpp}\n{unit}"))
        assert any(each.startswith(f"{plain}.host: 0.0.0.0: plain TCP") for each in found)
        assert any("1 without authentication" in each for each in found)
    local = settings.warnings(load(tmp_path, f"{LEAST}ocpp: {{host: 0.0.0.0, {tls}, legacy: {{}}}}\n{unit}"))
    assert not any("plain TCP" in each or "without authentication" in each for each in local)


def test_the_plain_listener_needs_a_port_of_its_own(tmp_path: Path) -> None:
    text = f"{LEAST}ocpp: {{tls: {{certificate: c, key: k}}, legacy: {{port: 9000}}}}\n"
    assert "need ports of their own" in "\n".join(problems(tmp_path, text))
