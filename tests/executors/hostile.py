"""A folder of modules that Python would prefer, and secrets in the environment."""

from __future__ import annotations

from pathlib import Path

SHADOWED = ("numpy", "statistics", "datasets", "torch", "ray", "sitecustomize", "usercustomize", "deepspeed")
ENDPOINT = "http://me:planted-endpoint-password@127.0.0.1:9"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7PLANTED",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+access/key/0123456789abcd",
    "AWS_SESSION_TOKEN": "planted-session-token-0123456789",
    "AWS_SECURITY_TOKEN": "planted-security-token-0123456789",
    "HF_TOKEN": "hf_plantedPlantedPlantedPlanted",
    "WANDB_API_KEY": "planted0123456789planted0123456789",
    "HTTPS_PROXY": "http://me:planted-proxy-password@127.0.0.1:9",
    "AWS_ENDPOINT_URL": ENDPOINT,
}
VALUES = [value.encode() for name, value in SECRETS.items() if "URL" not in name and "PROXY" not in name]
VALUES += [b"planted-proxy-password", b"planted-endpoint-password"]


def hostile_folder(root: Path) -> Path:
    """A folder of modules that say in `root/marker` that they were imported, and raise."""
    hostile = root / "corpus"
    hostile.mkdir()
    for name in SHADOWED:
        (hostile / f"{name}.py").write_text(f"open({str(root / 'marker')!r}, 'a').write({name!r})\nraise SystemError")
    return hostile


def holding_secrets(folder: Path) -> list[str]:
    """Files that contain a planted secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(value in path.read_bytes() for value in VALUES)]
