"""Clusters by name, in a file of the user: where they are, how they are encrypted, where their token is."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from platformdirs import user_config_path

from embedscale.cli import keyring_tokens
from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client.options import ClientOptions

LOCAL = "local"
"""Name of the cluster of this machine, which is in no file."""


@dataclass(frozen=True)
class Context:
    """A cluster; a token is not here, but where it is: a variable, a file, or the keyring."""

    embedding_addresses: list[str] = field(default_factory=list)
    evaluation_address: str = ""
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    token_env: str = ""
    token_file: str = ""
    token_keyring: str = ""

    def client_options(self) -> ClientOptions:
        """How clients reach it. Raises CommandFailed where the token is not to be had, or options contradict."""
        try:
            return ClientOptions(
                tls=self.tls,
                ca_file=self.ca_file or None,
                certificate_file=self.certificate_file or None,
                key_file=self.key_file or None,
                server_name=self.server_name,
                token=self._token(),
            )
        except ValueError as error:
            raise CommandFailed(f"context: {error}", EXIT_USER) from None

    def check(self) -> None:
        """Raise CommandFailed for options that contradict each other, or a token in plain text."""
        try:
            checked = replace(self, token_env="", token_file="", token_keyring="").client_options()
            if self.token_place():
                for address in filter(None, (*self.embedding_addresses, self.evaluation_address)):
                    replace(checked, token=self.token_place()).refuse_to_leak(address)
        except ValueError as error:
            message = str(error).replace("set tls=True or ca_file", "give --tls or --ca-file")
            raise CommandFailed(message, EXIT_USER) from None

    def encryption(self) -> str:
        """Say how it is encrypted."""
        if self.certificate_file:
            return "mutual"
        return "yes" if self.tls or self.ca_file else "no"

    def token_place(self) -> str:
        """Say where the token is; empty where there is none."""
        if self.token_env:
            return f"${self.token_env}"
        return self.token_file or ("keyring" if self.token_keyring else "")

    def _token(self) -> str:
        if self.token_env:
            return _present(os.environ.get(self.token_env, ""), f"variable {self.token_env} is not set")
        if self.token_file:
            return _present(Path(self.token_file).read_text("utf-8").strip(), f"{self.token_file} is empty")
        if self.token_keyring:
            return keyring_tokens.find(self.token_keyring)
        return ""


class Contexts:
    """The file: $EVALCTL_CONFIG, or contexts.json in the user's configuration folder. Only its owner may read it."""

    def __init__(self, path: Path | None = None) -> None:
        chosen = os.environ.get("EVALCTL_CONFIG")
        self.path = path or (Path(chosen) if chosen else user_config_path("embedscale") / "contexts.json")
        self.current, self.contexts = self._read()

    def get(self, name: str) -> Context:
        """Return a context. Raises CommandFailed if there is none of the name."""
        if name not in self.contexts:
            known = ", ".join([LOCAL, *self.contexts])
            raise CommandFailed(f"no context is named {name!r}; there are {known}", EXIT_USER)
        return self.contexts[name]

    def set(self, name: str, context: Context) -> None:
        """Add or replace a context."""
        if name == LOCAL:
            raise CommandFailed(f"{LOCAL} is the cluster of this machine: choose another name", EXIT_USER)
        self._write(self.current, {**self.contexts, name: context})

    def use(self, name: str) -> None:
        """Make a context the current one."""
        if name != LOCAL:
            self.get(name)
        self._write(name, self.contexts)

    def delete(self, name: str) -> None:
        """Forget a context; if it was the current one, that of this machine is."""
        if place := self.get(name).token_keyring:
            keyring_tokens.forget(place)
        left = {one: context for one, context in self.contexts.items() if one != name}
        self._write(LOCAL if self.current == name else self.current, left)

    def _read(self) -> tuple[str, Mapping[str, Context]]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
            contexts = {name: Context(**one) for name, one in content["contexts"].items()}
        except FileNotFoundError:
            return LOCAL, {}
        except (ValueError, TypeError, KeyError, AttributeError):
            known = ", ".join(one.name for one in fields(Context))
            message = f"{self.path} is not a file of contexts, which have {known}; `evalctl context set` writes one"
            raise CommandFailed(message, EXIT_USER) from None
        return content.get("current", LOCAL), contexts

    def _write(self, current: str, contexts: Mapping[str, Context]) -> None:
        """The file appears whole or not at all, and is never readable by others."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        content = {"current": current, "contexts": {name: asdict(one) for name, one in contexts.items()}}
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(content, opened, indent=2)
        draft.replace(self.path)
        self.current, self.contexts = current, contexts


def _present(token: str, otherwise: str) -> str:
    if not token:
        raise CommandFailed(f"no token: {otherwise}", EXIT_USER)
    return token
