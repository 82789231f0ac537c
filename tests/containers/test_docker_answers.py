"""What engines answer becomes our values and our errors; secrets stay out of them."""

from __future__ import annotations

import msgspec
import pytest

from trionode.containers.docker import shapes
from trionode.containers.docker.answers import (
    choose_version,
    decode,
    error_of,
    hide,
    refused,
    since_of,
    time_ms,
)
from trionode.containers.docker.bodies import login, split_repotag
from trionode.containers.docker.machine import has_project_quota, limit_open_files, open_files
from trionode.containers.engine import (
    Conflict,
    Credentials,
    EngineError,
    EngineFull,
    EngineUnreachable,
    NotFound,
)
from trionode.plans.createoptions import OPEN_FILES, CreateOptions, docker_body


def said(message: str) -> bytes:
    return msgspec.json.encode({"message": message})


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such container: x", NotFound),
        (404, "network x not found", NotFound),
        (409, "Conflict. The container name is already in use", Conflict),
        (403, "Pool overlaps with other one on this address space", Conflict),
        (403, "invalid pool request: Pool overlaps with other one on this address space", Conflict),
        (403, "networks have overlapping IPv4", Conflict),
        (403, "network x has active endpoints", Conflict),
        (403, "endpoint with name a already exists in network b", Conflict),
        (500, "container a is not connected to network b", Conflict),
        (500, "Container a is not paused", Conflict),
        (500, "driver failed programming external connectivity: port is already allocated", EngineError),
        (403, "Address already in use", EngineError),
        (400, "bad parameter", EngineError),
    ],
)
def test_statuses_and_words_say_what_kind_of_error_it_is(
    status: int, message: str, kind: type[EngineError]
) -> None:
    error = error_of(status, said(message), doing="do it")
    assert type(error) is kind
    assert error.status == status
    assert error.message == f"cannot do it: {message}"


def test_errors_that_are_no_json_are_told_as_they_are() -> None:
    assert error_of(500, b"<html>", doing="do it").message == "cannot do it: <html>"
    assert error_of(500, b"", doing="do it").message == "cannot do it: status 500"
    assert error_of(500, b"[1]", doing="do it").message == "cannot do it: [1]"


def test_errors_in_a_stream_have_no_status() -> None:
    assert type(refused("manifest unknown", None, doing="pull x")) is NotFound
    assert type(refused("no space left on device", None, doing="pull x")) is EngineFull
    assert type(refused("unexpected EOF", None, doing="pull x")) is EngineError


def test_secrets_are_hidden() -> None:
    secrets = ["TOKEN=s3cr3t-word", "=odd entry", "plainword", "A=1", "EMPTY="]
    text = hide("invalid: TOKEN=s3cr3t-word, s3cr3t-word, =odd entry, plainword, A=1; 1 EMPTY=", secrets)
    assert text == "invalid: ***, ***, ***, ***, A=1; 1 ***"


def test_a_secret_that_holds_another_is_hidden_whole() -> None:
    assert hide("wordandmore word", ["A=word", "B=wordandmore"]) == "*** ***"


@pytest.mark.parametrize(
    ("newest", "oldest", "ours"),
    [("1.41", "1.12", "1.41"), ("1.51", "1.24", "1.41"), ("1.52", "1.44", "1.44"), ("1.41", "", "1.41")],
)
def test_the_version_is_ours_while_it_is_spoken(newest: str, oldest: str, ours: str) -> None:
    answer = msgspec.json.encode({"ApiVersion": newest, "MinAPIVersion": oldest})
    assert choose_version(answer) == ours


def test_too_old_an_engine_is_told_so() -> None:
    with pytest.raises(EngineError, match=r"1\.40") as caught:
        choose_version(b'{"ApiVersion":"1.40","MinAPIVersion":"1.12"}')
    assert caught.value.remedy


def test_an_answer_of_another_form_is_an_error_without_its_content() -> None:
    for content in (b'[{"Id": {"secretword": 1}}]', b"secretword", b""):
        with pytest.raises(EngineError) as caught:
            decode(content, list[shapes.ListedContainer])
        assert "secretword" not in caught.value.message
        assert not isinstance(caught.value, EngineUnreachable)


@pytest.mark.parametrize(
    ("text", "ms", "since"),
    [
        ("0001-01-01T00:00:00Z", None, None),
        ("", None, None),
        (None, None, None),
        ("nonsense", None, None),
        ("1970-01-01T00:00:01Z", 1000, "1.000000000"),
        ("1970-01-01T00:00:01.5Z", 1500, "1.500000000"),
        ("1970-01-01T00:00:01.123456789Z", 1123, "1.123456789"),
        ("1970-01-01T01:00:01.12+01:00", 1120, "1.120000000"),
    ],
)
def test_times(text: str | None, ms: int | None, since: str | None) -> None:
    assert time_ms(text) == ms
    assert since_of(text) == since


