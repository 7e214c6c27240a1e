# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kvm_instance says to mistakes, before anything is made."""

from __future__ import annotations

import secrets

import pytest
from provisioning import Fleet

NOTHING = {"servers": 0, "ports": 0, "volumes": 0, "floating": 0}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ours"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS theirs"
HOME = {"regions": ["no-oslo-1"]}

CASES = {
    "image": ({"image": "ubuntu-24-04-ltx"}, "there is no image ubuntu-24-04-ltx"),
    "flavor": ({"flavor": "cv-nvme-16g"}, "there is no flavor cv-nvme-16g. Close ones: cv-nvme-16gb"),
    "size": ({"flavor": "3 vCPU, 3000 MB"}, "no flavor has 3 vCPU, 3000 MB. The nearest: "),
    "network": ({"networks": [{"network": "privat"}]}, "there is no network privat. Close ones: private"),
    "key": ({"key": "mine"}, "there is no key pair mine"),
    "security group": ({"security_groups": ["defalt"]}, "there is no security group defalt. Close ones: default"),
    "zone": ({"zone": "no-oslo-1c"}, "there is no availability zone no-oslo-1c. Close ones: no-oslo-1b, no-oslo-1a"),
    "volume zone": ({"volumes": [{"label": "d", "size": 1, "zone": "moon"}]}, "there is no availability zone for volumes moon"),
    "server group": ({"server_group": "spread"}, "there is no server group spread"),
    "volume type": ({"volumes": [{"label": "d", "size": 1, "type": "nvm"}]}, "there is no volume type nvm. Close ones: nvme"),
    "volume": ({"volumes": [{"volume": "gone"}]}, "there is no volume gone"),
    "port": ({"networks": [{"port": "gone"}]}, "there is no port gone"),
    "subnet": ({"networks": [{"network": "private", "address": "192.0.2.1"}]}, "is in no subnet of the network private. It has: 10.20.0.0/16"),
    "address": ({"networks": [{"network": "private", "address": "10.20"}]}, "10.20 is no IP address"),
    "floating address": ({"floating_address": {"address": "203.0.113.250"}}, "this project has no floating address 203.0.113.250"),
    "no disk": ({"flavor": "cv-nvme-none"}, "the flavor cv-nvme-none has no disk. Give boot_volume"),
    "user data": ({"user_data": "hello"}, "so cloud-init would ignore it"),
    "YAML": ({"user_data": "#cloud-config\na: [\n"}, "is not YAML, line "),
    "metadata": ({"metadata": {"nordic:fleet": "x"}}, "the metadata key nordic:fleet is reserved"),
    "long metadata": ({"metadata": {"a": "x" * 256}}, "has 256 characters, 255 is the limit"),
    "metadata without a value": ({"metadata": {"role": None}}, "the metadata role has no value"),
    "metadata that is not text": ({"metadata": {"role": "\udcff"}}, "the metadata role is not text: character 1 is no Unicode character"),
    "too many names of metadata": ({"metadata": {f"key-{number:03}": "" for number in range(40)}}, "names of its metadata have 319 characters together"),
    "user data that is not text": ({"user_data": "#!/bin/sh\n\udcff"}, "user_data is not text: character 11 is no Unicode character"),
    "prune and one name": ({"instances": None, "name": "a", "prune": True}, "prune needs instances"),
    "name of Ansible's own": ({"instances": [{"name": "localhost"}]}, "localhost is no name for an instance"),
    "name in another script": ({"instances": [{"name": "sørvær-1"}]}, "'sørvær-1' is no name for an instance"),
    "volume without a label": ({"volumes": [{"size": 1}]}, "a volume with a size needs a label"),
    "volume of a negative size": ({"volumes": [{"label": "d", "size": -1}]}, "a volume has the size -1"),
    "port and network": ({"networks": [{"network": "private", "port": "x"}]}, "a network has either port, or network with subnet and address"),
    "nothing to run on": ({"flavor": "0 vCPU, 512 MB"}, "a flavor of 0 vCPU, 512 MB has nothing to run on"),
    "none at once": ({"parallel": 0}, "parallel is 0. It is at least 1."),
    "time": ({"wait_timeout": -1}, "wait_timeout is -1"),
    "time of a request": ({"timeout": -1}, "timeout is -1"),
    "port of ssh": ({"ssh": {"port": 70000}}, "ssh.port is 70000. It is between 1 and 65535."),
    "volume with both": ({"volumes": [{"label": "d", "size": 1, "volume": "x"}]}, "has either size, or volume"),
    "two labels": ({"volumes": [{"label": "d", "size": 1}, {"label": "d", "size": 1}]}, "two volumes have one label"),
    "label": ({"volumes": [{"label": "_disk", "size": 1}]}, "'_disk' is no label for a volume"),
    "label of the boot volume": ({"boot_volume": {"size": 5}, "volumes": [{"label": "root", "size": 1}]}, "two volumes have one label"),
    "two ways of an address": ({"floating_address": {"network": "public", "address": "203.0.113.9"}}, "either network, for a new one, or address"),
    "too many cores": ({"flavor": "cv-too-large"}, "cores: 5000 more are needed"),
    "region": ({"region": "us-east-1", "residency": HOME}, "the region us-east-1 is not allowed. Allowed are: no-oslo-1."),
    "region of clouds.yaml": ({"region": "no-oslo-2"}, "no-oslo-2 is not a valid region name for cloud nordic. Valid choices are no-oslo-1"),
    "zone by law": ({"zone": "no-oslo-1b", "residency": {"zones": ["no-oslo-1a"]}}, "availability zone no-oslo-1b is not allowed"),
    "zone that the cloud chooses": ({"residency": {"zones": ["no-oslo-1a"]}}, "names no availability zone, and the provider may choose no-oslo-1b"),
    "second volume zone": ({"volumes": [{"label": "d", "size": 1, "zone": "no-oslo-1a"}, {"label": "e", "size": 1, "zone": "moon"}]},
                           "there is no availability zone for volumes moon"),
    "endpoint host": ({"residency": {"endpoint_hosts": ["*.example.no"]}}, "the compute endpoint of no-oslo-1 is at 127.0.0.1, which is not an allowed host"),
    "project": ({"project_id": "0123"}, "0123 is expected. Nothing was looked for in it, and nothing was changed."),
    "cloud": ({"cloud": "nordik"}, "there is no cloud nordik"),
    "clouds_file": ({"clouds_file": "/nowhere/clouds.yaml"}, "/nowhere/clouds.yaml: there is no such file"),
    "several clouds": ({"cloud": None}, "no cloud is named, and there are several: admin, "),
    "fleet": ({"fleet": "a/b"}, "'a/b' is no name for a fleet"),
    "limit": ({"prune_limit": "half", "prune": True}, "prune_limit is half"),
    "drift": ({"on_drift": {"flavor": "rebuild"}}, "on_drift"),
    "name": ({"instances": [{"name": "a b"}]}, "'a b' is no name for an instance"),
    "mark": ({"metadata": {"Nordic:fleet": "x"}}, "the metadata key Nordic:fleet is reserved"),
    "twice": ({"instances": [{"name": "a"}, {"name": "a"}]}, "declared twice: a"),
    "neither": ({"instances": None}, "give either name or instances"),
    "one address for two": ({"instances": [{"name": "a"}, {"name": "b"}], "networks": [{"network": "private", "address": "10.20.9.9"}]},
                            "a and b both want the address 10.20.9.9"),
}
GIVEN = ("port", "volume", "floating address")


