"""Writes the bill of materials of an image: ``python tools/sbom.py IMAGE FILE`` (CycloneDX 1.6, JSON).

What is in the image is asked of the image itself: its own Python lists the packages of every environment in it, and the
package manager's list says what of Debian is there. The document is made and checked with the CycloneDX library,
against the standard's schema. Parts that come inside a package (a library in a wheel, the JavaScript of Dagster's UI)
are not listed by themselves: a scanner of files finds those.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INVENTORY = r"""
import importlib.metadata as m, json, pathlib, platform, re
def name(x): return re.sub(r'[-_.]+', '-', x).lower()
python = {}
for site in sorted(pathlib.Path('/opt').glob('*/lib/python3*/site-packages')):
    for d in m.distributions(path=[str(site)]):
        needs = [name(re.match(r'[\w.-]+', r)[0]) for r in d.requires or [] if 'extra ==' not in r]
        meta = d.metadata
        says = meta.get('License-Expression') or ''
        found = python.setdefault((name(meta['Name']), d.version), {'needs': needs, 'license': says, 'where': []})
        found['where'].append(str(site.parents[2]))
debian = []
for text in pathlib.Path('/var/lib/dpkg/status').read_text().split('\n\n'):
    found = dict(re.findall(r'^([\w-]+): (.*)$', text, re.M))
    if 'installed' in found.get('Status', '').split():
        debian.append({k: found.get(k, '') for k in ('Package', 'Version', 'Architecture', 'Source')})
release = dict(re.findall(r'^(\w+)="?([^"\n]*)', pathlib.Path('/etc/os-release').read_text(), re.M))
print(json.dumps({
    'python': [{'name': n, 'version': v, **rest} for (n, v), rest in sorted(python.items())],
    'debian': debian, 'os': release, 'interpreter': platform.python_version()}))
"""
"""Runs in the image, on its Python alone."""


class ImageError(Exception):
    """The image can't be looked at; the message names it and the fix."""


def main(arguments: Sequence[str]) -> int:
    """Write the bill of materials of one image."""
    if len(arguments) != 2:
        print("usage: python tools/sbom.py IMAGE FILE", file=sys.stderr)
        return 2
    image, path = arguments[0], Path(arguments[1])
    try:
        # First, because it never asks a registry.
        identity = docker("image", "inspect", "--format", "{{.Id}}", image)
        found = inventory(image)
    except ImageError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    text = document(image, identity.strip(), found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path}: {len(found['python'])} Python packages and {len(found['debian'])} of Debian, in {image}")
    return 0


def inventory(image: str) -> dict[str, Any]:
    """Ask an image what is in it."""
    words = ("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--entrypoint", "python", image)
    found: dict[str, Any] = json.loads(docker(*words, "-ISc", INVENTORY))
    return found


def docker(*words: str) -> str:
    """Run docker and give what it printed.

    Raises:
        ImageError: It failed.
    """
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=300, check=False)
    except OSError as error:
        raise ImageError(f"docker can't be started ({error}): install its client") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise ImageError(f"docker {words[0]} failed: {said}. Is the image built? `make images` builds it")
    return done.stdout


def document(image: str, identity: str, found: dict[str, Any]) -> str:
    """Give the document, valid by its schema.

    Args:
        image: Name and tag.
        identity: The image's ID, ``sha256:...``.
        found: What ``INVENTORY`` printed.

    Returns:
        JSON.

    Raises:
        ImageError: It isn't valid, so this program is wrong.
    """
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL

    repository, _, tag = image.rpartition(":")
    itself = Component(
        type=ComponentType.CONTAINER,
        name=repository,
        version=tag,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=identity.removeprefix("sha256:"))],
    )
    bom = Bom()
    bom.metadata.component = itself
    system = Component(
        type=ComponentType.OPERATING_SYSTEM, name=found["os"]["ID"], version=found["os"]["VERSION_ID"], bom_ref="os"
    )
    distribution = f"{found['os']['ID']}-{found['os']['VERSION_ID']}"
    top = [system]
    interpreter = PackageURL("generic", name="python", version=found["interpreter"])
    top.append(
        Component(
            type=ComponentType.PLATFORM,
            name="python",
            version=found["interpreter"],
            purl=interpreter,
            bom_ref=str(interpreter),
        )
    )
    for each in found["debian"]:
        purl = PackageURL(
            "deb", "debian", each["Package"], each["Version"], {"arch": each["Architecture"], "distro": distribution}
        )
        source = each["Source"].partition(" ")[0] or each["Package"]
        top.append(
            Component(
                name=each["Package"],
                version=each["Version"],
                purl=purl,
                bom_ref=str(purl),
                properties=[Property(name="bindery:source-package", value=source)],
            )
        )
    python: dict[tuple[str, str], Component] = {}
    for each in found["python"]:
        purl = PackageURL("pypi", name=each["name"], version=each["version"])
        python[each["name"], each["version"]] = Component(
            name=each["name"],
            version=each["version"],
            purl=purl,
            bom_ref=str(purl),
            licenses=[LicenseExpression(each["license"])] if each["license"] else [],
            properties=[Property(name="bindery:environment", value=where) for where in each["where"]],
        )
    for component in (*top, *python.values()):
        bom.components.add(component)
    bom.register_dependency(itself, [*top, *python.values()])
    for each in found["python"]:
        # Of two versions, each in its own environment, the one beside it.
        near = [other for other in found["python"] if set(other["where"]) & set(each["where"])]
        needed = [python[other["name"], other["version"]] for other in near if other["name"] in each["needs"]]
        bom.register_dependency(python[each["name"], each["version"]], needed)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ImageError(f"the document isn't valid CycloneDX: {error}")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
