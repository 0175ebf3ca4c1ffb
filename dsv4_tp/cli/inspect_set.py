"""`dsv4-tp inspect` of a prepared set: for which plan it is, and which ranks' files are there."""

import json
from pathlib import Path

from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.pieces import cuts_by_group
from dsv4_tp.prepared import Manifest, rank_folder, read_digests, read_manifest


def inspect_set(path: Path, *, as_json: bool) -> None:
    """Print what the set in `path` holds; raises CheckpointError if its manifest is no good."""
    manifest = read_manifest(path)
    ranks = _ranks(path, manifest, read_spec(path))
    if as_json:
        print(json.dumps(_as_json(manifest, ranks)))
        return
    print(f"layout   {manifest.layout}")
    print(f"drafter  {manifest.drafter}")
    print(f"set      prepared for {manifest.purpose}")
    print()
    rows = [
        [str(r["rank"]), f"{r['files']} of {r['expected']}", gigabytes(r["bytes"])] for r in ranks
    ]
    print(table(["rank", "files", "GB"], rows))
    for line in manifest.notes:
        note(line)


def _ranks(path: Path, manifest: Manifest, spec: ModelSpec) -> list[dict[str, int]]:
    """By rank: the files that are whole, those there should be, and the bytes there are."""
    catalog = manifest.catalog(spec)
    found = [read_digests(rank_folder(path, rank)) for rank in range(len(manifest.parts))]
    return [
        {
            "rank": rank,
            "files": len(whole),
            "expected": len(cuts_by_group(catalog, part, spec)),
            "bytes": sum(file.nbytes for file in whole.values()),
        }
        for rank, (part, whole) in enumerate(zip(manifest.parts, found, strict=True))
    ]


def _as_json(manifest: Manifest, ranks: list[dict[str, int]]) -> dict[str, object]:
    return {
        "layout": manifest.layout,
        "drafter": manifest.drafter.name.lower(),
        "prepared": {
            "weights": list(manifest.weights),
            "experts": manifest.experts.value,
            "attention": manifest.attention.value,
            "fingerprint": manifest.fingerprint,
            "ranks": ranks,
        },
        "notes": list(manifest.notes),
    }