@pytest.fixture(scope="module")
def mistaken(cloud):
    """A fleet in which nothing may ever be made."""
    fleet = Fleet(cloud)
    yield fleet
    assert fleet.left() == NOTHING
    assert not list(fleet.sdk.network.security_groups(name=f"nordic-gitops-lock-{fleet.name}"))


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_before_anything_is_made(mistaken, case):
    options, words = CASES[case]
    given = {"instances": mistaken.named("a"), **options}
    assert words in str(mistaken.fails(**given))


def test_all_mistakes_of_a_fleet_are_named_at_once(mistaken):
    said = str(mistaken.fails({"name": "a", "image": "x", "flavor": "y"}, {"name": "b", "networks": [{"network": "z"}]}))
    assert "a: there is no flavor y" in said and "b: there is no network z" in said


def test_names_that_several_have_are_refused_with_all_ids(cloud, mistaken):
    sdk = mistaken.sdk
    name = f"{mistaken.name}-twin"
    images = [sdk.create_image(name, data=b"x", disk_format="raw", container_format="bare", wait=True) for _each in "12"]
    try:
        said = str(mistaken.fails(*mistaken.named("a"), image=name))
        assert "2 images have the name" in said and all(image.id in said for image in images)
        assert mistaken.run(*mistaken.named("a"), image=images[0].id, check=True)["counts"] == {"create": 1}
    finally:
        for image in images:
            sdk.image.delete_image(image)


def test_look_ups_stay_in_the_own_project_for_administrators_too(cloud, mistaken):
    name = f"{mistaken.name}-rules"
    theirs = cloud.connect("neighbour").network.create_security_group(name=name)
    try:
        admin = Fleet(cloud, "admin", mistaken.name)
        assert f"there is no security group {name}" in str(admin.fails(*admin.named("a"), security_groups=[name], networks=[]))
    finally:
        cloud.connect("neighbour").network.delete_security_group(theirs)


