"""The `encoding` section: which prompt format there is, and that format's settings."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from simtune.config.fields import Flag, Section, Text


class EncodingSettings(Section):
    """What the model reads: a prompt format and that format's own settings beside it.

    Which formats there are, and what each takes, is known to `simtune.prompting.registry`, which checks it.
    """

    model_config = ConfigDict(extra="allow")

    further_keys: ClassVar[str] = "the settings of the format"

    format: Text = "tk-instruct"
    end_of_source: Flag = True
    """Whether sources end in the end-of-sequence token, as Tk-Instruct's do; T0's do not."""

    @property
    def format_settings(self) -> dict[str, Any]:
        """The settings that belong to the format, as they were given."""
        return dict(self.__pydantic_extra__ or {})
