"""The extension's build, which ``scripts/build`` calls: zip, checks, a trial in an empty profile, static repository.

Runs in a Python with the ``bpy`` wheel: Blender's own tool for extensions, ``blender_ext.py``, is part of it. The same
functions serve ``tests/addon/test_extension.py`` on every Blender.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "demo" / "walk_turn_wave.bvh"
TEXTS = ("LICENSE", "NOTICE")
SUFFIXES = (".py", ".safetensors", ".json", ".toml", ".txt", ".md")
"""What an extension of pure Python and weights may hold, beside TEXTS."""
UNWANTED = ("benchmarks/", "build/", "demo/", "dist/", "docs/", "farm/", "output/", "runs/", "scripts/", "tests/")
TIMEOUT = 600.0


class BuildError(Exception):
    """One sentence for the person who builds: what is wrong and what to do."""


def tool(*arguments: str) -> None:
    """Run a command of Blender's own tool for extensions. Raises `BuildError` with what it said where it fails."""
    import bpy

    path = Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    done = subprocess.run([sys.executable, str(path), *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())
        raise BuildError(f"Blender's extension tool refused to {arguments[0]} ({said}); mend what it names.")


def git(*arguments: str) -> str:
    """What git says about the checkout."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"git does not know this checkout ({error}); build from a clone of the repository.") from None


def require_clean() -> None:
    """Raise `BuildError` where the checkout differs from its last commit, new files included."""
    if changed := [line[3:] for line in git("status", "--porcelain").splitlines()]:
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise BuildError(f"{names}: not committed; commit or remove what is changed, then build.")


def build(archive: Path) -> None:
    """Zip the checkout as the manifest says. Raises `BuildError` where the zip is not valid or holds too much."""
    tool("build", "--source-dir", str(ROOT), "--output-filepath", str(archive))
    tool("validate", str(archive))
    names = list(contents(archive))
    known = set(names)
    if (ROOT / ".git").exists() and shutil.which("git"):  # else what was downloaded is all there is to know
        known = set(git("ls-files", "--cached", "--others", "--exclude-standard").splitlines())
    for name in names:
        path = PurePosixPath(name)
        if name not in known or name.startswith(UNWANTED) or (path.suffix not in SUFFIXES and name not in TEXTS):
            raise BuildError(
                f"The zip would hold {name}, which is no part of the extension; exclude it in blender_manifest.toml."
            )


def contents(archive: Path) -> dict[str, int]:
    """The files of a zip and their sizes in bytes, unpacked."""
    with zipfile.ZipFile(archive) as opened:
        return {entry.filename: entry.file_size for entry in opened.infolist() if not entry.is_dir()}


def summary(archive: Path) -> str:
    """Size and contents of the zip, a line for each part."""
    parts: dict[str, list[int]] = {}
    for name, size in contents(archive).items():
        part = "weights" if name.startswith("mmdm_engine/weights/") else name.split("/")[0] if "/" in name else "root"
        parts.setdefault(part, []).append(size)
    lines = [f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB"]
    lines += [f"  {part:<12} {len(sizes):3} files {sum(sizes) / 1e6:6.2f} MB" for part, sizes in sorted(parts.items())]
    return "\n".join(lines)


def try_out(archive: Path, folder: Path, engine_python: str = sys.executable) -> dict:
    """Install and use the zip in a new process with an empty profile in `folder`; the report of ``try_extension.py``.

    Raises `BuildError` where the process fails.
    """
    profile, report = folder / "profile", folder / "report.json"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BLENDER_", "PYTHON"))}
    script = Path(__file__).with_name("try_extension.py")
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(archive), str(CLIP), str(report)],
        cwd=folder,
        env=inherited | {"BLENDER_USER_RESOURCES": str(profile), "MMDM_PYTHON": engine_python},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise BuildError(f"The built extension does not work:\n{done.stdout}{done.stderr}")
    return json.loads(report.read_text(encoding="utf-8"))


def require_working(report: dict) -> None:
    """Raise `BuildError` where the installed copy did not do its work by itself, or left something behind."""
    for button in ("fill", "refine", "complete"):
        if report[button]["outcome"] != ["FINISHED"]:
            raise BuildError(f"In the built extension {button} failed: {report[button]['message']}")
    if report["plain"] or not report["engine"].startswith("bl_ext."):
        raise BuildError("The built extension took its engine from outside; look for absolute imports.")
    if Path(report["hello"]["engine"]).parent != Path(report["home"]):
        raise BuildError("The worker of the built extension ran another engine; look at its module search path.")
    if not report["gone"]:
        raise BuildError("Disabled, the built extension left something registered; look at unregister.")


def publish(archive: Path, folder: Path) -> None:
    """Put the zip into `folder` with index.json and index.html, for static hosting; replaces what was there before."""
    made = folder.with_name(folder.name + ".partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    shutil.copy(archive, made)
    tool("server-generate", "--repo-dir", str(made), "--html")
    if folder.exists():
        shutil.rmtree(folder)
    made.rename(folder)


def main() -> int:
    """Build, check, try and publish; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/build", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the repository (default: dist)")
    parser.add_argument("--allow-dirty", action="store_true", help="build with changes that are not committed")
    options = parser.parse_args()
    out = options.out.resolve()
    try:
        if out.exists() and not (out / "index.json").is_file() and (not out.is_dir() or any(out.iterdir())):
            raise BuildError(f"{out} holds something else than a repository of extensions; name another folder.")
        if not options.allow_dirty:
            require_clean()
        manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as work:
            archive = Path(work) / f"{manifest['id']}-{manifest['version']}.zip"
            build(archive)
            print(summary(archive), flush=True)
            report = try_out(archive, Path(work))
            require_working(report)
            print(f"Blender {report['blender']}, empty profile: installed as {report['package']}.")
            for button in ("fill", "refine", "complete"):
                print(f"  {report[button]['message']}")
            publish(archive, out)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"error: the build could not be finished ({error}); nothing was published.", file=sys.stderr)
        return 1
    print(f"{out}: {archive.name}, index.json, index.html. Put the folder on a web server and drag from index.html.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