def test_a_key_pair_with_another_public_key_is_refused_with_both_fingerprints(mistaken):
    mistaken.sdk.compute.create_keypair(name=f"{mistaken.name}-key", public_key=KEY)
    try:
        said = str(mistaken.fails(*mistaken.named("a"), key=f"{mistaken.name}-key", public_key=OTHER_KEY))
        assert said.count("SHA256:") == 2 and "nobody could log in" in said
    finally:
        mistaken.sdk.compute.delete_keypair(f"{mistaken.name}-key")


def test_an_address_that_somebody_has_is_refused(mistaken):
    network = mistaken.sdk.network.find_network("private", project_id=mistaken.sdk.current_project_id)
    port = mistaken.sdk.network.create_port(network_id=network.id, name="somebody", fixed_ips=[{"ip_address": "10.20.200.1"}])
    try:
        assert f"is in use by the port {port.id}" in str(mistaken.fails(*mistaken.named("a"), networks=[{"network": "private", "address": "10.20.200.1"}]))
    finally:
        mistaken.sdk.network.delete_port(port)


@pytest.fixture(scope="module")
def given(mistaken):
    """(how each is declared, its ID, how a stranger takes it) of a port, a volume and a floating address that this project has."""
    sdk = mistaken.sdk
    network = sdk.network.find_network("private", project_id=sdk.current_project_id)
    port, other = (sdk.network.create_port(network_id=network.id, name=f"{mistaken.name}-{name}") for name in ("given", "theirs"))
    volume = sdk.create_volume(1, name=f"{mistaken.name}-given", wait=True)
    address = sdk.network.create_ip(floating_network_id=sdk.network.find_network("public").id)
    yield {
        "port": ({"networks": [{"port": port.id}]}, port.id),
        "volume": ({"volumes": [{"volume": volume.id}]}, volume.id),
        "floating address": ({"floating_address": {"address": address.floating_ip_address}}, address.floating_ip_address),
    }, other, address
    sdk.network.delete_ip(address)
    sdk.delete_volume(volume.id, wait=True)
    for one in (port, other):
        sdk.network.delete_port(one)


@pytest.mark.parametrize("part", GIVEN)
def test_what_was_given_is_not_given_to_two(mistaken, given, part):
    declared, found = given[0][part]
    assert f"a and b both want the {part} {found}" in str(mistaken.fails({"name": "a"}, {"name": "b"}, **declared))


def test_a_floating_address_of_somebody_else_stays_where_it_is(mistaken, given):
    parts, other, address = given
    mistaken.sdk.network.update_ip(address, port_id=other.id)
    try:
        said = str(mistaken.fails({"name": "a"}, **parts["floating address"][0]))
        assert f"the floating address {address.floating_ip_address} is in use by the port {other.id}, not of this fleet" in said
        assert mistaken.sdk.network.get_ip(address).port_id == other.id
    finally:
        mistaken.sdk.network.update_ip(address, port_id=None)


def test_wrong_credentials_say_where_they_were_refused(cloud, mistaken):
    auth = {**cloud.clouds["nordic"]["auth"], "password": secrets.token_hex(8)}
    said = str(mistaken.fails(*mistaken.named("a"), cloud=None, clouds_file=None, auth=auth))
    assert "the cloud refused the credentials" in said and auth["auth_url"] in said and auth["password"] not in said


def test_a_token_that_is_no_longer_valid_says_where_it_was_refused(cloud, mistaken):
    sdk = cloud.connect("nordic")
    given = cloud.clouds["nordic"]["auth"]
    token = sdk.auth_token
    auth = {"auth_url": given["auth_url"], "token": token, "project_name": given["project_name"], "project_domain_name": given["project_domain_name"]}
    sdk.identity.delete("/auth/tokens", headers={"X-Subject-Token": token}).raise_for_status()
    said = str(mistaken.fails(*mistaken.named("a"), cloud=None, clouds_file=None, auth=auth, auth_type="token"))
    assert "the cloud refused the credentials" in said and auth["auth_url"] in said and token not in said


def test_a_region_that_the_catalog_lacks_is_refused_with_those_that_it_has(cloud, mistaken):
    said = str(mistaken.fails(*mistaken.named("a"), cloud=None, clouds_file=None, auth=cloud.clouds["nordic"]["auth"], region="no-oslo-2"))
    assert "the catalog has no compute service in the region no-oslo-2. Its regions are: no-oslo-1, us-east-1." in said