def test_null_and_missing_members_have_defaults() -> None:
    row = decode(b'[{"Id":"i","Names":null,"Labels":null,"Ports":null}]', list[shapes.ListedContainer])[
        0
    ].row()
    assert (row.name, row.labels, row.ports) == ("i", {}, ())
    looked = decode(
        b'{"Id":"i","Name":"/n","NetworkSettings":{"Networks":{"a":null,"b":{"IPAMConfig":null}}}}',
        shapes.InspectedContainer,
    ).details({})
    assert dict(looked.addresses) == {"a": "", "b": ""}
    assert decode(b'{"Volumes":null}', shapes.ListedVolumes).volumes is None
    network = decode(b'{"Id":"i","Name":"n","IPAM":{"Config":null},"Containers":null}', shapes.ListedNetwork)
    assert network.network().subnet == ""
    image = decode(b'[{"Id":"i","RepoTags":["<none>:<none>"],"RepoDigests":null}]', list[shapes.ListedImage])
    assert image[0].image().tags == ()


def test_a_container_with_links_has_its_own_name() -> None:
    row = decode(b'[{"Id":"i","Names":["/other/alias","/own"]}]', list[shapes.ListedContainer])[0].row()
    assert row.name == "own"


def test_an_ipv6_pool_beside_ours_does_not_hide_it() -> None:
    pools = b'[{"Subnet":"fd00::/64"},{"Subnet":"172.23.1.0/24","Gateway":"172.23.1.1"}]'
    content = b'{"Id":"i","Name":"n","IPAM":{"Config":' + pools + b"}}"
    network = decode(content, shapes.ListedNetwork).network()
    assert (network.subnet, network.gateway) == ("172.23.1.0/24", "172.23.1.1")


def test_events() -> None:
    content = (
        b'{"Type":"container","Action":"health_status: unhealthy","timeNano":1500000000,'
        b'"Actor":{"ID":"i","Attributes":{"name":"fluxa","exitCode":"7"}}}'
    )
    event = decode(content, shapes.ToldEvent).event()
    assert (event.action, event.attributes["health"], event.name, event.at_ms, event.exit_code) == (
        "health_status",
        "unhealthy",
        "fluxa",
        1500,
        None,
    )
    assert (
        decode(content.replace(b"health_status: unhealthy", b"die"), shapes.ToldEvent).event().exit_code == 7
    )


@pytest.mark.parametrize(
    ("repotag", "name", "tag"),
    [
        ("shop", "shop", "latest"),
        ("shop:2", "shop", "2"),
        ("a/shop:2", "a/shop", "2"),
        ("127.0.0.1:5000/a/shop", "127.0.0.1:5000/a/shop", "latest"),
        ("127.0.0.1:5000/a/shop:2", "127.0.0.1:5000/a/shop", "2"),
        ("a/shop@sha256:ab", "a/shop", "sha256:ab"),
    ],
)
def test_repotags(repotag: str, name: str, tag: str) -> None:
    assert split_repotag(repotag) == (name, tag)


def test_logins_name_the_registry_of_the_image() -> None:
    import base64

    for name, registry in (
        ("127.0.0.1:5000/a", "127.0.0.1:5000"),
        ("ghcr.io/a/b", "ghcr.io"),
        ("a/b", "https://index.docker.io/v1/"),
    ):
        header = msgspec.json.decode(base64.urlsafe_b64decode(login(name, Credentials("u", "p"))))
        assert header == {"username": "u", "password": "p", "serveraddress": registry}


MOUNTS = """\
/dev/sdb1 /var/lib xfs rw,prjquota 0 0
/dev/sdc1 /var/lib/docker2 xfs rw 0 0
/dev/sda1 / ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "has"),
    [("/var/lib/docker", True), ("/var/lib", True), ("/var/lib/docker2", False), ("/var/library", False)],
)
def test_project_quota_is_that_of_the_innermost_mount(folder: str, has: bool) -> None:
    assert has_project_quota(MOUNTS, folder) is has


def test_open_files_are_those_of_the_specification_where_the_machine_allows() -> None:
    may, may_not = "CapBnd:\t000001ffffffffff\n", "Name:\tx\nCapBnd:\t000001fffeffffff\n"
    assert open_files(may, 1024) == OPEN_FILES
    assert open_files(may_not, 20_000) == 20_000
    assert open_files(may_not, OPEN_FILES + 1) == OPEN_FILES
    assert open_files(may_not, -1) == OPEN_FILES
    assert open_files("", 1024) == OPEN_FILES


def test_a_create_body_is_changed_only_where_it_must_be() -> None:
    options = CreateOptions("n", "a", "i", "img", "h", "net")
    assert limit_open_files(docker_body(options), OPEN_FILES) == docker_body(options)
    limited = limit_open_files(docker_body(options), 20)
    assert limited["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Soft": 20, "Hard": 20}]
    limited["HostConfig"] |= {"Ulimits": docker_body(options)["HostConfig"]["Ulimits"]}
    assert limited == docker_body(options)
